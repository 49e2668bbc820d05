"""People who call the API, and the rows that ingest would have made for them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from httpx import Response
from sqlalchemy import select

from shared.db.models import AuditEntry, Case, FileRole, OutboxEntry, Study, StudyFile
from shared.ids import uuid7
from shared.runtime.services import Services
from shared.security.keys import token_issuer
from shared.security.principal import Principal
from shared.security.sealing import name_ring

if TYPE_CHECKING:  # tests/contract/conftest.py imports it first, for a warning that it gives
    from starlette.testclient import TestClient

PATIENT = "P-0193"
VOXELS = bytes(range(256)) * 40


@dataclass(frozen=True)
class Person:
    """Somebody who is logged in."""

    client: "TestClient"
    services: Services
    principal: Principal

    def ask(self, method: str, path: str, json: Any = None, **headers: str) -> Response:
        token = self.services.once(token_issuer).issue(self.principal)
        sent = {"Authorization": f"Bearer {token}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        answer: Response = self.client.request(
            method, f"/api/{path}", json=json, headers=sent, follow_redirects=False
        )
        return answer

    def get(self, path: str, **headers: str) -> Response:
        return self.ask("GET", path, **headers)

    def listed(self, path: str) -> list[str]:
        """The ids of a list, page by page."""
        ids: list[str] = []
        cursor = ""
        while cursor is not None:
            page = self.get(f"{path}{cursor}")
            assert page.status_code == 200, page.text
            ids += [item["id"] for item in page.json()["items"]]
            following = page.json()["next_cursor"]
            cursor = following and f"{'&' if '?' in path else '?'}cursor={following}"
        return ids

    def add_case(self, **values: Any) -> UUID:
        """A row of `cases` of this person's."""
        case_id = uuid7()
        fields = {"patient_id": PATIENT, **values}
        with self.services.database.tenant(self.principal.tenant_id) as session:
            session.add(Case(id=case_id, **self._owned(), **fields))
        return case_id

    def add_study(self, kind: str | None = "ct", name: str | None = None, **values: Any) -> UUID:
        """A row of `studies` of this person's."""
        study_id = uuid7()
        fields = {"patient_id": PATIENT, "status": "ingested", "digest": study_id.hex, **values}
        if name is not None:
            fields["name_sealed"] = self.services.once(name_ring).seal(name, study_id)
        with self.services.database.tenant(self.principal.tenant_id) as session:
            session.add(Study(id=study_id, kind=kind, **self._owned(), **fields))
        return study_id

    def add_file(
        self,
        study_id: UUID,
        role: FileRole = FileRole.VOLUME,
        filename: str = "DOE_JANE.nii.gz",
        data: bytes = VOXELS,
        bucket: str = "studies",
        **values: Any,
    ) -> UUID:
        """A stored file of a study, and its row."""
        file_id = uuid7()
        ending = filename.partition(".")[2] or "bin"
        key = f"{self.principal.tenant_id}/{study_id}/{role}/{file_id}.{ending}"
        ref = self.services.storage.put(bucket, key, data)
        fields: dict[str, Any] = {**ref.model_dump(include={"bucket", "key", "size", "sha256"}), **values}
        sealed = self.services.once(name_ring).seal(filename, file_id)
        with self.services.database.tenant(self.principal.tenant_id) as session:
            session.add(
                StudyFile(
                    id=file_id,
                    tenant_id=self.principal.tenant_id,
                    study_id=study_id,
                    filename_sealed=sealed,
                    role=role,
                    **fields,
                )
            )
        return file_id

    def row(self, study_id: UUID) -> Study | None:
        with self.services.database.tenant(self.principal.tenant_id) as session:
            return session.get(Study, study_id)

    def events(self) -> list[dict[str, Any]]:
        """Type and data of every event of the tenant."""
        with self.services.database.tenant(self.principal.tenant_id) as session:
            rows = session.scalars(select(OutboxEntry).order_by(OutboxEntry.seq)).all()
            return [{"type": row.type, **row.envelope["data"]} for row in rows]

    def audited(self, action: str) -> list[AuditEntry]:
        """The log's entries of that action."""
        with self.services.database.tenant(self.principal.tenant_id) as session:
            query = select(AuditEntry).where(AuditEntry.action == action).order_by(AuditEntry.seq)
            return list(session.scalars(query))

    def _owned(self) -> dict[str, UUID]:
        return {"tenant_id": self.principal.tenant_id, "owner_id": self.principal.user_id}


MakePerson = Callable[..., Person]
