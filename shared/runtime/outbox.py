"""Writing events: into the outbox, and before each subscriber, in the caller's transaction."""

from sqlalchemy import insert, literal, select, text
from sqlalchemy.orm import Session

from shared.db.models import InboxEntry, OutboxEntry, Subscription
from shared.events.base import Envelope
from shared.events.codec import to_structured
from shared.events.registry import PREFIX

CHANNEL = "hounsfield_bus"
_WAKE = text(f"notify {CHANNEL}")


def append(session: Session, envelope: Envelope) -> None:
    """Add one event. Nobody sees it before the transaction commits; then every subscriber is woken."""
    event = envelope.data
    seq = session.execute(
        insert(OutboxEntry)
        .values(
            id=envelope.id,
            tenant_id=envelope.tenant_id,
            type=PREFIX + event.type,
            topic=event.topic,
            key=event.key,
            envelope=to_structured(envelope),
        )
        .returning(OutboxEntry.seq)
    ).scalar_one()
    deliver = select(
        Subscription.function,
        literal(envelope.id),
        literal(envelope.tenant_id),
        literal(seq),
        literal(event.topic),
        literal(event.key),
    ).where(Subscription.topic == event.topic)
    columns = ["function", "event_id", "tenant_id", "seq", "topic", "key"]
    session.execute(insert(InboxEntry).from_select(columns, deliver))
    session.execute(_WAKE)
