"""Matches of a query in the DICOM JSON model, for QIDO-RS and C-FIND alike."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from functions.dicom.criteria import Criteria
from functions.dicom.holdings import Holdings
from shared.db.models import DicomInstance, DicomSeries
from shared.imaging.dicom.attributes import PATIENT_AND_STUDY, key_of
from shared.runtime import UnitOfWork

Attributes = dict[str, Any]
_STUDY_KEYS = frozenset(map(key_of, PATIENT_AND_STUDY))
_EMPTY_OF_STUDY = {
    "00080020": "DA",
    "00080030": "TM",
    "00080050": "SH",
    "00080090": "PN",
    "00100010": "PN",
    "00100020": "LO",
    "00100030": "DA",
    "00100040": "CS",
    "00200010": "SH",
}
"""Attributes that an answer has even where they are unknown (PS3.18 table 10.6.3-3)."""


def answers(holdings: Holdings, criteria: Criteria, limit: int, offset: int) -> list[Attributes]:
    """What matches, at the criteria's level; lower levels come with what lies above them."""
    if criteria.level == "study":
        return _studies(holdings, holdings.study_uids(criteria, limit, offset))
    if criteria.level == "series":
        return _series(holdings, holdings.series_uids(criteria, limit, offset))
    return [
        instance_answer(instance, series) for instance, series in holdings.instances(criteria, limit, offset)
    ]


def instance_answer(instance: DicomInstance, series: DicomSeries) -> Attributes:
    """One instance."""
    known: dict[str, tuple[str, object]] = {
        "00080016": ("UI", instance.sop_class),
        "00080018": ("UI", instance.sop_uid),
        "00080056": ("CS", "ONLINE"),
        "00083002": ("UI", instance.transfer_syntax),
        "00200013": ("IS", instance.number),
        "00280008": ("IS", instance.frames),
        "00280010": ("US", instance.rows),
        "00280011": ("US", instance.columns),
        "00280100": ("US", instance.bits_allocated),
    }
    return {**_series_answer([series]), **{key: _one(vr, value) for key, (vr, value) in known.items()}}


def note_search(unit: UnitOfWork, holdings: Holdings, found: Iterable[Attributes]) -> None:
    """Record which studies, of which patients, the caller was shown."""
    uids = sorted({match["0020000D"]["Value"][0] for match in found})
    studies = sorted({series.study_id for series in holdings.series_of(uids)}) if uids else []
    patients = sorted(set(holdings.patients(studies).values()))
    unit.audit("study.list", details={"studies": studies, "patients": patients, "by": "dicom"})


def note_reading(unit: UnitOfWork, holdings: Holdings, counts: Mapping[UUID, int]) -> None:
    """Record of which studies how many images were read."""
    patients = holdings.patients(sorted(counts))
    for study_id, count in counts.items():
        unit.audit(
            "study.read",
            subject=("study", study_id),
            patient_id=patients[study_id],
            details={"images": count, "by": "dicom"},
        )


def _studies(holdings: Holdings, uids: Sequence[str]) -> list[Attributes]:
    rows = holdings.series_of(uids) if uids else []
    counts = holdings.counts(uids) if uids else {}
    found = []
    for uid in uids:
        of_study = [row for row in rows if row.study_uid == uid]
        sizes = [count for (study, _), count in counts.items() if study == uid]
        totals = {"00201206": _one("IS", len(sizes)), "00201208": _one("IS", sum(sizes))}
        found.append({**_study_answer(of_study), **totals})
    return found


def _series(holdings: Holdings, uids: Sequence[tuple[str, str]]) -> list[Attributes]:
    studies = sorted({study for study, _ in uids})
    rows = holdings.series_of(studies, [series for _, series in uids]) if uids else []
    counts = holdings.counts(studies) if uids else {}
    found = []
    for study, series in uids:
        same = [row for row in rows if (row.study_uid, row.series_uid) == (study, series)]
        found.append({**_series_answer(same), "00201209": _one("IS", counts.get((study, series), 0))})
    return found


def _study_answer(rows: Sequence[DicomSeries]) -> Attributes:
    """rows: the study's series, newest first."""
    known = {key: value for key, value in rows[0].attributes.items() if key in _STUDY_KEYS}
    modalities = sorted({row.modality for row in rows})
    return {
        **{key: {"vr": vr} for key, vr in _EMPTY_OF_STUDY.items()},
        **known,
        "00080005": _one("CS", "ISO_IR 192"),
        "00080056": _one("CS", "ONLINE"),
        "00080061": {"vr": "CS", "Value": modalities},
        "0020000D": _one("UI", rows[0].study_uid),
    }


def _series_answer(rows: Sequence[DicomSeries]) -> Attributes:
    """rows: what came of one series, newest first."""
    newest = rows[0]
    known = {key: value for key, value in newest.attributes.items() if key not in _STUDY_KEYS}
    return {
        **_study_answer(rows),
        **known,
        "00080060": _one("CS", newest.modality),
        "0020000E": _one("UI", newest.series_uid),
        "00200011": _one("IS", newest.number),
    }


def _one(vr: str, value: object) -> dict[str, Any]:
    return {"vr": vr} if value is None else {"vr": vr, "Value": [value]}
