"""Wire types of the audit log."""

import re
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator
from pydantic_core import PydanticCustomError

_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})",
    re.IGNORECASE,
)


def _written_out(value: object) -> object:
    """Pydantic also takes a number, as seconds since 1970; nobody means that."""
    if isinstance(value, str) and not _RFC_3339.fullmatch(value):
        raise PydanticCustomError(
            "time_form", "a time is written 2026-01-31T12:00:00Z, or with +01:00 (%2B01:00)"
        )
    return value


def _in_utc(value: datetime) -> datetime:
    """PostgreSQL takes no offset of 16 hours or more."""
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("time_range", "a time lies between the years 1 and 9999 in UTC") from None


Time = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_in_utc)]


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
