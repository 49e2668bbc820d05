"""Which studies a list shows, and in which order."""

from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Depends, Query

from shared.events.types import Kind
from shared.http.times import Time

PSEUDONYM = r"^[A-Za-z0-9._-]{1,64}$"
"""What a patient id looks like."""
Status = Literal["receiving", "ingested", "processing", "completed", "rejected"]
Sort = Annotated[
    Literal[
        "created_at",
        "-created_at",
        "updated_at",
        "-updated_at",
        "scan_date",
        "-scan_date",
        "patient_id",
        "-patient_id",
    ],
    Query(description="with `-`, the newest or largest first; studies without a scan date count as oldest"),
]
KindFilter = Annotated[Kind | None, Query(description="only studies of this kind")]


@dataclass(frozen=True)
class Filters:
    """Only studies that fit all that is given."""

    status: Annotated[Status | None, Query(description="only studies of this status")] = None
    patient_id: Annotated[
        str | None, Query(pattern=PSEUDONYM, description="only studies of this patient (pseudonym)")
    ] = None
    case_id: Annotated[UUID | None, Query(description="only studies of this case")] = None
    created_after: Annotated[Time | None, Query(description="only studies that were sent later")] = None
    created_before: Annotated[Time | None, Query(description="only studies that were sent earlier")] = None


FiltersDep = Annotated[Filters, Depends(Filters)]
