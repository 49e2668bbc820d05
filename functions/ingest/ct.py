"""CT: the right series of a study as one volume in Hounsfield units."""

from pathlib import Path
from typing import Any

from functions.ingest.faults import UnusableFiles, fault_of
from functions.ingest.kinds import VOLUMES
from functions.ingest.made import Job, MadeFile, Notes, Source
from functions.ingest.volumes import (
    MEDIA_TYPE,
    PLAIN_MEDIA_TYPE,
    built_plain,
    check_image,
    check_sizes,
    details_of,
    note_series,
    series_details,
    stored,
)
from shared.db.models import FileRole
from shared.imaging.dicom.choice import choose
from shared.imaging.dicom.instance import Instance
from shared.imaging.dicom.series import group_series
from shared.imaging.nifti import NiftiInfo

NAME, PLAIN_NAME = "ct.nii.gz", "ct.nii"
Reasons = dict[str, tuple[bool, str | None]]
AIR_HU = -200.0
"""A CT holds air or fat, whose values lie below; of MR images, hardly a filtered one does."""


def make_ct(
    job: Job, sources: list[Source], images: list[Instance], notes: Notes
) -> tuple[list[MadeFile], Reasons]:
    """The study's volume, and why each DICOM series was chosen or not. Raises UnusableFiles."""
    volumes = [source for source in sources if source.found.format in VOLUMES]
    if images:
        if volumes:
            notes.passed_over["volume beside DICOM images"] += len(volumes)
        return _of_dicom(job, images, notes)
    return [_of_volume(job, volumes, notes)], {}


def looks_like_ct(info: NiftiInfo) -> bool:
    """Whether the values of a volume are Hounsfield units."""
    return info.minimum <= AIR_HU


def _of_dicom(job: Job, images: list[Instance], notes: Notes) -> tuple[list[MadeFile], Reasons]:
    with fault_of():
        choice = choose(group_series(images), "ct")
    reasons = note_series(choice, notes)
    chosen = choice.chosen[0]
    job.progress("building the volume", 6)
    path, info = built_plain(job, chosen.series, PLAIN_NAME)
    details = details_of(info) | series_details(chosen.series, chosen.reason)
    return [_made(path, info, details, PLAIN_NAME)], reasons


def _of_volume(job: Job, volumes: list[Source], notes: Notes) -> MadeFile:
    """Of several files that one which holds Hounsfield units; label maps that came with it are passed over."""
    check_sizes(job, volumes)
    job.progress("checking the volume", 5)
    found = [(source, *stored(job, source, f"{n}-{NAME}")) for n, source in enumerate(volumes)]
    scans = [one for one in found if looks_like_ct(one[2])] if len(found) > 1 else found
    if len(scans) != 1:
        raise UnusableFiles(
            f"the study holds {len(found)} volumes, of which {len(scans)} have the values of a CT; "
            "send one CT volume"
        )
    source, path, info = scans[0]
    check_image(info, source.label)
    if len(found) > 1:
        notes.passed_over["volume without the values of a CT"] += len(found) - 1
    if not looks_like_ct(info):
        notes.warnings.append(
            f"the least value of the volume is {info.minimum:g}; in Hounsfield units, air has -1000: check the units"
        )
    if info.affine_source == "pixdim":
        notes.warnings.append("the volume does not say how the patient lies: left and right are a guess")
    return _made(path, info, details_of(info), source.name)


def _made(path: Path, info: NiftiInfo, details: dict[str, Any], filename: str) -> MadeFile:
    details["hu_range"] = [info.minimum, info.maximum]
    plain = path.suffix == ".nii"
    key, media_type = f"volume/{PLAIN_NAME if plain else NAME}", PLAIN_MEDIA_TYPE if plain else MEDIA_TYPE
    return MadeFile(FileRole.VOLUME, key, path, media_type, filename, details, "ct")
