"""Planes rewritten as the plainest DICOM there is: one uncompressed frame a file, geometry and values and no names.

Run as `python -m shared.imaging.dicom.plain JOB FOLDER` in a process of its own, since decoders read strangers' bytes
(shared/imaging/dicom/processes.py). JOB is a JSON list of [path, frame number, name of the new file in FOLDER].
"""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from shared.imaging.dicom.errors import DamagedDicom
from shared.imaging.dicom.headers import opened, read_header
from shared.imaging.dicom.instance import BIG_ENDIAN, EXPLICIT, Frame, Instance, Pixels
from shared.imaging.dicom.syntaxes import DECODERS

_CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
_ROOT = "1.2.826.0.1.3680043.8.498.1"


def stored_planes(instance: Instance, frames: Iterable[int]) -> Iterator[NDArray[np.generic]]:
    """(rows, columns) stored values of each of `frames`, in the machine's byte order.

    Compressed ones belong in a process of their own. Raises DamagedDicom when a plane is not what its header says.
    """
    pixels = _pixels_of(instance)
    planes = _decoded(instance, frames) if instance.compressed else _native(instance, pixels, frames)
    for plane in planes:
        if plane.shape != (pixels.rows, pixels.columns) or plane.dtype.kind not in "iu":
            raise DamagedDicom(
                f"A plane decodes to {plane.shape}; the header says {pixels.rows} × {pixels.columns}."
            )
        yield _used_bits(plane, pixels)


def middle_row(instance: Instance, frame: int) -> NDArray[np.generic]:
    """(columns,) stored values of the row `rows // 2` of an uncompressed little-endian plane, read by itself."""
    pixels = _pixels_of(instance)
    dtype = _dtype_of(pixels)
    row = pixels.columns * dtype.itemsize
    with instance.path.open("rb") as file:
        file.seek(pixels.start + frame * pixels.frame_bytes + pixels.rows // 2 * row)
        return _used_bits(np.frombuffer(file.read(row), dtype.newbyteorder("<")), pixels)


def write_plain(
    path: Path, stored: NDArray[np.generic], instance: Instance, frame: Frame, number: int
) -> None:
    """One plane as a file of its own; `number` becomes its instance number."""
    pixels = _pixels_of(instance)
    if stored.dtype == np.int8:  # dcm2niix takes 8 bits for unsigned
        stored = stored.astype(np.int16)
    modality = instance.modality if instance.modality in _CLASSES else "CT"
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    image.SOPClassUID, image.SOPInstanceUID = UID(_CLASSES[modality]), UID(f"{_ROOT}.3.{number}")
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.StudyInstanceUID, image.SeriesInstanceUID = UID(f"{_ROOT}.1"), UID(f"{_ROOT}.2")
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.Modality, image.SeriesNumber, image.InstanceNumber = modality, 1, number
    image.ImagePositionPatient = [_decimal(mm) for mm in frame.position or ()]
    image.ImageOrientationPatient = [_decimal(cosine) for cosine in frame.orientation or ()]
    image.PixelSpacing = [_decimal(mm) for mm in frame.spacing or ()]
    image.SliceThickness = _decimal(frame.thickness or 1.0)
    image.RescaleSlope, image.RescaleIntercept = _decimal(frame.slope), _decimal(frame.intercept)
    image.Rows, image.Columns = stored.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, pixels.photometric
    image.BitsAllocated = 8 * stored.itemsize
    image.BitsStored = image.BitsAllocated
    image.HighBit, image.PixelRepresentation = image.BitsStored - 1, int(stored.dtype.kind == "i")
    image.PixelData = stored.tobytes() + bytes(stored.nbytes % 2)
    image["PixelData"].VR = "OB" if stored.itemsize == 1 else "OW"
    image.save_as(path, enforce_file_format=True)


def main(job: Path, folder: Path) -> None:
    """Writes the planes that `job` lists."""
    planes: list[tuple[str, int, int]] = json.loads(job.read_text())
    for path, group in groupby(planes, key=lambda plane: plane[0]):
        wanted = list(group)
        instance = read_header(Path(path))
        stored = stored_planes(instance, [frame for _, frame, _ in wanted])
        for plane, (_, frame, number) in zip(stored, wanted, strict=True):
            write_plain(folder / f"{number:06}.dcm", plane, instance, instance.frames[frame], number)


def _pixels_of(instance: Instance) -> Pixels:
    if instance.pixels is None:
        raise DamagedDicom("The file has no pixels.")
    return instance.pixels


def _dtype_of(pixels: Pixels) -> np.dtype[np.generic]:
    return np.dtype(f"{'i' if pixels.signed else 'u'}{pixels.bits_allocated // 8}")


def _used_bits(plane: NDArray[np.generic], pixels: Pixels) -> NDArray[np.generic]:
    """The values in the bits that are stored; whatever lies above them is no part of a value (PS3.5 8.1.1)."""
    unused = 8 * plane.itemsize - pixels.bits_stored
    if unused <= 0:
        return plane
    return np.asarray(np.right_shift(np.left_shift(plane, unused), unused))


def _native(instance: Instance, pixels: Pixels, frames: Iterable[int]) -> Iterator[NDArray[np.generic]]:
    dtype = _dtype_of(pixels)
    stored = dtype.newbyteorder(">" if instance.transfer_syntax == BIG_ENDIAN else "<")
    with opened(instance.path) as (data, *_):
        for frame in frames:
            start = pixels.start + frame * pixels.frame_bytes
            plane = np.frombuffer(data[start : start + pixels.frame_bytes], stored)
            yield plane.reshape(pixels.rows, pixels.columns).astype(dtype, copy=False)


def _decoded(instance: Instance, frames: Iterable[int]) -> Iterator[NDArray[np.generic]]:
    """By the decoder chosen for the transfer syntax."""
    decoder = DECODERS[instance.transfer_syntax]
    image = dcmread(instance.path)
    for frame in frames:
        if decoder == "gdcm-12bit":
            yield _by_gdcm(image, frame, _pixels_of(instance))
        else:
            yield np.asarray(pixel_array(image, index=frame, raw=True, decoding_plugin=decoder))


def _by_gdcm(image: Dataset, frame: int, pixels: Pixels) -> NDArray[np.generic]:
    """JPEG of 12 bits: what pydicom's plugin does, without its refusal."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(get_frame(image.PixelData, frame, number_of_frames=pixels.frames))
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    picture = gdcm.Image()
    picture.SetNumberOfDimensions(2)
    picture.SetDimensions((pixels.columns, pixels.rows, 1))
    picture.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(pixels.photometric)
    picture.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    syntax = gdcm.TransferSyntax.GetTSType(str(image.file_meta.TransferSyntaxUID))
    picture.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    stored, allocated = pixels.bits_stored, pixels.bits_allocated
    picture.SetPixelFormat(gdcm.PixelFormat(1, allocated, stored, stored - 1, int(pixels.signed)))
    raw = picture.GetBuffer().encode("utf-8", "surrogateescape")
    return np.frombuffer(raw, _dtype_of(pixels), count=pixels.rows * pixels.columns).reshape(
        pixels.rows, pixels.columns
    )


def _decimal(number: float) -> str:
    """A DS value: at most 16 characters."""
    return next(text for digits in range(15, 0, -1) if len(text := f"{number:.{digits}g}") <= 16)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
