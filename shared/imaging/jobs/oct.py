"""Decoders on a stranger's DICOM OCT: `python -m shared.imaging.jobs.oct`.

The stored values of all frames of `path` go to `target` as .npy, (frames, rows, columns); of a colour picture, such as a
photograph of the fundus, (1, rows, columns, 3) in RGB.
"""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.pixels.utils import pixel_array

from shared.imaging.dicom.deid_elements import READ_ERRORS
from shared.imaging.dicom.errors import DamagedDicom, UnsupportedDicom
from shared.imaging.dicom.headers import read_header
from shared.imaging.dicom.instance import Instance
from shared.imaging.dicom.plain import stored_planes
from shared.imaging.dicom.syntaxes import unreadable
from shared.imaging.jobs.job import serve
from shared.imaging.oct.volume import check_size


def work(order: dict[str, Any]) -> Any:
    """Writes the frames; answers their shape."""
    instance = read_header(Path(order["path"]))
    pixels = instance.pixels
    if pixels is None:
        raise UnsupportedDicom("The file has no image.")
    if reason := unreadable(instance.transfer_syntax):
        raise UnsupportedDicom(f"The images are {reason}.")
    sample = (pixels.bits_allocated + 7) // 8
    check_size(pixels.frames, pixels.rows, pixels.columns, sample * pixels.samples)
    try:
        frames = _colour(instance) if pixels.samples == 3 else _grey(instance, pixels.frames)
    except (*READ_ERRORS, RuntimeError) as error:
        raise DamagedDicom("The image cannot be decoded; it is damaged.") from error
    np.save(order["target"], frames, allow_pickle=False)
    return list(frames.shape)


def _grey(instance: Instance, count: int) -> np.ndarray[Any, Any]:
    frames = np.stack(list(stored_planes(instance, range(count))))
    if frames.dtype.kind == "i":
        frames = frames - frames.min()
    kept = frames.astype(np.uint8 if frames.dtype.itemsize == 1 else np.uint16)
    inverted = instance.pixels is not None and instance.pixels.photometric == "MONOCHROME1"
    return kept.max() - kept if inverted else kept


def _colour(instance: Instance) -> np.ndarray[Any, Any]:
    picture = np.asarray(pixel_array(dcmread(instance.path), index=0))
    if picture.dtype != np.uint8 or picture.ndim != 3:
        raise UnsupportedDicom("The colour picture is not of 8 bits.")
    return picture[None]


if __name__ == "__main__":
    serve(work)
