"""Audit entries as their readers see them."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from uuid import UUID

from sqlalchemy.orm import Session

from functions.studies.audit.repository import BATCH, older_than, usernames
from functions.studies.audit.schemas import AuditOut, Filters
from shared.db.models import AuditEntry
from shared.runtime import Services

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


def described(session: Session, rows: Sequence[AuditEntry]) -> list[AuditOut]:
    """Entries with what their actors are called now."""
    names = usernames(session, rows)
    return [_described(row, names) for row in rows]


def export(services: Services, tenant_id: UUID, wanted: Filters) -> Iterator[str]:
    """Every entry that fits as CSV, newest first.

    A short transaction for each batch: entries neither change nor go, and a slow reader must not hold one for hours.
    """
    yield _lines([list(AuditOut.model_fields)])
    rows: Sequence[AuditEntry] = ()
    while not rows or len(rows) == BATCH:
        with services.database.tenant(tenant_id) as session:
            rows = older_than(session, wanted, rows[-1].seq if rows else None)
            entries = described(session, rows)
        if not rows:
            return
        yield _lines(map(_cells, entries))


def _described(row: AuditEntry, names: dict[UUID, str]) -> AuditOut:
    fields = {name: getattr(row, name) for name in AuditOut.model_fields if hasattr(row, name)}
    actor = names.get(row.actor_id) if row.actor_id else None
    return AuditOut.model_validate({**fields, "actor": actor, "hash": row.hash.hex()})


def _cells(entry: AuditOut) -> Iterator[str]:
    for value in entry.model_dump(mode="json").values():
        cell = json.dumps(value) if isinstance(value, dict) else "" if value is None else str(value)
        yield f"'{cell}" if cell.startswith(FORMULA) else cell


def _lines(rows: Iterable[Iterable[str]]) -> str:
    text = StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
