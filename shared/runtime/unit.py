"""A unit of work: one transaction in which rows change and events are emitted, or neither."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy.orm import Session

from shared.events.base import Envelope, Event
from shared.runtime.outbox import append
from shared.runtime.services import Services
from shared.security.audit import Actor, Detail, Outcome, Record, make_record
from shared.security.audit_chain import Keys
from shared.security.audit_chain import append as append_audit
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
    records: list[Record] = field(default_factory=list)
    """What goes into the audit log at the end."""

    @property
    def storage(self) -> Storage:
        """Object storage. Not transactional: write objects before the rows that name them."""
        return self.services.storage

    def emit(self, event: Event) -> UUID:
        """Send an event when, and only when, this transaction commits. Returns its id."""
        envelope = Envelope(data=event, tenant_id=self.tenant_id, traceparent=current_traceparent())
        append(self.session, envelope)
        return envelope.id

    def audit(
        self,
        action: str,
        *,
        subject: tuple[str, UUID] | None = None,
        patient_id: str | None = None,
        details: Mapping[str, Detail] | None = None,
        outcome: Outcome = "success",
    ) -> None:
        """Record an access in this transaction: what cannot be recorded does not happen.

        What is refused is rolled back with its record; record that in a unit of its own. `details` holds ids, counts
        and words of ours; never a name, never free text of a caller.
        """
        self.records.append(make_record(action, subject, patient_id, details, outcome))


@contextmanager
def unit_of_work(services: Services, tenant_id: UUID, actor: Actor | None = None) -> Iterator[UnitOfWork]:
    """A unit for one tenant; commits unless the block raises."""
    with services.database.tenant(tenant_id) as session:
        unit = UnitOfWork(session, tenant_id, services, actor)
        yield unit
        if unit.records:
            session.flush()  # all else first: from here to the commit, the tenant's other accesses wait
            append_audit(session, _audit_keys(services), tenant_id, actor, unit.records)


def _audit_keys(services: Services) -> Keys:
    from shared.security.keys import key_store  # here, because it needs the runtime itself

    return services.once(key_store).audit_ring
