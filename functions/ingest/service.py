"""What ingest decides: whether the files can be used, and what each of them is."""

from typing import Any
from uuid import UUID

from functions.ingest.geometry import check_head, check_same_region
from functions.ingest.repository import DescribedFile, IngestRepository
from shared.config import Settings
from shared.db.models import Study, StudyFile
from shared.errors import HounsfieldError, Invalid
from shared.events import StudyRejected
from shared.imaging.modality import ModalityGuess, assign_modalities
from shared.imaging.nifti import Limits, NiftiInfo, check_nifti, read_nifti
from shared.imaging.volume import Volume
from shared.runtime import Services, UnitOfWork
from shared.storage.temporary import as_file


def volume_limits(settings: Settings) -> Limits:
    """How large a volume may be."""
    return Limits(max_bytes=settings.max_volume_bytes)


def describe(services: Services, study: Study) -> list[DescribedFile]:
    """Read and check every file. Raises a HounsfieldError that says what is wrong with which file."""
    checked = [_read(services, file, number) for number, file in enumerate(study.files, 1)]
    volumes = [volume for volume, _ in checked]
    named = [
        (file.filename, file.declared_modality, volume)
        for file, volume in zip(study.files, volumes, strict=True)
    ]
    guesses = assign_modalities(named)
    for volume, guess in zip(volumes[1:], guesses[1:], strict=True):
        check_same_region(volumes[0], volume, (guesses[0].modality.upper(), guess.modality.upper()))
    return [
        DescribedFile(file.id, guess.modality, _details(volume, info, guess))
        for file, (volume, info), guess in zip(study.files, checked, guesses, strict=True)
    ]


def reject(unit: UnitOfWork, study: Study, reason: str) -> None:
    """Refuse the study; `forget` follows by its event and leaves nothing of the files."""
    IngestRepository(unit.session).mark_rejected(study.id, reason)
    unit.emit(StudyRejected(study_id=study.id, kind=study.kind, reason=reason))


def forget(unit: UnitOfWork, study_id: UUID) -> None:
    """Delete every object of a study."""
    unit.storage.delete_prefix("studies", f"{unit.tenant_id}/{study_id}/")


def _read(services: Services, file: StudyFile, number: int) -> tuple[Volume, NiftiInfo]:
    """One volume and its header's facts; whatever is wrong with it is said of file `number`, never by its name."""
    label = f"file {number}"
    try:
        with as_file(services.storage, file.bucket, file.key) as path:
            limits = volume_limits(services.settings)
            info, volume = check_nifti(path, limits), read_nifti(path, limits)
    except HounsfieldError as error:
        if error.status >= 500:
            raise
        raise Invalid(f"{label}: {error.detail}") from error
    check_head(volume, label)
    return volume, info


def _details(volume: Volume, info: NiftiInfo, guess: ModalityGuess) -> dict[str, Any]:
    return {
        "modality_source": guess.source,
        "modality_confidence": guess.confidence,
        "shape": list(volume.shape),
        "affine": volume.affine.tolist(),
        "affine_source": info.affine_source,
        "spacing_mm": [round(spacing, 4) for spacing in volume.spacing],
    }
