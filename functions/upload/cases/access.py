"""Whose cases files may be sent to."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.db.models import Case
from shared.errors import NotFound
from shared.security.policy import Action
from shared.security.principal import Principal


def find_case(session: Session, user: Principal, id: UUID) -> Case:
    """The case, or NotFound also where the caller may not send anything to it; nobody deletes it meanwhile."""
    case = session.scalar(select(Case).where(Case.id == id).with_for_update(read=True, key_share=True))
    if case is None or not user.may(Action.STUDIES_WRITE, case.owner_id):
        raise NotFound(f"no case {id}")
    return case
