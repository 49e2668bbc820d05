"""Volumes as they are kept: NIfTI without any text, whatever they came as; gzipped, but for a CT made of DICOM images."""

from pathlib import Path
from typing import Any

import numpy as np

from functions.ingest.faults import UnusableFiles, fault_of
from functions.ingest.made import Job, Notes, Source
from shared.formats.types import Format
from shared.imaging.dicom.choice import Choice
from shared.imaging.dicom.series import Series
from shared.imaging.dicom.volume import build_nifti, build_volume
from shared.imaging.metaimage import read_metaimage, read_metaimage_layout
from shared.imaging.nifti import NiftiInfo, copy_nifti, read_layout, write_nifti
from shared.imaging.nifti_header import AffineSource, Limits, TooManyVoxels
from shared.imaging.nrrd import read_nrrd, read_nrrd_layout
from shared.imaging.volume import Volume

MEDIA_TYPE = "application/gzip"
PLAIN_MEDIA_TYPE = "application/x-nifti"
LABELS = 32
"""Whole numbers of no greater range are labels of a mask: no scanner writes an image of so few greys."""


def limits_of(job: Job) -> Limits:
    """How large a volume may be."""
    return Limits(max_bytes=job.settings.max_volume_bytes)


def check_sizes(job: Job, sources: list[Source]) -> None:
    """By the headers alone. Raises UnusableFiles when the volumes together are over the limit of one."""
    limits, total = limits_of(job), 0
    for source in sources:
        with fault_of(source.label):
            total += _bytes_in_memory(source, limits)
    with fault_of():
        if total > limits.max_bytes:
            raise TooManyVoxels(
                f"the volumes of the study take {total / 2**20:,.0f} MiB when decompressed; "
                f"the limit is {limits.max_bytes / 2**20:,.0f} MiB for all of them together"
            )


def _bytes_in_memory(source: Source, limits: Limits) -> int:
    if source.found.format is Format.NIFTI:
        return read_layout(source.path, limits).bytes_in_memory
    read = read_nrrd_layout if source.found.format is Format.NRRD else read_metaimage_layout
    return read(source.path, limits).nbytes


def stored(job: Job, source: Source, name: str) -> tuple[Path, NiftiInfo]:
    """The volume of a file, checked to its last voxel, as it is kept. Raises UnusableFiles."""
    target = job.folder / name
    limits = limits_of(job)
    with fault_of(source.label):
        if source.found.format is Format.NIFTI:
            return target, copy_nifti(source.path, target, limits)
        nrrd = source.found.format is Format.NRRD
        layout = (read_nrrd_layout if nrrd else read_metaimage_layout)(source.path, limits)
        volume = (read_nrrd if nrrd else read_metaimage)(source.path, limits)
    write_nifti(volume, target)
    return target, info_of(volume, oriented=layout.oriented)


def built(job: Job, series: Series, name: str) -> tuple[Path, NiftiInfo]:
    """The volume of a DICOM series, as it is kept. Raises UnusableFiles."""
    with fault_of():
        volume = build_volume(series, job.folder, limits_of(job))
    job.progress("writing the volume", 8)
    target = job.folder / name
    write_nifti(volume, target)
    return target, info_of(volume, oriented=True)


def built_plain(job: Job, series: Series, name: str) -> tuple[Path, NiftiInfo]:
    """The same, not compressed: of a large series, that would take longer than all else. Raises UnusableFiles."""
    target = job.folder / name
    with fault_of():
        volume = build_nifti(series, target, limits_of(job))
    return target, info_of(volume, oriented=True)


def info_of(volume: Volume, *, oriented: bool) -> NiftiInfo:
    """What `check_nifti` would say of it."""
    low, high = float(volume.data.min()), float(volume.data.max())
    source: AffineSource = "sform" if oriented else "pixdim"
    kept = np.dtype(volume.data.dtype).name
    return NiftiInfo(1, True, volume.shape, volume.spacing, volume.affine, source, kept, low, high)


def is_label_map(info: NiftiInfo) -> bool:
    """Whether a volume is a mask and no image."""
    whole = np.dtype(info.dtype).kind in "iu" and info.minimum.is_integer() and info.maximum.is_integer()
    return whole and info.minimum >= 0 and info.maximum <= LABELS


def check_image(info: NiftiInfo, label: str) -> None:
    """Raises UnusableFiles for a mask."""
    if is_label_map(info):
        raise UnusableFiles(
            f"{label}: its values are whole numbers from {info.minimum:g} to {info.maximum:g}, as in a mask or label map; "
            "send the image that it was made of"
        )


def grid_of(info: NiftiInfo) -> Volume:
    """An empty volume where the image lies; takes no memory."""
    return Volume(np.broadcast_to(np.uint8(0), info.shape), info.affine)


def details_of(info: NiftiInfo) -> dict[str, Any]:
    """Where the image lies, and its values."""
    return {
        "shape": list(info.shape),
        "affine": info.affine.tolist(),
        "affine_source": info.affine_source,
        "spacing_mm": [round(spacing, 4) for spacing in info.spacing],
        "range": [info.minimum, info.maximum],
    }


def series_details(series: Series, reason: str) -> dict[str, Any]:
    """What is said of the series that a volume was made of."""
    return {
        "series_number": series.head.series_number,
        "planes": len(series.slices),
        "choice": reason,
        "issues": [{"code": issue.code, "detail": issue.detail} for issue in series.warnings],
    }


def note_series(choice: Choice, notes: Notes) -> dict[str, tuple[bool, str | None]]:
    """Tell of every series, and give by Series Instance UID whether it was chosen, and why or why not."""
    reasons: dict[str, tuple[bool, str | None]] = {}
    told = [(one.series, True, one.reason) for one in choice.chosen]
    told += [(one.series, False, one.reason) for one in choice.passed_over]
    for series, chosen, reason in told:
        if chosen or series.series_uid not in reasons:
            reasons[series.series_uid] = (chosen, reason)
        notes.series.append(_told(series, chosen, reason))
    for series, _, _ in told[: len(choice.chosen)]:
        notes.warnings += [issue.detail for issue in series.warnings]
    return reasons


def _told(series: Series, chosen: bool, reason: str) -> dict[str, Any]:
    return {
        "number": series.head.series_number,
        "modality": series.head.modality if series.head.modality.isalpha() else None,
        "planes": len(series.slices),
        "chosen": chosen,
        "reason": reason,
    }


def only(found: list[Source], what: str) -> Source:
    """The one file. Raises UnusableFiles for several."""
    if len(found) > 1:
        raise UnusableFiles(f"the study holds {len(found)} {what}; send each as a study of its own")
    return found[0]
