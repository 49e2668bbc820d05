"""Reading and writing NIfTI, checked against nibabel."""

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.imaging.nifti import Limits, check_nifti, read_nifti, write_nifti
from shared.imaging.volume import Volume
from tests.builders import nifti_file, nifti_header, nifti_volumes, nifti_voxels

QFORM_MM = 0.1
"""A quaternion in float32 is this exact at a half turn."""


def _loaded(path: Path) -> Any:
    """The file as nibabel, which has no types, sees it."""
    return nibabel.nifti1.load(path)


def _image(dtype: str, affine: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Any:
    data = np.random.default_rng(0).integers(0, 100, size=(7, 6, 5)).astype(dtype)
    return nibabel.nifti1.Nifti1Image(data, affine)


@settings(max_examples=40, deadline=None)
@given(grid=nifti_volumes(largest_tilt=180.0), kind=st.sampled_from(["sform", "qform"]))
def test_the_affine_is_the_one_that_nibabel_reads(
    tmp_path_factory: pytest.TempPathFactory, grid: Volume, kind: str
) -> None:
    path = tmp_path_factory.mktemp("affine") / "x.nii.gz"
    image = _image("i2", grid.affine)
    image.set_sform(grid.affine, code=int(kind == "sform"))
    image.set_qform(grid.affine, code=1)
    image.to_filename(path)
    volume = read_nifti(path, Limits())
    np.testing.assert_allclose(volume.affine, _loaded(path).affine, atol=QFORM_MM)
    np.testing.assert_array_equal(volume.data, np.asanyarray(image.dataobj))
    assert check_nifti(path, Limits()).affine_source == kind


@settings(max_examples=40, deadline=None)
@given(grid=nifti_volumes(largest_tilt=180.0), name=st.sampled_from(["written.nii", "written.nii.gz"]))
def test_a_written_volume_reads_back_the_same_here_and_in_nibabel(
    tmp_path_factory: pytest.TempPathFactory, grid: Volume, name: str
) -> None:
    path = tmp_path_factory.mktemp("write") / name
    data = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    write_nifti(Volume(data, grid.affine), path)
    back, other = read_nifti(path, Limits()), _loaded(path)
    assert check_nifti(path, Limits()).compressed is name.endswith(".gz")
    np.testing.assert_array_equal(back.data, data)
    np.testing.assert_array_equal(np.asanyarray(other.dataobj), data)
    np.testing.assert_allclose(back.affine, grid.affine, atol=1e-4)
    np.testing.assert_allclose(other.get_sform(), grid.affine, atol=1e-4)
    np.testing.assert_allclose(other.get_qform(), grid.affine, atol=QFORM_MM)
    assert (int(other.header["sform_code"]), int(other.header["qform_code"])) == (1, 1)


def test_without_sform_and_qform_the_grid_is_nibabels_guess_and_says_so(tmp_path: Path) -> None:
    header = nifti_header(sform_code=0, pixdim=(1, 2, 3, 4, 1, 1, 1, 1))
    path = nifti_file(tmp_path / "x.nii.gz", header, nifti_voxels())
    info = check_nifti(path, Limits())
    assert info.affine_source == "pixdim"
    np.testing.assert_allclose(info.affine, _loaded(path).affine)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8", "i8", "u8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_plain_type_in_both_byte_orders_is_read(dtype: str, order: str, tmp_path: Path) -> None:
    path = tmp_path / "x.nii"
    data = np.random.default_rng(0).integers(0, 100, size=(7, 6, 5)).astype(order + dtype)
    header = nibabel.nifti1.Nifti1Header(endianness=order)
    header.set_data_dtype(dtype)
    nibabel.nifti1.Nifti1Image(data, np.eye(4), header, dtype=data.dtype).to_filename(path)
    volume = read_nifti(path, Limits())
    np.testing.assert_array_equal(volume.data, data)
    assert volume.data.dtype == np.dtype(dtype)  # native order


def test_nifti_2_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    data = np.arange(120, dtype=np.int16).reshape(6, 5, 4)
    nibabel.nifti2.Nifti2Image(data, np.diag([2.0, 3.0, 4.0, 1.0])).to_filename(path)
    volume = read_nifti(path, Limits())
    np.testing.assert_array_equal(volume.data, data)
    assert volume.spacing == (2.0, 3.0, 4.0)
    assert check_nifti(path, Limits()).version == 2


def test_scaling_is_applied_and_a_slope_of_zero_or_nan_is_none(tmp_path: Path) -> None:
    stored = np.arange(120).reshape((6, 5, 4), order="F")
    for slope, inter, real in [(2, -24, stored * 2 - 24), (0, 7, stored), (np.nan, 7, stored)]:
        header = nifti_header(scl_slope=slope, scl_inter=inter)
        path = nifti_file(tmp_path / "x", header, nifti_voxels())
        np.testing.assert_array_equal(read_nifti(path, Limits()).data, real)
        info = check_nifti(path, Limits())
        assert (info.minimum, info.maximum) == (real.min(), real.max())


def test_a_negative_slope_keeps_minimum_below_maximum(tmp_path: Path) -> None:
    path = nifti_file(tmp_path / "x", nifti_header(scl_slope=-1), nifti_voxels())
    info = check_nifti(path, Limits())
    assert (info.minimum, info.maximum) == (-119, 0)


def test_a_series_of_one_volume_is_a_volume(tmp_path: Path) -> None:
    path = nifti_file(tmp_path / "x", nifti_header((6, 5, 4, 1)), nifti_voxels())
    assert read_nifti(path, Limits()).shape == (6, 5, 4)


def test_compression_is_told_by_content_and_not_by_name(tmp_path: Path) -> None:
    for compressed in (True, False):
        path = nifti_file(tmp_path / "scan.nii", nifti_header(), nifti_voxels(), compressed)
        assert check_nifti(path, Limits()).compressed is compressed


def test_header_extensions_are_skipped(tmp_path: Path) -> None:
    header = nifti_header(vox_offset=352 + 64) + bytes(64)
    path = nifti_file(tmp_path / "x", header, nifti_voxels())
    assert read_nifti(path, Limits()).data[0, 0, 0] == 0
    assert read_nifti(path, Limits()).data[-1, -1, -1] == 119


def test_equal_volumes_give_equal_bytes_without_name_time_or_free_text(tmp_path: Path) -> None:
    volume = Volume(np.arange(120, dtype=np.uint8).reshape(6, 5, 4), np.eye(4))
    first, second = tmp_path / "JANE_DOE.nii.gz", tmp_path / "other.nii.gz"
    write_nifti(volume, first)
    write_nifti(Volume(np.asfortranarray(volume.data), volume.affine), second)
    assert first.read_bytes() == second.read_bytes()
    header = gzip.decompress(first.read_bytes())[:348]
    assert not any(header[148:252]) and not any(header[328:344])  # descrip, aux_file; intent_name
    assert b"JANE" not in first.read_bytes()


@pytest.mark.parametrize(
    ("given_type", "written"),
    [
        ("?", "u1"),
        ("u1", "u1"),
        ("i1", "i2"),
        ("i2", "i2"),
        ("u2", "i2"),
        ("i8", "i2"),
        ("f8", "f4"),
        ("f2", "f4"),
    ],
)
def test_types_are_written_as_the_three_that_everything_reads(
    given_type: str, written: str, tmp_path: Path
) -> None:
    data = (np.arange(120).reshape(6, 5, 4) % 2).astype(given_type)
    write_nifti(Volume(data, np.eye(4)), tmp_path / "x")
    back = read_nifti(tmp_path / "x", Limits()).data
    assert back.dtype == np.dtype(written)
    np.testing.assert_array_equal(back, data)


def test_integers_beyond_int16_are_written_as_floats(tmp_path: Path) -> None:
    data = (np.arange(120).reshape(6, 5, 4) * 1000).astype(np.int32)
    write_nifti(Volume(data, np.eye(4)), tmp_path / "x")
    np.testing.assert_array_equal(read_nifti(tmp_path / "x", Limits()).data, data.astype(np.float32))


def test_a_sheared_grid_keeps_its_affine_by_the_sform_alone(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[1, 2] = 0.3  # gantry tilt
    write_nifti(Volume(np.arange(120.0).reshape(6, 5, 4), affine), tmp_path / "x.nii.gz")
    np.testing.assert_allclose(read_nifti(tmp_path / "x.nii.gz", Limits()).affine, affine, atol=1e-6)
    assert int(_loaded(tmp_path / "x.nii.gz").header["qform_code"]) == 0


def test_real_scans_are_read_as_nibabel_reads_them(hounsfield_data: Path) -> None:
    for path in sorted((hounsfield_data / "brain3d").glob("*/*_flair.nii.gz"))[:6]:
        volume, other = read_nifti(path, Limits()), _loaded(path)
        np.testing.assert_array_equal(volume.data, np.asanyarray(other.dataobj))
        np.testing.assert_allclose(volume.affine, other.affine, atol=1e-6)
