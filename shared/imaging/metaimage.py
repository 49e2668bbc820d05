"""MetaImage files in (.mha): header checks of our own, so that no length of the file is trusted, then numpy.

World coordinates are ITK's: LPS+ millimetres. Each triple of `TransformMatrix` is the direction of one voxel axis;
`AnatomicalOrientation` only repeats that (older ITK wrote RAI whatever the direction) and is not read.
"""

from pathlib import Path

import numpy as np

from shared.errors import UnsupportedImage
from shared.imaging.metaimage_header import metaimage_fields
from shared.imaging.nifti_header import ImplausibleImage, Limits
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

_DTYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_MATRIX = ("transformmatrix", "rotation", "orientation")
_ORIGIN = ("offset", "position", "origin")


def read_metaimage(path: Path, limits: Limits) -> Volume:
    """The volume in the MetaImage file at `path`. Raises UnsupportedImage, Invalid or TooLarge."""
    return read_voxels(path, read_metaimage_layout(path, limits), limits)


def read_metaimage_layout(path: Path, limits: Limits) -> VoxelLayout:
    """What the header of the MetaImage file at `path` promises; errors as `read_metaimage`."""
    with path.open("rb") as file:
        fields, offset = metaimage_fields(file.read(HEADER_BYTES))
    _check_kind(fields)
    order = ">" if _true(fields, "binarydatabyteordermsb", "elementbyteordermsb") else "<"
    code = _DTYPES.get(fields.get("elementtype", "").upper())
    if code is None:
        raise UnsupportedImage("The MetaImage's ElementType is no scalar integer or float; save it as such.")
    sizes = integers(fields.get("dimsize", ""), "DimSize")
    if integers(fields.get("ndims", ""), "NDims") != [len(sizes)]:
        raise ImplausibleImage("The MetaImage header's NDims and number of DimSize differ.")
    shape = check_shape(sizes)
    if len(sizes) > 3:
        raise UnsupportedImage("The MetaImage has more than 3 dimensions; send one 3D volume per file.")
    spacing = numbers(_one_of(fields, ("elementspacing", "elementsize"), "1 1 1"), 3, "ElementSpacing")
    if (spacing <= 0).any():
        raise ImplausibleImage("The MetaImage's ElementSpacing must be positive millimetres on every axis.")
    matrix = numbers(_one_of(fields, _MATRIX, "1 0 0 0 1 0 0 0 1"), 9, "TransformMatrix").reshape(3, 3)
    origin = numbers(_one_of(fields, _ORIGIN, "0 0 0"), 3, "Offset")
    layout = VoxelLayout(
        shape,
        np.dtype(order + code),
        lps_affine(matrix * spacing[:, None], origin),
        offset,
        "deflate" if _true(fields, "compresseddata") else "raw",
        any(name in fields for name in _MATRIX),
    )
    return check_layout(layout, path.stat().st_size, limits)


def _check_kind(fields: dict[str, str]) -> None:
    if fields.get("objecttype", "image").lower() != "image":
        raise UnsupportedImage("The MetaImage holds an object that is no image.")
    if not _true(fields, "binarydata", default=True):
        raise UnsupportedImage("The MetaImage's voxels are written as text; save it in binary form.")
    if fields.get("elementnumberofchannels", "1") != "1":
        raise UnsupportedImage(
            "The MetaImage's voxels are vectors or colours; save one scalar volume per file."
        )
    if fields.get("headersize", "0") != "0":
        raise UnsupportedImage(
            "The MetaImage skips bytes before its voxels (HeaderSize); save it without that."
        )


def _one_of(fields: dict[str, str], names: tuple[str, ...], otherwise: str) -> str:
    return next((fields[name] for name in names if name in fields), otherwise)


def _true(fields: dict[str, str], *names: str, default: bool = False) -> bool:
    return _one_of(fields, names, str(default)).lower() in ("true", "1", "t")
