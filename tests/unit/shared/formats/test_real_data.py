"""Every real sample: what it is, and what became of it. The table is printed with `pytest -rP`."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from shared.errors import HounsfieldError
from shared.formats.head import identify_head
from shared.formats.identify import identify
from shared.formats.source import HEAD_BYTES
from shared.formats.types import Format, Identified
from shared.imaging.nifti import check_nifti
from shared.imaging.nifti_header import Limits
from shared.imaging.oct.read import read_oct
from shared.imaging.raster import read_raster
from shared.imaging.slide import describe_slide

NO_IMAGES = (".md", ".csv", ".json", ".xml")
EXPECTED: dict[tuple[str, str], tuple[Format, str | None]] = {
    ("brain2d", ".jpg"): (Format.JPEG, None),
    ("brain2d_followup", ".jpg"): (Format.JPEG, None),
    ("brain3d", ".nii.gz"): (Format.NIFTI, None),
    ("ct", ".nii.gz"): (Format.NIFTI, None),
    ("ct", ".tar.gz"): (Format.GZIP, None),
    ("histo_patches", ".jpg"): (Format.JPEG, None),
    ("oct", ".jpg"): (Format.JPEG, None),
    ("oct_vendor", ".fds"): (Format.TOPCON, "oct"),
    ("oct_vendor", ".fda"): (Format.TOPCON, "oct"),
    ("oct_vendor", ".vol"): (Format.VOL, "oct"),
    ("oct_vendor", ".tif"): (Format.TIFF, None),
    ("wsi", ".svs"): (Format.SLIDE_TIFF, "slide"),
    ("wsi", ".tiff"): (Format.SLIDE_TIFF, "slide"),
    ("wsi", ".dcm"): (Format.DICOM_WSI, "slide"),
}


def _suffix(path: Path) -> str:
    return "".join(path.suffixes[-2:]) if path.name.endswith(".gz") else path.suffix


def _became(path: Path, found: Identified, pictures: dict[str, Path]) -> str:
    """What reading the file gives, in a few words."""
    if found.format in (Format.E2E, Format.VOL, Format.TOPCON, Format.HEYEX_XML):
        (volume,) = read_oct(path, found.format, pictures)
        return f"OCT {volume.bscans.shape}, {volume.spacing_mm or volume.spacing_note}, {volume.laterality}"
    if found.format in (Format.SLIDE_TIFF, Format.DICOM_WSI) and "wsi" in path.parts:
        info = describe_slide(path)
        return f"slide {info.vendor} {info.width} × {info.height}, {len(info.levels)} levels, {info.mpp or info.mpp_note}"
    if found.format in (Format.PNG, Format.JPEG, Format.TIFF):
        pixels = read_raster(path).pixels
        return f"picture {pixels.dtype}" if min(pixels.shape[:2]) > 1 else "empty"
    if found.format is Format.NIFTI:
        return f"volume {check_nifti(path, Limits(allow_constant=True)).shape}"
    return f"{found.format}, for another reader"


def test_every_sample_is_identified_and_read(hounsfield_data: Path) -> None:
    table: Counter[str] = Counter()
    refused: set[str] = set()
    pictures = {path.name.lower(): path for path in (hounsfield_data / "oct_vendor").glob("heyex_xml/*.tif")}
    for path in sorted(path for path in hounsfield_data.rglob("*") if path.is_file()):
        kind = path.relative_to(hounsfield_data).parts[0]
        label = f"{kind:18}{_suffix(path):10}"
        try:
            found = identify(path)
        except HounsfieldError as error:
            refused |= {path.name} if path.suffix not in NO_IMAGES else set()
            table[f"{label} refused: {error.detail.partition(';')[0]}"] += 1
            continue
        expected = EXPECTED.get((kind, _suffix(path)))
        assert expected in (None, (found.format, found.kind)), path
        assert kind != "dicom_odd" or found.format in (Format.DICOM, Format.DICOM_WSI), path
        head = identify_head(path.read_bytes()[:HEAD_BYTES], path.stat().st_size)
        assert head.format in (found.format, Format.TIFF), path
        table[f"{label} {_became(path, found, pictures)}"] += 1
    sys.stdout.write("".join(f"{count:6} {line}\n" for line, count in sorted(table.items())))
    assert refused == {"broken.svs"}  # a text file
    assert table.total() > 100


def test_the_two_exports_of_one_heidelberg_scan_agree(hounsfield_data: Path) -> None:
    """eyepy's .vol and XML of the same synthetic scan: same scale, eye, and place of each pixel.

    The .vol holds 0–254 where reflectivity (0–1) belongs, so only its zeros can be compared.
    """
    folder = hounsfield_data / "oct_vendor"
    pictures = {path.name.lower(): path for path in folder.glob("heyex_xml/*.tif")}
    (vol,) = read_oct(folder / "heyex_test_volume.vol", Format.VOL)
    (xml,) = read_oct(folder / "heyex_xml/test_dummy.xml", Format.HEYEX_XML, pictures)
    assert vol.spacing_mm is not None and xml.spacing_mm is not None
    assert vol.spacing_mm.between == pytest.approx(xml.spacing_mm.between)
    assert (vol.spacing_mm.axial, vol.laterality) == (pytest.approx(xml.spacing_mm.axial), xml.laterality)
    assert vol.bscans.shape == xml.bscans.shape
    assert np.array_equal(vol.bscans == 0, xml.bscans == 0)
    assert 0 < np.count_nonzero(vol.bscans == 0) < vol.bscans.size / 2


def test_a_toy_of_implausible_scale_is_read_and_not_measured(hounsfield_data: Path) -> None:
    (volume,) = read_oct(hounsfield_data / "oct_vendor/fds_minimized.fds", Format.TOPCON)
    assert (volume.bscans.shape, volume.laterality, volume.spacing_mm) == ((4, 3, 2), "L", None)
    assert "3000 µm" in volume.spacing_note
