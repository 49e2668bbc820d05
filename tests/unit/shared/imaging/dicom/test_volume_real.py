"""Real series against dcm2niix's own files, and every transfer syntax that there is a sample of."""

import subprocess
from pathlib import Path

import dcm2niix
import nibabel as nib
import numpy as np
import pydicom
import pytest

from shared.errors import HounsfieldError
from shared.imaging.dicom.choice import choose
from shared.imaging.dicom.errors import UnsupportedDicom
from shared.imaging.dicom.headers import read_header
from shared.imaging.dicom.series import group_series
from shared.imaging.dicom.volume import build_volume
from tests.unit.shared.imaging.dicom.builders import only_series, read_all


@pytest.mark.parametrize("series", ["lidc", "lidc_j2k"])
def test_real_ct_is_what_dcm2niix_alone_makes_of_it(
    series: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(series)
    made = build_volume(only_series(folder))
    subprocess.run(
        [dcm2niix.bin, "-z", "n", "-b", "n", "-f", "alone", "-o", tmp_path, folder],
        check=True,
        capture_output=True,
    )
    alone = nib.load(tmp_path / "alone.nii")
    assert made.shape == alone.shape
    assert np.abs(made.affine - alone.affine).max() <= 1e-3
    assert np.abs(made.data.astype(np.float32) - alone.get_fdata(dtype=np.float32)).max() == 0
    assert made.data.dtype == np.int16


def test_real_ct_is_what_its_files_say(lidc: Path) -> None:
    made = build_volume(only_series(lidc))
    for path in sorted(lidc.rglob("*.dcm"))[::20]:
        image = pydicom.dcmread(path)
        x, y, z = map(float, image.ImagePositionPatient)
        i, j, k = np.round((np.linalg.inv(made.affine) @ [-x, -y, z, 1])[:3]).astype(int)
        hu = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
        columns = made.data[i:, ::-1, k] if j else made.data[i:, :, k]
        assert np.array_equal(columns.T, hu)


def test_the_real_mixed_study_becomes_the_head_volume(philips: Path) -> None:
    (chosen,) = choose(group_series(read_all(philips)), "ct").chosen
    made = build_volume(chosen.series)
    assert made.shape == (512, 512, 28) and made.spacing == pytest.approx((0.45117, 0.45117, 5), abs=1e-4)
    assert made.data.min() == -1024


REFUSED = {"1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"}
LOSSY = {
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.91",
}
SYNTAXES = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.53",
    "1.2.840.10008.1.2.4.55",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.5",
)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_one_ct_image_in_every_transfer_syntax(odd: Path, syntax: str) -> None:
    (path,) = (odd / "cornerstone").glob(f"*_{syntax}.dcm")
    (series,) = group_series([read_header(path)])
    if syntax in REFUSED:
        with pytest.raises(UnsupportedDicom, match="no decoder"):
            build_volume(series)
        return
    plain = group_series([read_header(odd / "cornerstone" / "CTImage.dcm")])[0]
    apart = np.abs(build_volume(series).data.astype(np.float32) - build_volume(plain).data.astype(np.float32))
    assert np.median(apart) < 40 if syntax in LOSSY else apart.max() == 0


def test_every_odd_file_is_read_or_refused_with_a_reason(odd: Path) -> None:
    told = {}
    for path in sorted(odd.rglob("*")):
        if not path.is_file() or path.parent.name == "dicom_4d" or path.suffix == ".md":
            continue
        try:
            for series in group_series([read_header(path)]):
                told[path.name] = build_volume(series).shape
        except HounsfieldError as refusal:
            told[path.name] = refusal.detail
    assert told["eCT_Supplemental.dcm"] == (512, 512, 2)
    assert told["CT0012.fragmented_no_bot_jpeg_baseline.51.dcm"] == (512, 512, 2)
    assert told["sr_document.dcm"] == "The series holds no images."
    assert "1 bits" in str(told["liver_rle.dcm"]) and "1 bits" in str(told["liver_deflate.dcm"])
    assert "lookup table" in str(told["mlut_18.dcm"]) and "floating" in str(told["parametric_map_float.dcm"])
    assert "colour" in str(told["HTJ2K_08_RGB.dcm"])
    assert len(told) > 50
