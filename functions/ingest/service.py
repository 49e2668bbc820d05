"""What ingest decides: whether the files can be used, and what each of them is."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from functions.ingest.geometry import check_head, check_same_region
from functions.ingest.repository import DescribedFile, IngestRepository
from shared.config import Settings
from shared.db.models import Study, StudyFile
from shared.errors import Invalid, TooLarge, UnsupportedImage
from shared.events import StudyIngested, StudyRejected
from shared.imaging.modality import ModalityGuess, assign_modalities
from shared.imaging.nifti import Limits, NiftiInfo, check_nifti, read_layout, read_nifti
from shared.imaging.volume import Volume
from shared.runtime import Services, UnitOfWork
from shared.security.sealing import name_ring
from shared.storage.temporary import as_file


class UnusableFiles(Invalid):
    """The files themselves are at fault: the study is rejected. No other error says so."""


def volume_limits(settings: Settings) -> Limits:
    """How large a volume may be."""
    return Limits(max_bytes=settings.max_volume_bytes)


def describe(services: Services, study: Study) -> list[DescribedFile]:
    """Check every file to its last voxel. Raises UnusableFiles, which says what is wrong with which file.

    Sizes come first, from the headers alone. Voxels are checked block by block; only an image that neither form nor
    name tells is read whole, one at a time.
    """
    limits = volume_limits(services.settings)
    with ExitStack() as stack:
        paths = [stack.enter_context(as_file(services.storage, f.bucket, f.key)) for f in study.files]
        with _fault_of():
            _check_sizes(paths, limits)
            infos = [_check(path, limits, number) for number, path in enumerate(paths, 1)]
            names = [services.once(name_ring).filename(file) for file in study.files]
            guesses = _told_apart(names, study.files, paths, limits)
            _check_same_region(infos, guesses)
    return [
        DescribedFile(file.id, guess.modality, _details(info, guess))
        for file, info, guess in zip(study.files, infos, guesses, strict=True)
    ]


def accept(unit: UnitOfWork, study: Study, files: list[DescribedFile]) -> None:
    """The study can be analysed. Announced once, also when a second event of the upload is under way."""
    if IngestRepository(unit.session).mark_ingested(study.id, files):
        unit.emit(StudyIngested(study_id=study.id, kind=study.kind))


def reject(unit: UnitOfWork, study: Study, reason: str) -> None:
    """Refuse the study; `forget` follows by its event and leaves nothing of the files."""
    if IngestRepository(unit.session).mark_rejected(study.id, reason):
        unit.emit(StudyRejected(study_id=study.id, kind=study.kind, reason=reason))


def forget(unit: UnitOfWork, study_id: UUID) -> None:
    """Delete every object of a study."""
    unit.storage.delete_prefix("studies", f"{unit.tenant_id}/{study_id}/")


@contextmanager
def _fault_of(number: int | None = None) -> Iterator[None]:
    """Whatever the block finds wrong is the files' fault; said of file `number`, never by its name."""
    try:
        yield
    except UnusableFiles:
        raise
    except (Invalid, TooLarge, UnsupportedImage) as error:
        raise UnusableFiles(f"file {number}: {error.detail}" if number else error.detail) from error


def _check_sizes(paths: Sequence[Path], limits: Limits) -> None:
    """Raises TooLarge when the study's volumes together are over the limit of one."""
    total = 0
    for number, path in enumerate(paths, 1):
        with _fault_of(number):
            total += read_layout(path, limits).bytes_in_memory
    if total > limits.max_bytes:
        raise TooLarge(
            f"the volumes of the study take {total / 2**20:,.0f} MiB when decompressed; "
            f"the limit is {limits.max_bytes / 2**20:,.0f} MiB for all of them together"
        )


def _check(path: Path, limits: Limits, number: int) -> NiftiInfo:
    with _fault_of(number):
        info = check_nifti(path, limits)
    check_head(_grid(info), f"file {number}")
    return info


def _told_apart(
    names: Sequence[str], files: Sequence[StudyFile], paths: Sequence[Path], limits: Limits
) -> list[ModalityGuess]:
    images: list[Callable[[], Volume]] = [partial(read_nifti, path, limits) for path in paths]
    declared = [file.declared_modality for file in files]
    return assign_modalities(list(zip(names, declared, images, strict=True)))


def _check_same_region(infos: Sequence[NiftiInfo], guesses: Sequence[ModalityGuess]) -> None:
    for info, guess in zip(infos[1:], guesses[1:], strict=True):
        labels = (guesses[0].modality.upper(), guess.modality.upper())
        check_same_region(_grid(infos[0]), _grid(info), labels)


def _grid(info: NiftiInfo) -> Volume:
    """An empty volume where the image lies; takes no memory."""
    return Volume(np.broadcast_to(np.uint8(0), info.shape), info.affine)


def _details(info: NiftiInfo, guess: ModalityGuess) -> dict[str, Any]:
    return {
        "modality_source": guess.source,
        "modality_confidence": guess.confidence,
        "shape": list(info.shape),
        "affine": info.affine.tolist(),
        "affine_source": info.affine_source,
        "spacing_mm": [round(spacing, 4) for spacing in info.spacing],
    }
