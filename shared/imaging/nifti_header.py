"""What a NIfTI header may say, checked before one voxel is read.

Nothing here repeats the header's free text (`descrip`, `aux_file`, `intent_name`, `db_name`) nor a path:
both may hold a patient's name.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.errors import Invalid, TooLarge, UnsupportedImage
from shared.imaging.nifti_fields import HEADER_SIZES, ByteOrder, header_dtype, rotation_from_quaternion

SPACING_MM = (0.05, 20.0)
"""Smallest and largest voxel edge that a clinical scanner writes."""
FURTHEST_ORIGIN_MM = 10_000.0
LEAST_VOLUME_RATIO = 0.1
"""Least |determinant| of the unit axes: 1 at right angles, 0.87 with a gantry tilt of 30°, 0 when flat."""
LONGEST_EXTENSION = 16 * 2**20

# NIfTI datatype code → numpy type. Complex, RGB(A), 1-bit and 128-bit types are no intensity images.
_DTYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_REFUSED_DTYPES = {
    1: "1-bit",
    32: "complex",
    1792: "complex",
    2048: "complex",
    128: "RGB colour",
    2304: "RGBA colour",
    1536: "128-bit float",
}

AffineSource = Literal["sform", "qform", "pixdim"]


class NotNifti(UnsupportedImage):
    """The bytes are no NIfTI file."""

    slug, title = "not-nifti", "Not a NIfTI file"


class UnsupportedNifti(UnsupportedImage):
    """It is NIfTI, of a kind that this platform does not read."""

    slug, title = "unsupported-nifti", "Unsupported NIfTI file"


class TruncatedImage(Invalid):
    """The file ends early, or its compressed stream is damaged."""

    slug, title = "truncated-image", "Truncated or damaged image"


class ImplausibleImage(Invalid):
    """The file can be read, but what it says cannot be a scan of a patient."""

    slug, title = "implausible-image", "Implausible image"


class TooManyVoxels(TooLarge):
    """The decompressed image is over the limit."""

    slug, title = "too-many-voxels", "Image too large"


@dataclass(frozen=True)
class Limits:
    """What a reader accepts.

    max_bytes: decompressed header and voxels. allow_constant: for label maps, which may be empty. allow_plane: for
    what we stored of a series of one plane; as a file from somebody it is a picture.
    """

    max_bytes: int = 2 * 2**30
    allow_constant: bool = False
    allow_plane: bool = False


@dataclass(frozen=True)
class Layout:
    """Where the voxels lie in the decompressed stream and what they mean.

    dtype: as stored, byte order included. affine: voxel → RAS+ mm.
    slope, intercept: value = stored × slope + intercept. header: the fields that place and type voxels.
    """

    version: int
    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    offset: int
    affine: NDArray[np.float64]
    affine_source: AffineSource
    slope: float
    intercept: float
    header: np.void

    @property
    def voxels(self) -> int:
        """How many voxels there are."""
        return math.prod(self.shape)

    @property
    def bytes_in_memory(self) -> int:
        """How much memory the voxels take once read; scaled ones become float32."""
        return self.voxels * (max(4, self.dtype.itemsize) if self.scaled else self.dtype.itemsize)

    @property
    def scaled(self) -> bool:
        """Whether stored values differ from the real ones."""
        return (self.slope, self.intercept) != (1.0, 0.0)


def header_size(start: bytes) -> int:
    """Length in bytes of the header that begins with `start` (4 bytes or more): 348 or 540."""
    sizes = {int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")}
    for size in HEADER_SIZES:
        if size in sizes:
            return size
    raise NotNifti(f"This is {_kind_of(start)}, not NIfTI; send a .nii or .nii.gz file.")


def parse_header(block: bytes, limits: Limits) -> Layout:
    """The checked layout of the file whose header is `block` (348 or 540 bytes)."""
    order: ByteOrder = "<" if int.from_bytes(block[:4], "little") == len(block) else ">"
    header = np.frombuffer(block, dtype=header_dtype(len(block), order))[0]
    _check_magic(bytes(header["magic"]), len(block))
    shape = _shape([int(n) for n in header["dim"]], limits.allow_plane)
    dtype = _dtype(int(header["datatype"])).newbyteorder(order)
    offset = _offset(float(header["vox_offset"]), len(block) + 4)
    size = offset + math.prod(shape) * dtype.itemsize
    if size > limits.max_bytes:
        raise TooManyVoxels(
            f"The image has {' × '.join(map(str, shape))} voxels, {size / 2**20:,.0f} MiB when decompressed; "
            f"the limit is {limits.max_bytes / 2**20:,.0f} MiB."
        )
    affine, source = _affine(header, shape)
    check_affine(affine)
    slope, intercept = _scaling(float(header["scl_slope"]), float(header["scl_inter"]))
    version = 1 if len(block) == 348 else 2
    return Layout(version, shape, dtype, offset, affine, source, slope, intercept, header)


def check_affine(affine: NDArray[np.float64]) -> None:
    """Refuses a (4, 4) affine that no scanner can have written."""
    if not np.isfinite(affine).all():
        raise ImplausibleImage("The affine holds NaN or infinity; it must place every voxel in millimetres.")
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    low, high = SPACING_MM
    if ((edges < low) | (edges > high)).any():
        raise ImplausibleImage(
            f"The voxel spacing is {' × '.join(f'{e:.3g}' for e in edges)} mm; "
            f"each edge must be between {low} and {high:g} mm."
        )
    if abs(np.linalg.det(affine[:3, :3] / edges)) < LEAST_VOLUME_RATIO:
        raise ImplausibleImage(
            "The affine is degenerate: two voxel axes run the same way; they must span three dimensions."
        )
    if (np.abs(affine[:3, 3]) > FURTHEST_ORIGIN_MM).any():
        raise ImplausibleImage(
            f"The affine puts the first voxel over {FURTHEST_ORIGIN_MM / 1000:g} m from the scanner's centre."
        )


def _kind_of(start: bytes) -> str:
    known = {
        b"\x89PNG": "a PNG picture",
        b"\xff\xd8\xff": "a JPEG picture",
        b"PK\x03\x04": "a ZIP archive",
        b"%PDF": "a PDF document",
        b"NRRD": "an NRRD image",
        b"\x1f\x8b": "gzip inside gzip",
    }
    if start[128:132] == b"DICM":
        return "a DICOM file"
    if start and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start[:64]):
        return "a text file"
    return next((name for magic, name in known.items() if start.startswith(magic)), "some other file")


def _check_magic(magic: bytes, size: int) -> None:
    single, pair = (b"n+1", b"ni1") if size == 348 else (b"n+2", b"ni2")
    if magic.startswith(pair):
        raise UnsupportedNifti("This is half of a .hdr/.img pair; convert it to one .nii or .nii.gz file.")
    if not magic.startswith(single):
        raise NotNifti(
            "The header lacks the NIfTI magic (it may be Analyze 7.5); convert it to a .nii or .nii.gz file."
        )


def _shape(dim: list[int], allow_plane: bool) -> tuple[int, int, int]:
    if not 1 <= dim[0] <= 7:
        raise ImplausibleImage(f"The header says {dim[0]} dimensions; a volume has 3.")
    sizes = dim[1 : dim[0] + 1]
    said = " × ".join(map(str, sizes))
    if min(sizes) < 1:
        raise ImplausibleImage(f"The header says {said} voxels; each size must be 1 or more.")
    volumes = math.prod(sizes[3:])
    if len(sizes) < 3 or (min(sizes[:3]) == 1 and not allow_plane):
        raise UnsupportedNifti(f"The file ({said}) is a 2D image; a 3D volume is needed.")
    if volumes > 1:
        raise UnsupportedNifti(f"The file holds {volumes} volumes; send one 3D volume per file.")
    return sizes[0], sizes[1], sizes[2]


def _dtype(code: int) -> np.dtype[np.generic]:
    if code not in _DTYPES:
        raise UnsupportedNifti(
            f"The voxels are {_REFUSED_DTYPES.get(code, 'of an unknown type')} (NIfTI datatype {code}); "
            "save them as integers or 32-bit floats."
        )
    return np.dtype(_DTYPES[code])


def _offset(offset: float, least: int) -> int:
    if offset == 0:  # some writers leave it unset
        return least
    if not math.isfinite(offset) or not least <= offset <= least + LONGEST_EXTENSION:
        raise ImplausibleImage(
            f"The header says that voxels start at byte {offset:g}; they start at {least} or a little after."
        )
    return int(offset)


def _scaling(slope: float, intercept: float) -> tuple[float, float]:
    """The NIfTI rule: a slope of 0 (or NaN, which many tools write) means no scaling."""
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise ImplausibleImage("The intensity scaling (scl_slope, scl_inter) must be finite numbers.")
    return slope, intercept


def _affine(header: np.void, shape: tuple[int, int, int]) -> tuple[NDArray[np.float64], AffineSource]:
    """The sform when it is set, else the qform, else pixdim alone (which cannot tell left from right)."""
    affine = np.eye(4)
    if header["sform_code"] > 0:
        affine[:3] = header["srow"]
        return affine, "sform"
    pixdim = np.asarray(header["pixdim"], dtype=np.float64)
    if (pixdim[1:4] <= 0).any():
        raise ImplausibleImage("The voxel spacing (pixdim) must be positive millimetres on every axis.")
    if header["qform_code"] > 0:
        rotation = rotation_from_quaternion(np.asarray(header["quaternion"], dtype=np.float64))
        handed = -1.0 if pixdim[0] == -1 else 1.0  # qfac: anything but -1 reads as 1
        affine[:3, :3] = rotation * (pixdim[1:4] * (1.0, 1.0, handed))
        affine[:3, 3] = header["qoffset"]
        return affine, "qform"
    affine[:3, :3] = np.diag(pixdim[1:4] * (-1.0, 1.0, 1.0))  # as nibabel: radiological storage, centre at 0
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    return affine, "pixdim"
