"""Voxels that follow a text header (NRRD, MetaImage): a bounded, streaming reader for files from strangers."""

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from shared.errors import UnsupportedImage
from shared.imaging.geometry import LPS
from shared.imaging.nifti_header import (
    ImplausibleImage,
    Limits,
    TooManyVoxels,
    TruncatedImage,
    check_affine,
)
from shared.imaging.volume import Volume

HEADER_BYTES = 64 * 2**10
PIECE = 2**20
SURPLUS = 64 * 2**10
"""Bytes allowed after the last voxel: some writers pad."""
DEFLATE_RATIO = 1040
"""Deflate cannot shrink data further than about 1032 : 1."""


@dataclass(frozen=True)
class VoxelLayout:
    """What a header promises, checked. dtype: as stored, byte order included. affine: voxel → RAS+ mm.

    oriented: False where the header gives spacing only, so that left and right are a guess.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    affine: NDArray[np.float64]
    offset: int
    encoding: Literal["raw", "deflate"]
    oriented: bool

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels when decompressed."""
        return math.prod(self.shape) * self.dtype.itemsize


def lps_affine(axes: NDArray[np.float64], origin: NDArray[np.float64]) -> NDArray[np.float64]:
    """The RAS+ affine of a grid whose voxel steps (rows of `axes`, mm) and first voxel are given in LPS+."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes.T, origin
    affine = LPS @ affine
    check_affine(affine)
    return affine


def check_layout(layout: VoxelLayout, file_size: int, limits: Limits) -> VoxelLayout:
    """`layout`, or why the file cannot hold it or we will not."""
    said = " × ".join(map(str, layout.shape))
    if layout.nbytes > limits.max_bytes:
        raise TooManyVoxels(
            f"The image has {said} voxels, {layout.nbytes / 2**20:,.0f} MiB when decompressed; "
            f"the limit is {limits.max_bytes / 2**20:,.0f} MiB."
        )
    left = file_size - layout.offset
    if layout.nbytes > left * (DEFLATE_RATIO if layout.encoding == "deflate" else 1):
        raise TruncatedImage(f"The header promises {layout.nbytes:,} bytes of voxels; the file is too short.")
    return layout


def check_shape(sizes: list[int]) -> tuple[int, int, int]:
    """Three plausible sizes; trailing sizes of 1 are dropped."""
    said = " × ".join(f"{n:,}" if abs(n) < 10**12 else "a huge number" for n in sizes[:8])
    if not sizes or min(sizes) < 1:
        raise ImplausibleImage(f"The header says {said or 'no'} voxels; each size must be 1 or more.")
    if max(sizes) > 2**31:
        raise ImplausibleImage(f"The header says {said} voxels; no scanner makes as many along an axis.")
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes = sizes[:-1]
    if len(sizes) > 3:
        raise UnsupportedImage(f"The file ({said}) has {len(sizes)} dimensions; send one 3D volume per file.")
    if len(sizes) < 3 or min(sizes) == 1:
        raise UnsupportedImage(f"The file ({said}) is a 2D image; a 3D volume is needed.")
    return sizes[0], sizes[1], sizes[2]


def read_voxels(path: Path, layout: VoxelLayout, limits: Limits) -> Volume:
    """The volume that `layout` describes. Raises TruncatedImage or ImplausibleImage."""
    voxels = np.empty(math.prod(layout.shape), dtype=layout.dtype)
    view = memoryview(voxels.view(np.uint8).data)
    got = surplus = 0
    with path.open("rb") as file:
        file.seek(layout.offset)
        for piece in _pieces(file, layout.encoding, layout.nbytes + SURPLUS + 1):
            take = min(len(piece), len(view) - got)
            view[got : got + take] = piece[:take]
            got += take
            surplus += len(piece) - take
            if surplus > SURPLUS:
                raise ImplausibleImage("The file is much longer than its header says; the two must agree.")
    if got < len(view):
        raise TruncatedImage(f"The file ends after {got:,} of {len(view):,} bytes of voxels; send it again.")
    _check_values(voxels, limits)
    native = voxels.astype(layout.dtype.newbyteorder("="), copy=False)
    return Volume(native.reshape(layout.shape, order="F"), layout.affine)


def _check_values(voxels: NDArray[np.generic], limits: Limits) -> None:
    low = high = voxels[0]
    bad = 0
    for start in range(0, voxels.size, PIECE):
        block = voxels[start : start + PIECE]
        if block.dtype.kind == "f":
            bad += block.size - int(np.count_nonzero(np.isfinite(block)))
        low, high = min(low, block.min()), max(high, block.max())
    if bad:
        raise ImplausibleImage(f"The image contains NaN or infinity at {bad:,} voxels; all must be finite.")
    if low == high and not limits.allow_constant:
        raise ImplausibleImage("All voxels have the same value; a scan shows differences.")


def _pieces(file: IO[bytes], encoding: str, most: int) -> Iterator[bytes]:
    """The decompressed stream in pieces of at most 1 MiB; ends after `most` bytes."""
    inflater = (
        zlib.decompressobj(wbits=47) if encoding == "deflate" else None
    )  # 47: zlib or gzip, as its head says
    while most > 0 and (piece := file.read(PIECE)):
        if inflater is None:
            most -= len(piece)
            yield piece
            continue
        try:
            while piece and most > 0 and not inflater.eof:
                out = inflater.decompress(piece, PIECE)
                piece = inflater.unconsumed_tail
                most -= len(out)
                yield out
        except zlib.error as error:
            raise TruncatedImage("The compressed voxels are damaged; send the file again.") from error
        if inflater.eof:
            return


def numbers(text: str, count: int, name: str) -> NDArray[np.float64]:
    """`count` finite numbers from a header's field `name`."""
    parts = text.split()
    try:
        values = np.array([float(part) for part in parts])
    except ValueError as error:
        raise ImplausibleImage(f"The header's field {name!r} must be {count} numbers.") from error
    if len(values) != count or not np.isfinite(values).all():
        raise ImplausibleImage(f"The header's field {name!r} must be {count} finite numbers.")
    return values


def integers(text: str, name: str) -> list[int]:
    """The whole numbers of a header's field `name`."""
    parts = text.split()
    if len(parts) > 16 or not all(
        part.lstrip("-").isascii() and part.lstrip("-").isdigit() for part in parts
    ):
        raise ImplausibleImage(f"The header's field {name!r} must be whole numbers.")
    if any(len(part) > 20 for part in parts):
        raise ImplausibleImage(f"The header's field {name!r} holds a number of over 20 digits.")
    return [int(part) for part in parts]
