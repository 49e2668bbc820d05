"""Brain MRI: up to four volumes, one for each of T1, T1CE, T2 and FLAIR, from NIfTI and DICOM alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from functions.ingest.ct import Reasons
from functions.ingest.faults import UnusableFiles, fault_of
from functions.ingest.geometry import check_head, check_same_region
from functions.ingest.kinds import VOLUMES
from functions.ingest.made import Job, MadeFile, Notes, Source
from functions.ingest.volumes import (
    MEDIA_TYPE,
    built,
    check_image,
    check_sizes,
    details_of,
    grid_of,
    limits_of,
    note_series,
    series_details,
    stored,
)
from shared.db.models import FileRole
from shared.imaging.dicom.choice import choose
from shared.imaging.dicom.errors import UnusableSeries
from shared.imaging.dicom.instance import Instance
from shared.imaging.dicom.series import group_series
from shared.imaging.modality import MODALITIES, ModalityGuess, assign_modalities, modality_from_filename
from shared.imaging.nifti import NiftiInfo, read_nifti
from shared.imaging.volume import Volume


@dataclass(frozen=True)
class Candidate:
    """A volume that may become one of the study's four."""

    label: str
    path: Path
    info: NiftiInfo
    modality: str
    confidence: float
    details: dict[str, Any]
    filename: str

    @property
    def rank(self) -> tuple[float, float]:
        """Less is better: the surer sequence, then the smaller voxels."""
        return -self.confidence, float(np.prod(self.info.spacing))


def make_brain_mri(
    job: Job, sources: list[Source], images: list[Instance], notes: Notes
) -> tuple[list[MadeFile], Reasons]:
    """The study's volumes, and why each DICOM series was chosen or not. Raises UnusableFiles."""
    volumes = [source for source in sources if source.found.format in VOLUMES]
    check_sizes(job, volumes)
    found, reasons = _of_dicom(job, images, notes, needed=not volumes)
    found += _of_volumes(job, volumes, notes, several=bool(found) or len(volumes) > len(MODALITIES))
    best = _best(found, notes)
    _check_same_region(best)
    return [_made(one) for one in best], reasons


def _of_dicom(
    job: Job, images: list[Instance], notes: Notes, *, needed: bool
) -> tuple[list[Candidate], Reasons]:
    """A volume of the best series of each sequence."""
    if not images:
        return [], {}
    try:
        choice = choose(group_series(images), "brain-mri")
    except UnusableSeries as error:
        if needed:
            raise UnusableFiles(error.detail) from error
        return [], {}
    reasons, found, refusals = note_series(choice, notes), [], []
    for number, chosen in enumerate(choice.chosen, 1):
        assert chosen.sequence is not None, "a series is chosen for its sequence"
        name = chosen.sequence.modality
        job.progress(f"building the volume of {name.upper()}", 3 + number)
        label = f"series {chosen.series.head.series_number or number} ({name.upper()})"
        try:
            with fault_of(label):
                path, info = built(job, chosen.series, f"dicom-{name}.nii.gz")
                check_head(grid_of(info), label)
        except UnusableFiles as refusal:  # the other sequences may do
            refusals.append(refusal.detail)
            reasons[chosen.series.series_uid] = (False, refusal.detail)
            continue
        told = {"modality_source": chosen.sequence.source, "modality_confidence": chosen.sequence.confidence}
        details = told | details_of(info) | series_details(chosen.series, chosen.reason)
        found.append(
            Candidate(label, path, info, name, chosen.sequence.confidence, details, f"{name}.nii.gz")
        )
    if not found and needed:
        raise UnusableFiles("; ".join(refusals))
    notes.warnings += refusals
    return found, reasons


def _of_volumes(job: Job, volumes: Sequence[Source], notes: Notes, *, several: bool) -> list[Candidate]:
    """several: there is more than one volume for some sequence; those that do not tell theirs are passed over then,
    as masks and maps are."""
    if several:
        untold = [source for source in volumes if _named(source) is None]
        if untold:
            notes.passed_over["volume that does not tell its sequence"] += len(untold)
        volumes = [source for source in volumes if _named(source) is not None]
    checked = []
    for number, source in enumerate(volumes, 1):
        job.progress(f"checking volume {number} of {len(volumes)}", 3 + number)
        path, info = stored(job, source, f"volume-{number}.nii.gz")
        check_image(info, source.label)
        with fault_of():
            check_head(grid_of(info), source.label)
        checked.append((source, path, info))
    guesses = _guesses(job, checked, several)
    return [
        Candidate(source.label, path, info, guess.modality, guess.confidence, _told(guess, info), source.name)
        for (source, path, info), guess in zip(checked, guesses, strict=True)
    ]


def _guesses(
    job: Job, checked: Sequence[tuple[Source, Path, NiftiInfo]], several: bool
) -> list[ModalityGuess]:
    images: list[Callable[[], Volume]] = [partial(read_nifti, path, limits_of(job)) for _, path, _ in checked]
    named = [
        (source.name, source.file.declared_modality, image)
        for (source, _, _), image in zip(checked, images, strict=True)
    ]
    with fault_of():
        if several:
            return [guess for one in named for guess in assign_modalities([one])]
        return assign_modalities(named) if named else []


def _named(source: Source) -> str | None:
    return source.file.declared_modality or modality_from_filename(source.name)


def _told(guess: ModalityGuess, info: NiftiInfo) -> dict[str, Any]:
    told = {"modality_source": guess.source, "modality_confidence": guess.confidence}
    return told | details_of(info)


def _best(found: Sequence[Candidate], notes: Notes) -> list[Candidate]:
    """One volume for each sequence, in the order in which they came."""
    if not found:
        raise UnusableFiles("none of the volumes tells which sequence it is: T1, T1CE, T2 or FLAIR")
    best = {one.modality: one for one in sorted(found, key=lambda one: one.rank, reverse=True)}
    for one in found:
        if best[one.modality] is not one:
            notes.warnings.append(
                f"{one.label} is another {one.modality.upper()} and was passed over; "
                f"{best[one.modality].label} is used"
            )
    return [one for one in found if best[one.modality] is one]


def _check_same_region(best: Sequence[Candidate]) -> None:
    first, *others = best
    with fault_of():
        for one in others:
            labels = (first.modality.upper(), one.modality.upper())
            check_same_region(grid_of(first.info), grid_of(one.info), labels)


def _made(one: Candidate) -> MadeFile:
    key = f"volume/{one.modality}.nii.gz"
    return MadeFile(FileRole.VOLUME, key, one.path, MEDIA_TYPE, one.filename, one.details, one.modality)
