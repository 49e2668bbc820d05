"""A volume of a series: stacked by dcm2niix, and believed only as far as the headers and files say the same."""

import math
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.imaging.dicom import convert
from shared.imaging.dicom.agreement import (
    Affine,
    Disagreement,
    as_planes,
    check_affine_agrees,
    check_plane_agrees,
    index_step,
)
from shared.imaging.dicom.errors import DamagedDicom, UnsupportedDicom, UnusableSeries
from shared.imaging.dicom.findings import is_even
from shared.imaging.dicom.headers import read_header
from shared.imaging.dicom.plain import middle_row, stored_planes
from shared.imaging.dicom.planes import aside_mm, header_affine, heights
from shared.imaging.dicom.series import Series, Slice
from shared.imaging.dicom.stacked import Stacked
from shared.imaging.dicom.syntaxes import unreadable
from shared.imaging.nifti import rewrite_header, write_nifti
from shared.imaging.nifti_header import Limits, TooManyVoxels
from shared.imaging.volume import Volume

MOST_COMPRESSED = 2000
"""Pixels that take over 2,000 times the bytes of their files are a bomb; JPEG 2000 of blank planes reaches 1,500."""
SPARE_BYTES = 64 * 2**20
EXACT_MM = 1e-4
ASIDE_MM = 1e-3
DEFAULTS = Limits()


def build_volume(series: Series, work: Path | None = None, limits: Limits = DEFAULTS) -> Volume:
    """The volume of `series`: RAS+ millimetres, rescaled values (HU in CT), int16 where they fit, else float32.

    A tilted gantry becomes a sheared affine and no voxel moves. Where the distance between planes varies, planes are
    interpolated linearly at the least distance. MONOCHROME1 (low is bright) is inverted in MR; in CT it concerns the
    display alone. work: a folder for temporary files.

    Raises UnusableSeries for a refusal among the series' issues and where dcm2niix and the headers disagree,
    UnsupportedDicom for a transfer syntax without decoder, TooManyVoxels before memory is taken, DamagedDicom when
    the pixels cannot be decoded.
    """
    with tempfile.TemporaryDirectory(dir=work, prefix="dicom-") as folder:
        return _made(series, Path(folder), limits)[0]


def build_nifti(series: Series, target: Path, limits: Limits = DEFAULTS) -> Volume:
    """Writes the volume of `series` to `target`, a new file, as plain NIfTI. Otherwise as `build_volume`.

    Where dcm2niix's file already holds the values, it gets a header of ours and becomes that file: it is not written a
    second time, and the voxels given are its own pages, which are not to be changed.
    """
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="dicom-") as folder:
        volume, made = _made(series, Path(folder), limits)
        if np.may_share_memory(volume.data, made.voxels) and rewrite_header(volume, made.path):
            made.path.rename(target)
        else:
            write_nifti(volume, target)
    return volume


def _made(series: Series, work: Path, limits: Limits) -> tuple[Volume, Stacked]:
    """The volume, and what dcm2niix made."""
    _check(series, limits)
    volume, made = _built(series.slices, work)
    return (_inverted(volume, series) if _is_inverted(series) else volume), made


def _check(series: Series, limits: Limits) -> None:
    """All that can be refused before a pixel is read."""
    if not series.slices:
        raise UnsupportedDicom("The series holds no images.")
    if series.refusals:
        issue = series.refusals[0]
        found = [{"code": issue.code, "detail": issue.detail} for issue in series.refusals]
        raise UnusableSeries(issue.detail, issues=found)
    for syntax in sorted({file.transfer_syntax for file in series.instances}):
        reason = unreadable(syntax)
        if reason:
            raise UnsupportedDicom(f"The images are {reason}.")
    shape, size = _shape(series.slices), _bytes_in_memory(series.slices)
    if size > limits.max_bytes:
        raise TooManyVoxels(
            f"The series has {' × '.join(map(str, shape))} voxels, {size / 2**20:,.0f} MiB in memory; "
            f"the limit is {limits.max_bytes / 2**20:,.0f} MiB."
        )
    files = sum(file.size for file in series.instances)
    if size > MOST_COMPRESSED * files + SPARE_BYTES:
        raise TooManyVoxels(f"The headers promise {size:,} bytes of pixels in {files:,} bytes of files.")


def _built(planes: Sequence[Slice], work: Path) -> tuple[Volume, Stacked]:
    """From the files themselves where dcm2niix can be given them, else, or where that disagrees, from plain ones."""
    if all(map(convert.is_plain, planes)):
        (work / "links").mkdir()
        convert.link_planes(planes, work / "links")
        try:
            return _stacked(planes, planes, work, work / "links")
        except (Disagreement, DamagedDicom):
            pass  # a private element misled it, or its own rules divide what belongs together
    (work / "plain").mkdir()
    convert.write_planes(planes, work / "plain")
    rewritten = [
        read_header(work / "plain" / convert.name_of(number)) for number in range(1, len(planes) + 1)
    ]
    copies = [Slice(file, file.frames[0]) for file in rewritten]
    return _stacked(planes, copies, work, work / "plain")


def _stacked(
    planes: Sequence[Slice], readable: Sequence[Slice], work: Path, folder: Path
) -> tuple[Volume, Stacked]:
    """The checked volume of the files in `folder`. readable: the same planes, uncompressed."""
    made = convert.stack(folder, work, _bytes_in_memory(planes))
    frames = [plane.frame for plane in planes]
    expected = header_affine(frames)
    step = index_step(made.affine, made.voxels.shape, expected, _shape(planes))
    distances = np.diff(heights(frames))
    exact = aside_mm(frames) <= ASIDE_MM and float(np.ptp(distances) if len(distances) else 0) <= EXACT_MM
    check_affine_agrees(made.affine, made.voxels.shape, expected @ step, planes_too=exact)
    values = _values(made)
    in_order = as_planes(values, step)
    _check_planes(in_order, readable, few=exact and _stored_alike(planes))
    if len(planes) < 3 or is_even(distances):
        return Volume(values, expected @ step), made
    return _evenly(in_order, expected, heights(frames)), made


def _stored_alike(planes: Sequence[Slice]) -> bool:
    """Whether all planes' values are stored in one way: dcm2niix reads all as it reads the first."""
    pixels = [plane.instance.pixels for plane in planes]
    return len({(p.bits_allocated, p.bits_stored, p.signed, p.photometric) for p in pixels if p}) == 1


def _check_planes(in_order: NDArray[np.generic], readable: Sequence[Slice], *, few: bool) -> None:
    """Every plane; few: of most one row, which costs a tenth and shows planes that are exchanged or misread."""
    whole = sorted({0, len(readable) // 2, len(readable) - 1}) if few else range(len(readable))
    for at in set(range(len(readable))) - set(whole):
        frame, instance = readable[at].frame, readable[at].instance
        made = in_order[:, in_order.shape[1] // 2, at]
        check_plane_agrees(made, middle_row(instance, frame.number), frame.slope, frame.intercept)
    for instance, group in groupby(whole, key=lambda at: readable[at].instance):
        numbers = list(group)
        stored = stored_planes(instance, [readable[at].frame.number for at in numbers])
        for at, plane in zip(numbers, stored, strict=True):
            check_plane_agrees(
                in_order[:, :, at].T, plane, readable[at].frame.slope, readable[at].frame.intercept
            )


def _values(made: Stacked) -> NDArray[np.generic]:
    """Rescaled: in place as int16 where slope and intercept leave whole numbers that fit, else float32."""
    voxels = made.voxels
    if made.slope == 1 and made.intercept.is_integer() and voxels.dtype.kind in "iu" and voxels.itemsize <= 2:
        offset = int(made.intercept)
        low, high = int(voxels.min()) + offset, int(voxels.max()) + offset
        if low >= -(2**15) and high < 2**15:
            whole = voxels.astype(np.int16) if voxels.itemsize == 1 else voxels.view(np.int16)
            whole += np.int16((offset + 2**15) % 2**16 - 2**15)  # wraps, and wraps back where unsigned
            return whole
    values = voxels.astype(np.float32)
    values *= np.float32(made.slope)
    values += np.float32(made.intercept)
    return values


def _evenly(in_order: NDArray[np.generic], affine: Affine, rise: NDArray[np.float64]) -> Volume:
    """Planes at the least distance that `rise`, (N,) mm, has, interpolated linearly between their neighbours."""
    rise = rise - rise[0]
    count = round(float(rise[-1] / np.diff(rise).min())) + 1
    data = np.empty((*in_order.shape[:2], count), dtype=in_order.dtype, order="F")
    for k, at in enumerate(np.linspace(0, rise[-1], count)):
        below = min(int(np.searchsorted(rise, at, side="right")) - 1, len(rise) - 2)
        share = np.float32((at - rise[below]) / (rise[below + 1] - rise[below]))
        lower, upper = (in_order[:, :, n].astype(np.float32) for n in (below, below + 1))
        plane = (1 - share) * lower + share * upper
        data[:, :, k] = np.round(plane) if data.dtype.kind == "i" else plane
    even = affine.copy()
    even[:3, 2] *= (len(rise) - 1) / (count - 1)
    return Volume(data, even)


def _is_inverted(series: Series) -> bool:
    pixels = series.head.pixels
    return series.head.modality == "MR" and pixels is not None and pixels.photometric == "MONOCHROME1"


def _inverted(volume: Volume, series: Series) -> Volume:
    """High is bright again, within the range that the stored type can hold."""
    pixels, frame = series.head.pixels, series.frames[0]
    bits = pixels.bits_stored if pixels else 0
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if pixels and pixels.signed else (0, 2**bits - 1)
    ends = (low + high) * frame.slope + 2 * frame.intercept
    return Volume(
        (np.float32(ends) - volume.data.astype(np.float32)).astype(volume.data.dtype), volume.affine
    )


def _shape(planes: Sequence[Slice]) -> tuple[int, int, int]:
    """Columns, rows, planes."""
    pixels = planes[0].instance.pixels
    return (pixels.columns, pixels.rows, len(planes)) if pixels else (0, 0, 0)


def _bytes_in_memory(planes: Sequence[Slice]) -> int:
    whole = all(plane.frame.slope == 1 and plane.frame.intercept.is_integer() for plane in planes)
    return math.prod(_shape(planes)) * (2 if whole else 4)
