"""The tiling function's SQL."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.db.models import FileRole, Study, StudyFile
from shared.security.policy import Action, Reach
from shared.security.principal import Principal


class SlideRepository:
    """Slides, as one principal may see them."""

    def __init__(self, session: Session, viewer: Principal) -> None:
        self._session = session
        self._viewer = viewer

    def get(self, id: UUID) -> Study | None:
        """The study of a slide, if the viewer may see it."""
        query = select(Study).where(Study.id == id, Study.kind == "slide")
        if self._viewer.reach(Action.STUDIES_READ) is not Reach.TENANT:
            query = query.where(Study.owner_id == self._viewer.user_id)
        return self._session.scalar(query)

    def image(self, study_id: UUID) -> StudyFile | None:
        """The file of the slide itself, which ingest has freed of its label."""
        query = select(StudyFile).where(StudyFile.study_id == study_id, StudyFile.role == FileRole.SLIDE)
        return self._session.scalar(query.order_by(StudyFile.created_at, StudyFile.id).limit(1))
