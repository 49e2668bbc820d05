"""NRRD files in: header checks of our own, so that no length of the file is trusted, then numpy.

Read: attached headers, raw or gzip, one 3D scalar volume, `space` in patient axes (or spacing alone, when left
and right are a guess, as `VoxelLayout.oriented` says). All else is refused with what to send.
Source: https://teem.sourceforge.net/nrrd/format.html
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import UnsupportedImage
from shared.imaging.nifti_header import ImplausibleImage, Limits, TruncatedImage
from shared.imaging.volume import Volume
from shared.imaging.voxels import (
    HEADER_BYTES,
    VoxelLayout,
    check_layout,
    check_shape,
    integers,
    lps_affine,
    numbers,
    read_voxels,
)

_TYPES = {
    "i1": "signed char|int8|int8_t",
    "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t",
    "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "f4": "float",
    "f8": "double",
}
_DTYPES = {name: code for code, names in _TYPES.items() for name in names.split("|")}
# Signs that turn the first two axes of a space into left and posterior.
_SPACES = {
    "left-posterior-superior": (1, 1),
    "lps": (1, 1),
    "right-anterior-superior": (-1, -1),
    "ras": (-1, -1),
    "left-anterior-superior": (1, -1),
    "las": (1, -1),
}
_ENCODINGS = {"raw": "raw", "gzip": "deflate", "gz": "deflate"}
_VECTOR = re.compile(r"\(([^()]*)\)|(none)", re.IGNORECASE)


def read_nrrd(path: Path, limits: Limits) -> Volume:
    """The volume in the NRRD file at `path`. Raises UnsupportedImage, Invalid or TooLarge."""
    return read_voxels(path, read_nrrd_layout(path, limits), limits)


def read_nrrd_layout(path: Path, limits: Limits) -> VoxelLayout:
    """What the header of the NRRD file at `path` promises; errors as `read_nrrd`."""
    fields, offset = _header(path)
    if "data file" in fields or "datafile" in fields:
        raise UnsupportedImage(
            "The file is a detached NRRD header (.nhdr), whose voxels are in another file; "
            "save it as one attached .nrrd file."
        )
    dtype = _dtype(fields)
    encoding = fields.get("encoding", "raw").lower()
    if encoding not in _ENCODINGS:
        raise UnsupportedImage("The NRRD voxels are neither raw nor gzip; save the file with one of the two.")
    if any(int(n) for name in ("line skip", "byte skip") for n in integers(fields.get(name, "0"), name)):
        raise UnsupportedImage("The NRRD skips lines or bytes before its voxels; save it again without that.")
    sizes = integers(_field(fields, "sizes"), "sizes")
    if integers(_field(fields, "dimension"), "dimension") != [len(sizes)]:
        raise ImplausibleImage("The NRRD header's dimension and number of sizes differ.")
    shape = check_shape(sizes)
    affine, oriented = _affine(fields, shape)
    layout = VoxelLayout(
        shape, dtype, affine, offset, "raw" if _ENCODINGS[encoding] == "raw" else "deflate", oriented
    )
    return check_layout(layout, path.stat().st_size, limits)


def _header(path: Path) -> tuple[dict[str, str], int]:
    """The `field: value` lines with lower-case names, and where the voxels begin. Comments are dropped unread."""
    with path.open("rb") as file:
        start = file.read(HEADER_BYTES)
    if not start.startswith(b"NRRD000"):
        raise UnsupportedImage("The file is not NRRD (it does not begin with NRRD000).")
    end = re.search(rb"\r?\n\r?\n", start)
    if end is None:
        raise TruncatedImage("The NRRD header does not end (an empty line before the voxels is missing).")
    fields: dict[str, str] = {}
    for line in start[: end.start()].decode("latin-1").splitlines()[1:]:
        if line.startswith("#") or ":=" in line:
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise ImplausibleImage("A line of the NRRD header is no field, comment or key.")
        fields[name.strip().lower()] = value.strip()
    return fields, end.end()


def _field(fields: dict[str, str], name: str) -> str:
    if name not in fields:
        raise ImplausibleImage(f"The NRRD header lacks the field {name!r}.")
    return fields[name]


def _dtype(fields: dict[str, str]) -> np.dtype[np.generic]:
    code = _DTYPES.get(_field(fields, "type").lower())
    if code is None:
        raise UnsupportedImage(
            "The NRRD voxels are of no integer or 32- or 64-bit float type; save them as such."
        )
    if code[1] == "1":
        return np.dtype(code)
    order = {"little": "<", "big": ">"}.get(fields.get("endian", "").lower())
    if order is None:
        raise ImplausibleImage("The NRRD header must say endian: little or endian: big.")
    return np.dtype(order + code)


def _affine(fields: dict[str, str], shape: tuple[int, int, int]) -> tuple[NDArray[np.float64], bool]:
    """From `space directions`; else from `spacings`, with the volume's centre at 0 and axes as ITK takes them."""
    if "space directions" not in fields:
        spacing = numbers(_field(fields, "spacings"), len(fields["sizes"].split()), "spacings")[:3]
        axes = np.diag(spacing)
        return lps_affine(axes, -axes @ (np.array(shape) - 1) / 2), False
    space = fields.get("space", "").lower()
    if space not in _SPACES:
        raise UnsupportedImage(
            "The NRRD header does not say how the patient lies; it must give "
            "space: left-posterior-superior, right-anterior-superior or left-anterior-superior."
        )
    units = [unit.strip('" ').lower() for unit in fields.get("space units", "").split()]
    if any(unit not in ("mm", "millimeter", "millimetre") for unit in units):
        raise UnsupportedImage("The NRRD's space units are not mm; save it in millimetres.")
    found = [match[0] for match in _VECTOR.findall(fields["space directions"])]
    if len(found) != len(fields["sizes"].split()) or not all(found[:3]):
        raise ImplausibleImage("The NRRD's space directions must be one vector of 3 numbers for each axis.")
    axes = np.array([numbers(vector.replace(",", " "), 3, "space directions") for vector in found[:3]])
    origin = numbers(
        re.sub(r"[(),]", " ", fields.get("space origin", "(0,0,0)")),
        3,
        "space origin",
    )
    signs = np.array([*_SPACES[space], 1.0])
    return lps_affine(axes * signs, origin * signs), True
