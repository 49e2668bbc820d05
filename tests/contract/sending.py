"""Callers who send files, and what is there of what they sent."""

import hashlib
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import select

from shared.db.models import Case, OutboxEntry, Tenant, User
from shared.ids import uuid7
from shared.runtime import Services

if TYPE_CHECKING:  # tests/contract/conftest.py imports it first, for a warning that it gives
    from starlette.testclient import TestClient

MIB = 1 << 20
PART = 5 * MIB
NAME = "QUIBBLEWORTH^ZACHARIAS_ct.tar.gz"


def content(size: int, seed: int = 1) -> bytes:
    """Bytes that differ from block to block."""
    block = hashlib.sha256(str(seed).encode()).digest()
    return (block * (size // len(block) + 1))[:size]


class Sender:
    """A caller who sends files in parts."""

    def __init__(self, client: "TestClient", headers: dict[str, str]) -> None:
        self.client = client
        self.headers = headers

    def post(self, path: str, json: Any = None, **headers: str) -> Any:
        return self.client.post(f"/api/{path}", json=json, headers=self.headers | headers)

    def get(self, path: str) -> Any:
        return self.client.get(f"/api/{path}", headers=self.headers)

    def delete(self, path: str) -> Any:
        return self.client.delete(f"/api/{path}", headers=self.headers)

    def start(self, size: int = 2 * PART + 1000, **fields: Any) -> dict[str, Any]:
        asked = {"filename": NAME, "size": size, "part_bytes": PART, **fields}
        answer = self.post("uploads", asked)
        assert answer.status_code == 201, answer.text
        started: dict[str, Any] = answer.json()
        return started

    def send(self, started: dict[str, Any], data: bytes, *numbers: int) -> list[dict[str, Any]]:
        """PUT these parts, or all; what finish wants to know of them."""
        wanted = list(numbers) or list(range(1, started["part_count"] + 1))
        signed = self.post(f"uploads/{started['id']}/parts", {"numbers": wanted})
        assert signed.status_code == 200, signed.text
        sent = []
        for part in signed.json()["parts"]:
            offset = (part["number"] - 1) * started["part_bytes"]
            put = self.put(part["url"], data[offset : offset + part["size"]])
            assert put.status_code == 200, put.text
            sent.append({"number": part["number"], "etag": put.headers["etag"]})
        return sent

    def put(self, url: str, data: bytes) -> Any:
        """Send a part's bytes to where it was signed for."""
        return self.client.put(url, content=data)

    def finish(self, started: dict[str, Any], **fields: Any) -> Any:
        return self.post(f"uploads/{started['id']}/finish", fields or None)

    def whole(self, data: bytes, **fields: Any) -> Any:
        """One file from start to finish."""
        started = self.start(len(data), **fields)
        self.send(started, data)
        return self.finish(started)


def tenant_of(services: Services) -> UUID:
    """The tenant in which everybody is who registers here."""
    with services.database.system() as session:
        return session.scalars(select(Tenant.id).where(Tenant.slug == "default")).one()


def rows(services: Services, kind: type[Any]) -> list[Any]:
    with services.database.tenant(tenant_of(services)) as session:
        return list(session.scalars(select(kind).order_by(kind.id)))


def announced(services: Services) -> list[str]:
    """Studies of which ingest was told, once for each time."""
    with services.database.system() as session:
        query = select(OutboxEntry).where(OutboxEntry.type == "hounsfield.upload.completed")
        return [
            entry.envelope["data"]["study_id"] for entry in session.scalars(query.order_by(OutboxEntry.id))
        ]


def objects_in(services: Services) -> list[str]:
    return [ref.key for ref in services.storage.list_objects("incoming")]


def make_case(services: Services, username: str, patient_id: str = "C-17") -> UUID:
    case_id, tenant_id = uuid7(), tenant_of(services)
    with services.database.tenant(tenant_id) as session:
        owner = session.scalars(select(User.id).where(User.username == username)).one()
        session.add(Case(id=case_id, tenant_id=tenant_id, owner_id=owner, patient_id=patient_id))
    return case_id
