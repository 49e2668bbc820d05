"""The dicom function's SQL over the de-identified images that are held, as one principal may see them.

One study or series may have come in several times, or in parts: what has the same UID is one.
"""

from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, true
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from functions.dicom.criteria import (
    INSTANCE_NUMBER,
    MODALITIES,
    MODALITY,
    SERIES_NUMBER,
    SERIES_UID,
    SOP_CLASS,
    SOP_UID,
    STUDY_DATE,
    STUDY_UID,
    Criteria,
    is_name,
    like,
    span,
)
from shared.db.models import DicomInstance, DicomSeries, Study, StudyStatus
from shared.imaging.dicom.attributes import key_of
from shared.security.policy import Action, Reach
from shared.security.principal import Principal

Condition = ColumnElement[bool]


class Holdings:
    """Series and instances of the studies that the viewer may see, and that nobody has to look at first."""

    def __init__(self, session: Session, viewer: Principal) -> None:
        self._session = session
        self._viewer = viewer

    def study_uids(self, criteria: Criteria, limit: int, offset: int) -> list[str]:
        """Studies that match, newest first."""
        query = self._matching(criteria).with_only_columns(DicomSeries.study_uid)
        query = query.group_by(DicomSeries.study_uid)
        newest = func.max(DicomSeries.study_date).desc().nulls_last()
        query = query.order_by(newest, DicomSeries.study_uid).limit(limit).offset(offset)
        return list(self._session.scalars(query))

    def series_uids(self, criteria: Criteria, limit: int, offset: int) -> list[tuple[str, str]]:
        """Study and series UID of the series that match, by study and number."""
        uids = (DicomSeries.study_uid, DicomSeries.series_uid)
        query = self._matching(criteria).with_only_columns(*uids).group_by(*uids)
        number = func.min(DicomSeries.number).nulls_last()
        query = query.order_by(DicomSeries.study_uid, number, DicomSeries.series_uid)
        return [(study, series) for study, series in self._session.execute(query.limit(limit).offset(offset))]

    def series_of(self, study_uids: Sequence[str], series_uids: Sequence[str] = ()) -> list[DicomSeries]:
        """The series of these studies, or those among them that are named; newest first."""
        query = self._visible().where(DicomSeries.study_uid.in_(study_uids))
        if series_uids:
            query = query.where(DicomSeries.series_uid.in_(series_uids))
        query = query.order_by(DicomSeries.created_at.desc(), DicomSeries.id.desc())
        return list(self._session.scalars(query))

    def counts(self, study_uids: Sequence[str]) -> dict[tuple[str, str], int]:
        """How many instances each series of these studies has."""
        uids = (DicomSeries.study_uid, DicomSeries.series_uid)
        query = self._visible().join(DicomInstance, DicomInstance.series_id == DicomSeries.id)
        query = query.where(DicomSeries.study_uid.in_(study_uids)).group_by(*uids)
        rows = query.with_only_columns(*uids, func.count(DicomInstance.sop_uid.distinct()))
        return {(study, series): count for study, series, count in self._session.execute(rows)}

    def instances(
        self, criteria: Criteria, limit: int | None = None, offset: int = 0
    ) -> list[tuple[DicomInstance, DicomSeries]]:
        """Instances that match, each once, by study, series and number."""
        key = (DicomSeries.study_uid, DicomSeries.series_uid, DicomInstance.number, DicomInstance.sop_uid)
        query = self._matching(criteria).join(DicomInstance, DicomInstance.series_id == DicomSeries.id)
        pairs = query.where(*_of_instance(criteria)).with_only_columns(DicomInstance, DicomSeries)
        pairs = pairs.ext(distinct_on(*key)).order_by(
            *key, DicomSeries.created_at.desc(), DicomInstance.id.desc()
        )
        rows = self._session.execute(pairs.limit(limit).offset(offset)).all()
        return [cast(tuple[DicomInstance, DicomSeries], tuple(row)) for row in rows]

    def patients(self, study_ids: Sequence[UUID]) -> dict[UUID, str]:
        """Pseudonyms of the patients of studies."""
        query = select(Study.id, Study.patient_id).where(Study.id.in_(study_ids))
        return {row.id: row.patient_id for row in self._session.execute(query)}

    def _visible(self) -> Select[Any]:
        looked_at = or_(Study.held.is_(None), Study.released_by.is_not(None))
        query = select(DicomSeries).join(Study, Study.id == DicomSeries.study_id)
        query = query.where(Study.status != StudyStatus.REJECTED, looked_at)
        if self._viewer.reach(Action.STUDIES_READ) is not Reach.TENANT:
            query = query.where(Study.owner_id == self._viewer.user_id)
        return query

    def _matching(self, criteria: Criteria) -> Select[Any]:
        query = self._visible().where(*_of_series(criteria))
        if asked := criteria.values.get(MODALITIES):
            wanted = [_text(DicomSeries.modality, part) for part in asked.replace(",", "\\").split("\\")]
            having = self._visible().where(or_(*wanted)).with_only_columns(DicomSeries.study_uid)
            query = query.where(DicomSeries.study_uid.in_(having))
        if criteria.level != "instance" and (of_instance := _of_instance(criteria)):
            holders = select(DicomInstance.series_id).where(*of_instance)
            query = query.where(DicomSeries.id.in_(holders))
        return query


def _of_series(criteria: Criteria) -> list[Condition]:
    conditions: list[Condition] = []
    for tag, column in ((STUDY_UID, DicomSeries.study_uid), (SERIES_UID, DicomSeries.series_uid)):
        if uids := criteria.uids(tag):
            conditions.append(column.in_(uids))
    if modality := criteria.values.get(MODALITY):
        conditions.append(_text(DicomSeries.modality, modality))
    if (number := criteria.number(SERIES_NUMBER)) is not None:
        conditions.append(DicomSeries.number == number)
    if (dates := criteria.dates(STUDY_DATE)) is not None:
        bounds: list[Condition] = [DicomSeries.study_date.is_not(None)]
        bounds += [DicomSeries.study_date >= dates.first] if dates.first else []
        bounds += [DicomSeries.study_date <= dates.last] if dates.last else []
        conditions.append(and_(*bounds))
    conditions += [_attribute(tag, value) for tag, value in criteria.texts().items()]
    return conditions


def _of_instance(criteria: Criteria) -> list[Condition]:
    conditions: list[Condition] = []
    for tag, column in ((SOP_UID, DicomInstance.sop_uid), (SOP_CLASS, DicomInstance.sop_class)):
        if uids := criteria.uids(tag):
            conditions.append(column.in_(uids))
    if (number := criteria.number(INSTANCE_NUMBER)) is not None:
        conditions.append(DicomInstance.number == number)
    return conditions


def _attribute(tag: int, value: str) -> Condition:
    """One of what is kept in the DICOM JSON model: `{"vr": …, "Value": […]}`."""
    first = DicomSeries.attributes[key_of(tag)]["Value"][0]
    if ends := span(tag, value):
        text = first.astext.collate("C")
        # "12" is the whole of that hour: it comes before ":", the sign after "9".
        return and_(text >= ends[0], text < ends[1] + ":" if ends[1] else true())
    return _text((first["Alphabetic"] if is_name(tag) else first).astext, value, folded=is_name(tag))


def _text(column: Any, value: str, *, folded: bool = False) -> Condition:
    pattern = like(value)
    if folded:
        condition = column.ilike(pattern, escape="\\") if pattern else func.lower(column) == value.lower()
    else:
        condition = column.like(pattern, escape="\\") if pattern else column == value
    return cast(Condition, condition)
