"""A peer with an association: in whose name it sends and asks."""

from dataclasses import dataclass

from functions.dicom.receiving import Delivery, Sender
from functions.dicom.repository import tenant_called
from shared.db.models import Role
from shared.errors import NotFound
from shared.intake import owner_of_incoming
from shared.peers import Peer
from shared.runtime import Services
from shared.security.audit import Actor
from shared.security.principal import Principal

DEFAULT_TENANT = "default"


@dataclass
class Visitor:
    """An association that was let in. owner: whose studies it makes, and whose it may ask for."""

    peer: Peer
    owner: Principal
    delivery: Delivery
    refused: int = 0


def find_visitor(services: Services, peer: Peer, address: str) -> Visitor:
    """Who sends when this peer does. Raises NotFound where its tenant has nobody for it."""
    slug = peer.tenant or DEFAULT_TENANT
    with services.database.system() as session:
        tenant_id = tenant_called(session, slug)
    if tenant_id is None:
        raise NotFound(
            f"no tenant {slug}: register an account in it, or name another in HOUNSFIELD_DICOM_PEERS"
        )
    with services.database.tenant(tenant_id) as session:
        owner = owner_of_incoming(session, services.settings)
    actor = Actor(owner.id, f"dicom:{peer.title}", address)
    sender = Sender(tenant_id, owner.id, f"dicom:{peer.title}", actor)
    return Visitor(peer, Principal(owner.id, tenant_id, Role(owner.role)), Delivery(sender))
