"""A unit of work: one transaction in which rows change and events are emitted, or neither."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from shared.events.base import Envelope, Event
from shared.runtime.outbox import append
from shared.runtime.services import Services
from shared.security.audit import Actor
from shared.storage.port import Storage
from shared.telemetry.trace import current_traceparent


@dataclass(frozen=True)
class UnitOfWork:
    """The open transaction of one tenant."""

    session: Session
    tenant_id: UUID
    services: Services
    actor: Actor | None = None
    """Whose request this is; None where a function works by itself."""

    @property
    def storage(self) -> Storage:
        """Object storage. Not transactional: write objects before the rows that name them."""
        return self.services.storage

    def emit(self, event: Event) -> UUID:
        """Send an event when, and only when, this transaction commits. Returns its id."""
        envelope = Envelope(data=event, tenant_id=self.tenant_id, traceparent=current_traceparent())
        append(self.session, envelope)
        return envelope.id


@contextmanager
def unit_of_work(services: Services, tenant_id: UUID, actor: Actor | None = None) -> Iterator[UnitOfWork]:
    """A unit for one tenant; commits unless the block raises."""
    with services.database.tenant(tenant_id) as session:
        yield UnitOfWork(session, tenant_id, services, actor)
