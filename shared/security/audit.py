"""What is recorded of an access: who, from where, with which credential, did what to what, about which patient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from uuid import UUID

from shared.security.principal import Principal

Detail: TypeAlias = "str | int | bool | UUID | Sequence[Detail] | Mapping[str, Detail] | None"
Outcome = Literal["success", "failure"]


@dataclass(frozen=True)
class Actor:
    """Who acts, and how that was shown."""

    user_id: UUID | None
    credential: str | None = None
    address: str | None = None

    @classmethod
    def of(cls, caller: Principal, address: str | None) -> "Actor":
        """Who sent a request from `address`."""
        return cls(caller.user_id, str(caller.credential), address)


@dataclass(frozen=True)
class Record:
    """One access, not yet in the log."""

    action: str
    """`<thing>.<what was done to it>`: `study.read`, `auth.login`."""
    subject: tuple[str, UUID] | None
    patient_id: str | None
    details: Mapping[str, Any]
    outcome: Outcome


def make_record(
    action: str,
    subject: tuple[str, UUID] | None,
    patient_id: str | None,
    details: Mapping[str, Detail] | None,
    outcome: Outcome,
) -> Record:
    """A record whose details come back from the database exactly as they went in. Raises TypeError for others."""
    plain = {key: _plain(value) for key, value in (details or {}).items()}
    return Record(action, subject, patient_id, plain, outcome)


def _plain(value: Detail) -> Any:
    """Floats are refused: JSONB may write one in another way, and the row's hash would no longer fit."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [_plain(item) for item in value]
    raise TypeError(
        f"the audit log takes text, whole numbers, ids, lists and objects, not {type(value).__name__}"
    )
