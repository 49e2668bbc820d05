"""SQL of a study's DICOM series."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.db.models import DicomInstance, DicomSeries


def series_of(session: Session, study_id: UUID) -> Sequence[tuple[DicomSeries, int]]:
    """The series that we hold of a study, by number, and how many images each has."""
    images = (
        select(func.count()).where(DicomInstance.series_id == DicomSeries.id).correlate(DicomSeries)
    ).scalar_subquery()
    query = select(DicomSeries, images).where(DicomSeries.study_id == study_id)
    rows = session.execute(query.order_by(DicomSeries.number, DicomSeries.series_uid))
    return [(series, count) for series, count in rows]
