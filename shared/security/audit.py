"""The audit log: who read or changed what, from where, with which credential."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True)
class Actor:
    """Who acts, and how that was shown."""

    user_id: UUID | None
    credential: str | None = None
    address: str | None = None
