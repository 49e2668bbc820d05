"""SQL of cases."""

from typing import Any
from uuid import UUID

from sqlalchemy import Select, delete, select
from sqlalchemy.orm import Session, contains_eager

from functions.studies.repository import StudyRepository
from shared.db.models import Case, IdempotencyKey, Study, StudyFile
from shared.security.policy import Action, Reach
from shared.security.principal import Principal

ORDERS: dict[str, Any] = {
    "created_at": Case.id,  # UUIDv7: made in this order
    "updated_at": Case.updated_at,
    "patient_id": Case.patient_id,
}
"""What `?sort=` may name."""


class CaseRepository:
    """Cases, as one principal may see them, or may do something else to them."""

    def __init__(self, session: Session, viewer: Principal, action: Action = Action.STUDIES_READ) -> None:
        self._session = session
        self._viewer = viewer
        self._action = action

    def listed(self, status: str | None = None, patient_id: str | None = None) -> Select[Case]:
        """Query of the cases that the viewer may see; of this status and this patient."""
        query = select(Case)
        if self._viewer.reach(self._action) is not Reach.TENANT:
            query = query.where(Case.owner_id == self._viewer.user_id)
        if status is not None:
            query = query.where(Case.status == status)
        return query if patient_id is None else query.where(Case.patient_id == patient_id)

    def get(self, id: UUID) -> Case | None:
        """One case, if the viewer may see it."""
        return self._session.scalar(self.listed().where(Case.id == id))

    def lock(self, id: UUID) -> Case | None:
        """The same; nobody else changes it, or puts a study into it, until the transaction ends."""
        locked = self.listed().where(Case.id == id).with_for_update()
        return self._session.scalar(locked, execution_options={"populate_existing": True})

    def studies(self, id: UUID) -> Select[Study]:
        """Query of the case's studies, of those that the viewer may see."""
        return StudyRepository(self._session, self._viewer, self._action).visible().where(Study.case_id == id)

    def files(self, id: UUID) -> Select[StudyFile]:
        """Query of the files of these studies."""
        of_case = self.studies(id).with_only_columns(Study.id)
        query = select(StudyFile).join(StudyFile.study).options(contains_eager(StudyFile.study))
        return query.where(StudyFile.study_id.in_(of_case))

    def has_studies(self, id: UUID) -> bool:
        """Whether anybody's study belongs to the case."""
        return self._session.scalar(select(Study.id).where(Study.case_id == id).limit(1)) is not None

    def delete(self, case: Case) -> None:
        """Delete a case, and what a repeated request for it would be answered; its studies belong to none then."""
        self._session.execute(delete(IdempotencyKey).where(IdempotencyKey.location == location_of(case.id)))
        self._session.execute(delete(Case).where(Case.id == case.id))


def location_of(id: UUID) -> str:
    """Where a case is found."""
    return f"/api/cases/{id}"
