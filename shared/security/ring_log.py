"""Changes of the key rings in the audit log: they concern every tenant, so each tenant's log tells of them."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select

from shared.db.session import Database
from shared.db.tenants import tenant_ids
from shared.errors import Conflict
from shared.security.audit import Actor, make_record
from shared.security.audit_chain import HEADS, append
from shared.security.ring_folder import RingName
from shared.security.rings import Secret, SecretRing


@dataclass(frozen=True)
class _OneKey:
    """The audit ring, using the key that the log uses: of a newer one, the log's other writers may not know yet."""

    ring: SecretRing
    newest: Secret

    def get(self, key_id: str) -> bytes | None:
        return self.ring.get(key_id)


def record(
    database: Database, ring: SecretRing, actor: Actor, action: str, changed: Iterable[tuple[RingName, str]]
) -> None:
    """Add a row for each changed key, its ring and id, to every log that was begun.

    Raises Conflict where `ring` is not that of the log: rows made with it would be taken for damage.
    """
    changes = [{"ring": name, "key": key_id} for name, key_id in changed]
    for tenant_id in tenant_ids(database) if changes else ():
        with database.tenant(tenant_id) as session:
            used = session.scalar(select(HEADS.c.key_id).where(HEADS.c.tenant_id == tenant_id))
            if used is None:
                continue
            if (secret := ring.get(used)) is None:
                raise Conflict(f"the audit log is made with key {used}, which the key folder lacks")
            subject = ("tenant", tenant_id)
            records = [make_record(action, subject, None, change, "success") for change in changes]
            append(session, _OneKey(ring, Secret(used, secret)), tenant_id, actor, records)
