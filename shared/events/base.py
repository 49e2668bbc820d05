"""What every event is: typed data, and the envelope it travels in."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from shared.ids import uuid7

SOURCE = "/hounsfield"


class Event(BaseModel):
    """Data of one event type. Small: ids and object references; never pixels, never anything that names a patient."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer sender may add fields

    type: ClassVar[str]
    """CloudEvents type, without the leading `hounsfield.`."""
    topics: ClassVar[tuple[str, ...]]
    """Every topic that events of this type may go to."""

    @property
    def key(self) -> str:
        """The ordering subject: events of one key are handled in the order in which they were emitted."""
        raise NotImplementedError

    @property
    def topic(self) -> str:
        """Where this event goes."""
        return self.topics[0]


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Envelope:
    """One event on its way: CloudEvents attributes round the data."""

    data: Event
    tenant_id: UUID
    id: UUID = field(default_factory=uuid7)
    source: str = SOURCE
    time: datetime = field(default_factory=_now)
    traceparent: str | None = None
