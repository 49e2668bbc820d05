"""DICOM studies of a patient who must not be found again, and archives of them."""

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import UID, generate_uid

from tests.unit.shared.imaging.dicom.builders import MR, make_image, save, write_stack

NAME, SPOKEN = "Quibbleworth^Zacharias^^Dr", "Dr Zacharias Quibbleworth"
PATIENT_ID = "HOSP-7734521"
PATIENT: dict[str, Any] = {
    "PatientName": NAME,
    "PatientID": PATIENT_ID,
    "PatientBirthDate": "19310507",
    "StudyDate": "20240229",
    "StudyDescription": "CT Thorax Quibbleworth",
    "SeriesDescription": "AX 3.0mm",
    "InstitutionName": "Sankt Xylophon Hospital",
}
NEEDLES = (b"Quibbleworth", b"Zacharias", b"7734521", b"Xylophon", b"20240229", b"19310507")


def ct_series(folder: Path, count: int = 5, **tags: Any) -> Path:
    """A CT series in `folder`; each voxel says where it lies."""
    write_stack(folder, count, **{**PATIENT, "SeriesInstanceUID": uid_of(folder), **tags})
    return folder


def scout(folder: Path, **tags: Any) -> Path:
    """One scout."""
    image = make_image(
        **{
            **PATIENT,
            "SeriesInstanceUID": uid_of(folder),
            "SeriesNumber": 1,
            "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"],
            **tags,
        }
    )
    save(image, folder / "scout.dcm")
    return folder


def mr_series(folder: Path, description: str, side: int = 40, **tags: Any) -> Path:
    """A head of 40³ voxels of 4 mm, bright in the middle."""
    random = np.random.default_rng(abs(hash(description)) % 2**32)
    centre = (side - 1) / 2
    for k in range(side):
        row, column = np.mgrid[:side, :side]
        far = (row - centre) ** 2 + (column - centre) ** 2 + (k - centre) ** 2
        plane = np.where(far < (side / 2.5) ** 2, 400, 0) + random.integers(0, 60, (side, side))
        image = make_image(
            **{
                **PATIENT,
                "SOPClassUID": UID(MR),
                "Modality": "MR",
                "SeriesInstanceUID": uid_of(folder),
                "SeriesDescription": description,
                "StudyDescription": "MR brain",
                "Rows": side,
                "Columns": side,
                "PixelSpacing": [4.0, 4.0],
                "SliceThickness": 4.0,
                "ImagePositionPatient": [0.0, 0.0, 4.0 * k],
                "InstanceNumber": k + 1,
                "RescaleIntercept": 0,
                "PixelData": plane.astype(np.int16).tobytes(),
                **tags,
            }
        )
        save(image, folder / f"{k:03}.dcm")
    return folder


def uid_of(folder: Path) -> UID:
    """The same UID for the same folder."""
    return UID(generate_uid(entropy_srcs=[str(folder)]))


def packed(folder: Path, target: Path, change: Callable[[tarfile.TarInfo], None] | None = None) -> Path:
    """The folder as .tar.gz."""
    with tarfile.open(target, "w:gz", compresslevel=1) as tar:
        for path in sorted(folder.rglob("*")):
            info = tar.gettarinfo(str(path), str(path.relative_to(folder)))
            if change is not None:
                change(info)
            if path.is_file():
                with path.open("rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)
    return target
