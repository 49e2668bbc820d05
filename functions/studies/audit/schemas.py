"""Wire types of the audit log."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel

from shared.http.times import Time


@dataclass(frozen=True)
class Filters:
    """Which entries are wanted: those that fit all that is given."""

    actor_id: Annotated[UUID | None, Query(description="who acted")] = None
    action: Annotated[
        str | None,
        Query(
            pattern="^[a-z0-9_.-]{1,64}$",
            description="an action, `study.read`, or all that begin so, `study.`",
        ),
    ] = None
    subject_id: Annotated[
        UUID | None, Query(description="what was acted on; finds it also in the lists that showed it")
    ] = None
    patient_id: Annotated[
        str | None,
        Query(
            pattern=r"^[A-Za-z0-9._-]{1,64}$",
            description="pseudonym of the patient concerned; finds it also in the lists that showed it",
        ),
    ] = None
    outcome: Literal["success", "failure"] | None = None
    since: Annotated[Time | None, Query(description="not before this time (RFC 3339)")] = None
    until: Annotated[Time | None, Query(description="before this time (RFC 3339)")] = None
    address: Annotated[
        str | None, Query(pattern="^[0-9A-Za-z.:%_-]{1,64}$", description="where requests came from")
    ] = None

    def given(self) -> dict[str, str]:
        """The filters that were set, as text."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value.isoformat() if isinstance(value, datetime) else str(value)
            for name, value in values.items()
            if value is not None
        }


class AuditOut(BaseModel):
    """One access: who did what to what, about which patient, from where, with which credential."""

    id: UUID
    seq: int
    at: datetime
    actor_id: UUID | None
    actor: str | None
    """Username of today; null for the platform itself and for people who were removed."""
    credential: str | None
    address: str | None
    action: str
    outcome: Literal["success", "failure"]
    subject_type: str | None
    subject_id: UUID | None
    patient_id: str | None
    trace_id: str | None
    details: dict[str, Any]
    key_id: str
    hash: str
