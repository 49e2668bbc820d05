"""NIfTI files in and out: a bounded, streaming reader for files from strangers, and a deterministic writer.

The stream is never longer than its header says (plus a little), so a bomb costs neither time nor memory, and
`check_nifti` needs one block of memory however large the image is.
"""

import gzip
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
from isal import igzip, igzip_threaded
from numpy.typing import NDArray

from shared.imaging.nifti_fields import header_dtype, quaternion_from_rotation
from shared.imaging.nifti_header import (
    AffineSource,
    ImplausibleImage,
    Layout,
    Limits,
    NotNifti,
    TooManyVoxels,
    TruncatedImage,
    UnsupportedNifti,
    header_size,
    parse_header,
)
from shared.imaging.volume import Volume

__all__ = [
    "ImplausibleImage",
    "Limits",
    "NiftiInfo",
    "NotNifti",
    "TooManyVoxels",
    "TruncatedImage",
    "UnsupportedNifti",
    "check_nifti",
    "copy_nifti",
    "read_layout",
    "read_nifti",
    "rewrite_header",
    "write_nifti",
]

BLOCK = 4 * 2**20
SURPLUS = 64 * 2**10
"""Bytes allowed after the last voxel: some writers pad."""
DEFLATE_RATIO = 1040
"""Deflate cannot shrink data further than about 1032 : 1."""
THREADS = 2
"""That compress what we write; the bytes are the same for any number."""
_NO_EXTENSION = bytes(4)
LEVEL = 1
"""Of ISA-L: five times as fast as zlib's level 1 and 3 % larger, on a chest CT."""


Sink = Callable[[NDArray[np.generic]], object]
"""Gets each block of stored voxels, in their order."""


@dataclass(frozen=True)
class NiftiInfo:
    """What a checked file holds; nothing of it can identify a patient.

    minimum, maximum: real values, after scaling. affine_source "pixdim" means left and right are a guess.
    """

    version: int
    compressed: bool
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    affine: NDArray[np.float64]
    affine_source: AffineSource
    dtype: str
    minimum: float
    maximum: float


def read_layout(path: Path, limits: Limits) -> Layout:
    """What the header of the file at `path` promises, before one voxel is read. Errors as `check_nifti`."""
    with _opened(path) as (stream, compressed):
        return _layout(stream, limits, path.stat().st_size, compressed)


def check_nifti(path: Path, limits: Limits) -> NiftiInfo:
    """Reads the whole file at `path` (.nii or .nii.gz, whatever its name) block by block and keeps nothing.

    Raises NotNifti, UnsupportedNifti (415), TruncatedImage, ImplausibleImage (422) or TooManyVoxels (413).
    """
    return _checked(path, limits, lambda _layout: None)


def copy_nifti(path: Path, target: Path, limits: Limits) -> NiftiInfo:
    """Checks the file at `path` as `check_nifti` does, and writes it to `target` in the same pass, as .nii.gz.

    Of the header only the fields that place and type voxels are written: texts, extensions and what follows the last
    voxel are not. Voxels stay as they are. Errors as `check_nifti`; `target` is then of no use.
    """
    with target.open("xb") as file, igzip.GzipFile("", "wb", LEVEL, file, mtime=0) as stream:

        def begin(layout: Layout) -> Sink:
            stream.write(_plain_header(layout))
            return lambda block: stream.write(block.view(np.uint8).data)

        return _checked(path, limits, begin)


def _checked(path: Path, limits: Limits, begin: Callable[[Layout], Sink | None]) -> NiftiInfo:
    """Reads the whole file, a block at a time; what `begin` gives for its layout gets every block."""
    with _opened(path) as (stream, compressed):
        layout = _layout(stream, limits, path.stat().st_size, compressed)
        block = np.empty(max(1, min(layout.voxels, BLOCK // layout.dtype.itemsize)), dtype=layout.dtype)
        low, high = _scan(stream, layout, lambda _start, count: block[:count], begin(layout))
        _check_end(stream)
    _check_range(layout, low, high, limits)
    volume = Volume(np.empty((0, 0, 0)), layout.affine)
    native = layout.dtype.newbyteorder("=").name
    ends = sorted((low * layout.slope + layout.intercept, high * layout.slope + layout.intercept))
    return NiftiInfo(
        layout.version,
        compressed,
        layout.shape,
        volume.spacing,
        layout.affine,
        layout.affine_source,
        native,
        ends[0],
        ends[1],
    )


def read_nifti(path: Path, limits: Limits) -> Volume:
    """The volume in the file at `path`, checked as `check_nifti` checks it.

    Voxels keep their stored type unless the header scales them, which gives float32. Errors as `check_nifti`.
    """
    with _opened(path) as (stream, compressed):
        layout = _layout(stream, limits, path.stat().st_size, compressed)
        voxels = np.empty(layout.voxels, dtype=layout.dtype)
        low, high = _scan(stream, layout, lambda start, count: voxels[start : start + count])
        _check_end(stream)
    _check_range(layout, low, high, limits)
    return Volume(_real_values(voxels, layout).reshape(layout.shape, order="F"), layout.affine)


def write_nifti(volume: Volume, path: Path) -> None:
    """Writes NIfTI-1 (uint8, int16 or float32, no free text), plain where the name ends with .nii, else gzipped; equal
    volumes give equal bytes."""
    with path.open("wb") as file:
        if path.suffix == ".nii":
            _write(volume, file)
        else:
            with igzip_threaded.open(file, "wb", LEVEL, threads=THREADS) as stream:
                _write(volume, stream)


def rewrite_header(volume: Volume, path: Path) -> bool:
    """Makes the plain NIfTI-1 file at `path`, which holds the voxels of `volume` already, what `write_nifti` writes.

    False, and nothing is changed, where they do not lie there as they would be written.
    """
    data = _writable(volume.data)
    header = _header_for(volume, data) + _NO_EXTENSION
    if data.dtype != volume.data.dtype or not data.flags.f_contiguous:
        return False
    if path.stat().st_size != len(header) + data.nbytes:
        return False
    with path.open("r+b") as file:
        file.write(header)
    return True


def _write(volume: Volume, stream: IO[bytes]) -> None:
    data = _writable(volume.data)
    stream.write(_header_for(volume, data) + _NO_EXTENSION)
    for k in range(data.shape[2]):
        stream.write(np.ascontiguousarray(data[:, :, k].T).reshape(-1).view(np.uint8).data)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], bool]]:
    """The decompressed stream, and whether it is gzip (its first bytes say so); damage: TruncatedImage."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            yield (cast(IO[bytes], gzip.GzipFile(fileobj=file)) if compressed else file), compressed
        except EOFError as error:
            raise TruncatedImage("The gzip stream ends early; send the whole file again.") from error
        except (zlib.error, gzip.BadGzipFile) as error:
            raise TruncatedImage("The gzip stream is damaged; send the file again.") from error


def _layout(stream: IO[bytes], limits: Limits, file_size: int, compressed: bool) -> Layout:
    """Reads the header and skips to the first voxel."""
    start = stream.read(348)
    if not start:
        raise NotNifti("The file is empty; send a .nii or .nii.gz file.")
    size = header_size(start)
    block = start + stream.read(size - len(start))
    if len(block) < size:
        raise TruncatedImage(f"The file ends inside its header, after {len(block)} of {size} bytes.")
    layout = parse_header(block, limits)
    promised = layout.offset + layout.voxels * layout.dtype.itemsize
    if promised > file_size * (DEFLATE_RATIO if compressed else 1):
        raise TruncatedImage(f"The header promises {promised:,} bytes; the file is too short to hold them.")
    if len(stream.read(layout.offset - size)) < layout.offset - size:
        raise TruncatedImage("The file ends before its first voxel.")
    return layout


def _scan(
    stream: IO[bytes],
    layout: Layout,
    buffer: Callable[[int, int], NDArray[np.generic]],
    sink: Sink | None = None,
) -> tuple[float, float]:
    """Fills the buffers that `buffer(start, count)` gives, hands them to `sink`, and returns the least and greatest
    stored value."""
    step = max(1, BLOCK // layout.dtype.itemsize)
    low, high, bad = math.inf, -math.inf, 0
    for start in range(0, layout.voxels, step):
        block = buffer(start, min(step, layout.voxels - start))
        got = _fill(stream, block)
        if got < block.nbytes:
            read = start + got // layout.dtype.itemsize
            raise TruncatedImage(f"The file ends after {read:,} of {layout.voxels:,} voxels; send it again.")
        if layout.dtype.kind == "f":
            bad += block.size - int(np.count_nonzero(np.isfinite(block)))
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        if sink is not None:
            sink(block)
    if bad:
        raise ImplausibleImage(f"The image contains NaN or infinity at {bad:,} voxels; all must be finite.")
    return low, high


def _fill(stream: IO[bytes], block: NDArray[np.generic]) -> int:
    """Reads until `block` is full or the stream ends; bytes read."""
    view = memoryview(block.view(np.uint8).data)
    got = 0
    while got < len(view):
        piece = stream.read(min(len(view) - got, 2**20))
        if not piece:
            break
        view[got : got + len(piece)] = piece
        got += len(piece)
    return got


def _check_end(stream: IO[bytes]) -> None:
    """Reads the tail, which also makes gzip verify its checksum."""
    surplus = 0
    while piece := stream.read(SURPLUS):
        surplus += len(piece)
        if surplus > SURPLUS:
            raise ImplausibleImage("The file is much longer than its header says; the two must agree.")


def _check_range(layout: Layout, low: float, high: float, limits: Limits) -> None:
    if low == high and not limits.allow_constant:
        raise ImplausibleImage("All voxels have the same value; a scan shows differences.")
    largest = max(abs(low * layout.slope + layout.intercept), abs(high * layout.slope + layout.intercept))
    if layout.scaled and not largest < float(np.finfo(np.float32).max):
        raise ImplausibleImage("Scaled intensities do not fit 32-bit floats; check scl_slope and scl_inter.")


def _real_values(voxels: NDArray[np.generic], layout: Layout) -> NDArray[np.generic]:
    """Native byte order, scaled in place block by block so that memory holds one float32 copy and no more."""
    if not layout.scaled:
        return voxels.astype(layout.dtype.newbyteorder("="), copy=False)
    scaled = np.empty(voxels.shape, dtype=np.float32)
    for start in range(0, voxels.size, BLOCK):
        part = voxels[start : start + BLOCK].astype(np.float64)
        scaled[start : start + BLOCK] = part * layout.slope + layout.intercept
    return scaled


def _writable(data: NDArray[np.generic]) -> NDArray[np.generic]:
    """`data` as the smallest of uint8, int16 and float32 that its type calls for."""
    if data.dtype.kind == "b":
        return data.astype(np.uint8)
    if data.dtype.kind == "f":
        return data.astype("<f4", copy=False)
    if data.dtype == np.uint8:
        return data
    fits = data.size == 0 or (int(data.min()) >= -(2**15) and int(data.max()) < 2**15)
    return data.astype("<i2" if fits else "<f4", copy=False)


def _header_for(volume: Volume, data: NDArray[np.generic]) -> bytes:
    """The 348 bytes that describe `data` on the grid of `volume`."""
    if max(data.shape) > np.iinfo(np.int16).max:
        raise TooManyVoxels(f"NIfTI-1 holds 32,767 voxels along an axis; this image has {max(data.shape):,}.")
    header = np.zeros(1, dtype=header_dtype(348, "<"))
    header["sizeof_hdr"], header["magic"], header["vox_offset"] = 348, b"n+1", 352
    header["dim"] = (3, *data.shape, 1, 1, 1, 1)
    header["datatype"] = {"u1": 2, "i2": 4, "f4": 16}[data.dtype.str[1:]]
    header["bitpix"] = 8 * data.dtype.itemsize
    header["scl_slope"] = 1
    header["xyzt_units"] = 2  # mm
    header["sform_code"], header["srow"] = 1, volume.affine[:3]
    axes = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    handed = -1.0 if np.linalg.det(axes) < 0 else 1.0
    header["pixdim"] = (handed, *volume.spacing, 1, 1, 1, 1)
    if np.allclose(axes.T @ axes, np.eye(3), atol=1e-4):  # shear has no quaternion: the sform stands alone
        header["qform_code"], header["qoffset"] = 1, volume.affine[:3, 3]
        header["quaternion"] = quaternion_from_rotation(axes * (1.0, 1.0, handed))
    return header.tobytes()


def _plain_header(layout: Layout) -> bytes:
    """The header of the same voxels in the same version of NIfTI, of the fields that are known to say nothing else."""
    plain = np.zeros(1, dtype=layout.header.dtype)
    for name in layout.header.dtype.names or ():
        plain[name] = layout.header[name]
    plain["vox_offset"] = plain.dtype.itemsize + 4
    return plain.tobytes() + _NO_EXTENSION
