"""How an OCT scan is kept: one B-scan as PNG, several as gzipped NIfTI with the axes width, depth and scan.

Both are what other programs read. Of the scan's scale, eye and device a short JSON text goes along (a tEXt chunk
`Hounsfield`, a NIfTI header extension of code 6): words of this platform and numbers, never the source's own texts.
Voxel edges in the NIfTI header are millimetres where the scale is known; else 1, with the units left unknown. The fundus
picture is a file of its own.
"""

import json
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
from isal import igzip
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from shared.imaging.nifti_fields import header_dtype
from shared.imaging.nifti_header import ImplausibleImage, TruncatedImage
from shared.imaging.oct.volume import Laterality, OctSpacing, OctVolume, check_size
from shared.imaging.raster import DECODER_ERRORS

CHUNK = "Hounsfield"
DEVICES = ("Heidelberg", "Topcon", "DICOM", "unknown")
LEVEL = 1
_DTYPES: dict[int, np.dtype[np.generic]] = {2: np.dtype("u1"), 512: np.dtype("<u2")}
_CODES = {1: 2, 2: 512}
_COMMENT = 6
_LONGEST_TEXT = 64 * 2**10


def suffix_of(volume: OctVolume) -> str:
    """`.png` for one B-scan, `.nii.gz` for several."""
    return ".png" if len(volume.bscans) == 1 else ".nii.gz"


def write_bscans(volume: OctVolume, path: Path) -> None:
    """Write the scan to `path`, which must not be there; which form it takes says `suffix_of`."""
    text = json.dumps(_described(volume))
    with path.open("xb") as file:
        if len(volume.bscans) == 1:
            chunk = PngInfo()
            chunk.add_text(CHUNK, text)
            Image.fromarray(_native(volume.bscans[0])).save(file, "PNG", pnginfo=chunk, compress_level=4)
            return
        with igzip.GzipFile("", "wb", LEVEL, file, mtime=0) as stream:
            stream.write(_header(volume, text))
            for bscan in volume.bscans:
                stream.write(np.ascontiguousarray(_native(bscan)).data)


def read_bscans(path: Path) -> OctVolume:
    """The scan that `write_bscans` wrote to `path`, without its fundus picture. Raises Invalid or TooLarge."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    try:
        bscans, text = _from_nifti(path) if compressed else _from_png(path)
        return _volume(bscans, json.loads(text))
    except (*DECODER_ERRORS, zlib.error, KeyError) as error:
        raise TruncatedImage("The stored OCT scan is damaged.") from error


def _described(volume: OctVolume) -> dict[str, Any]:
    return {
        "spacing_mm": asdict(volume.spacing_mm) if volume.spacing_mm else None,
        "spacing_note": volume.spacing_note,
        "laterality": volume.laterality,
        "device": volume.device if volume.device in DEVICES else "unknown",
    }


def _volume(bscans: NDArray[np.generic], said: dict[str, Any]) -> OctVolume:
    spacing = OctSpacing(**said["spacing_mm"]) if said["spacing_mm"] else None
    eye = cast(Laterality | None, said["laterality"])
    return OctVolume(bscans, spacing, str(said["spacing_note"]), eye, str(said["device"]))


def _native(bscan: NDArray[np.generic]) -> NDArray[np.generic]:
    return bscan.astype("u1" if bscan.dtype.itemsize == 1 else "<u2", copy=False)


def _header(volume: OctVolume, text: str) -> bytes:
    """NIfTI-1 with one extension; the file's order of voxels is that of `bscans`: width first, then depth, then scan."""
    scans, height, width = volume.bscans.shape
    size = volume.bscans.dtype.itemsize
    content = text.encode("ascii")
    extension = content + bytes(-(len(content) + 8) % 16)
    header = np.zeros(1, dtype=header_dtype(348, "<"))
    header["sizeof_hdr"], header["magic"] = 348, b"n+1"
    header["vox_offset"] = 352 + 8 + len(extension)
    header["dim"] = (3, width, height, scans, 1, 1, 1, 1)
    header["datatype"], header["bitpix"], header["scl_slope"] = _CODES[size], 8 * size, 1
    spacing = volume.spacing_mm
    edges = (spacing.lateral, spacing.axial, spacing.between or 1.0) if spacing else (1.0, 1.0, 1.0)
    header["pixdim"] = (1, *edges, 1, 1, 1, 1)
    header["xyzt_units"] = 2 if spacing else 0
    block = np.array([8 + len(extension), _COMMENT], "<i4").tobytes()
    return header.tobytes() + b"\1\0\0\0" + block + extension


def _from_nifti(path: Path) -> tuple[NDArray[np.generic], str]:
    with igzip.open(path, "rb") as stream:
        block = stream.read(360)
        header = np.frombuffer(block[:348], header_dtype(348, "<"))[0]
        length = int(np.frombuffer(block[352:356], "<i4")[0])
        if not 8 <= length <= _LONGEST_TEXT:
            raise ImplausibleImage("The stored OCT scan does not say what it is.")
        text = stream.read(length - 8).rstrip(b"\0").decode("ascii")
        width, height, scans = (int(n) for n in header["dim"][1:4])
        dtype = _DTYPES[int(header["datatype"])]
        check_size(scans, height, width, dtype.itemsize)
        size = scans * height * width * dtype.itemsize
        data = stream.read(size)
    if len(data) < size:
        raise TruncatedImage("The stored OCT scan is cut off.")
    bscans = np.frombuffer(data, dtype).reshape(scans, height, width)
    return bscans.astype(dtype.newbyteorder("="), copy=False), text


def _from_png(path: Path) -> tuple[NDArray[np.generic], str]:
    with path.open("rb") as file, Image.open(file, formats=["PNG"]) as image:
        check_size(1, image.height, image.width, 2)
        image.load()
        pixels = np.asarray(image)
        text = str(image.info[CHUNK])
    if pixels.dtype != np.uint8:
        pixels = pixels.astype(np.uint16)
    return np.ascontiguousarray(pixels)[None], text
