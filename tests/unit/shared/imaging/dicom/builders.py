"""Small DICOM series whose every voxel says where it lies."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from shared.imaging.dicom.headers import read_header
from shared.imaging.dicom.instance import Instance
from shared.imaging.dicom.series import Series, group_series

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_CT, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.4.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
ROWS, COLUMNS = 6, 8
STUDY = "1.2.3.4"


def pixels_of(plane: int, rows: int = ROWS, columns: int = COLUMNS) -> NDArray[np.int16]:
    """Stored values that no flip, transposition or exchange of planes leaves as they are."""
    row, column = np.mgrid[:rows, :columns]
    return (1000 + 100 * plane + 10 * row + column).astype(np.int16)


def normal_of(orientation: Sequence[float]) -> NDArray[np.float64]:
    return np.cross(orientation[:3], orientation[3:])


def make_image(**tags: Any) -> Dataset:
    """One CT plane; `tags` replace or, when None, remove elements by keyword."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    defaults: dict[str, Any] = {
        "SOPClassUID": UID(CT),
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": UID(STUDY),
        "SeriesInstanceUID": UID("1.2.3.4.1"),
        "FrameOfReferenceUID": UID("1.2.3.4.9"),
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "PatientName": "Doe^Jane",
        "PatientID": "4711",
        "SeriesNumber": 2,
        "InstanceNumber": 1,
        "ImagePositionPatient": [-10.0, -20.0, 30.0],
        "ImageOrientationPatient": list(AXIAL),
        "PixelSpacing": [0.75, 0.5],
        "SliceThickness": 2.0,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": ROWS,
        "Columns": COLUMNS,
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "PixelData": pixels_of(0).tobytes(),
    }
    for keyword, value in (defaults | tags).items():
        if value is not None:
            setattr(image, keyword, value)
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.get("SOPInstanceUID", generate_uid())
    return image


def save(image: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)
    return path


def write_stack(
    folder: Path,
    count: int = 5,
    *,
    orientation: Sequence[float] = AXIAL,
    heights: Sequence[float] | None = None,
    origin: Sequence[float] = (-10.0, -20.0, 30.0),
    direction: Sequence[float] | None = None,
    spacing: Sequence[float] = (0.75, 0.5),
    order: Sequence[int] | None = None,
    **tags: Any,
) -> list[Path]:
    """`count` planes in `folder`, at `heights` mm along `direction` (the normal), written in `order`.

    Plane k holds `pixels_of(k)`; file names and instance numbers follow the order of writing.
    """
    heights = heights if heights is not None else [2.0 * k for k in range(count)]
    along = np.array(normal_of(orientation) if direction is None else direction)
    files = []
    for number, k in enumerate(order or range(len(heights))):
        position = np.array(origin) + heights[k] * along
        planes = {
            "ImagePositionPatient": [decimal(mm) for mm in position],
            "ImageOrientationPatient": [decimal(cosine) for cosine in orientation],
            "PixelSpacing": [decimal(mm) for mm in spacing],
            "InstanceNumber": number + 1,
            "PixelData": pixels_of(k).tobytes(),
        }
        files.append(save(make_image(**(planes | tags)), folder / f"{number:03}.dcm"))
    return files


def make_enhanced(
    positions: Sequence[Sequence[float]], *, orientation: Sequence[float] = AXIAL, **tags: Any
) -> Dataset:
    """One multi-frame file; frame k holds `pixels_of(k)`."""
    image = make_image(
        SOPClassUID=UID(ENHANCED_CT),
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        PixelSpacing=None,
        SliceThickness=None,
        RescaleSlope=None,
        RescaleIntercept=None,
        NumberOfFrames=len(positions),
        PixelData=b"".join(pixels_of(k).tobytes() for k in range(len(positions))),
        **tags,
    )
    shared = Dataset()
    shared.PlaneOrientationSequence = [dataset(ImageOrientationPatient=[decimal(c) for c in orientation])]
    shared.PixelMeasuresSequence = [dataset(PixelSpacing=[0.75, 0.5], SliceThickness=2.0)]
    shared.PixelValueTransformationSequence = [
        dataset(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
    ]
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [
        dataset(
            PlanePositionSequence=[dataset(ImagePositionPatient=[decimal(mm) for mm in position])],
            FrameContentSequence=[dataset(InStackPositionNumber=number, StackID="1")],
        )
        for number, position in enumerate(positions, 1)
    ]
    return image


def dataset(**tags: Any) -> Dataset:
    found = Dataset()
    for keyword, value in tags.items():
        setattr(found, keyword, value)
    return found


def decimal(number: float) -> str:
    """A DS value of at most 16 characters, as precise as can be."""
    return next(text for digits in range(15, 0, -1) if len(text := f"{number:.{digits}g}") <= 16)


def read_all(folder: Path) -> list[Instance]:
    return [read_header(path) for path in sorted(folder.rglob("*")) if path.is_file()]


def only_series(folder: Path) -> Series:
    (series,) = group_series(read_all(folder))
    return series


def codes(series: Series) -> list[str]:
    return [issue.code for issue in series.issues]
