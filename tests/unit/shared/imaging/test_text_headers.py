"""NRRD and MetaImage: the same volume reads the same whatever format it came in."""

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import HounsfieldError, Invalid, UnsupportedImage
from shared.imaging.geometry import to_sitk
from shared.imaging.metaimage import read_metaimage, read_metaimage_layout
from shared.imaging.nifti import read_nifti
from shared.imaging.nifti_header import ImplausibleImage, Limits, TooManyVoxels, TruncatedImage
from shared.imaging.nrrd import read_nrrd, read_nrrd_layout
from shared.imaging.volume import Volume
from tests.builders import nifti_volumes, nifti_voxels
from tests.unit.shared.formats import samples
from tests.unit.shared.formats.test_identify import written

ANY = Limits(allow_constant=True)
TYPES = [
    np.int8,
    np.uint8,
    np.int16,
    np.uint16,
    np.int32,
    np.uint32,
    np.int64,
    np.uint64,
    np.float32,
    np.float64,
]


@settings(max_examples=60)
@given(grid=nifti_volumes(), dtype=st.sampled_from(TYPES), compressed=st.booleans())
def test_the_same_volume_reads_the_same_from_nifti_nrrd_and_mha(
    tmp_path_factory: pytest.TempPathFactory, grid: Volume, dtype: type, compressed: bool
) -> None:
    """Written by SimpleITK in any orientation, obliquity, spacing and type."""
    folder = tmp_path_factory.mktemp("formats")
    small = Volume(np.arange(np.prod((7, 6, 5))).reshape(7, 6, 5).astype(dtype), grid.affine)
    image = to_sitk(small)
    for name in ("a.nii", "a.nrrd", "a.mha"):
        sitk.WriteImage(image, str(folder / name), useCompression=compressed)
    expected = read_nifti(folder / "a.nii", ANY)
    for read, name in ((read_nrrd, "a.nrrd"), (read_metaimage, "a.mha")):
        volume = read(folder / name, ANY)
        assert np.abs(volume.affine - expected.affine).max() <= 1e-4, name
        assert np.abs(volume.affine - small.affine).max() <= 1e-6, name
        assert volume.data.dtype == dtype
        assert np.array_equal(volume.data, small.data), name


@pytest.mark.parametrize(
    ("space", "signs"),
    [("RAS", (1, 1)), ("right-anterior-superior", (1, 1)), ("LAS", (-1, 1)), ("LPS", (-1, -1))],
)
def test_an_nrrd_says_in_which_space_its_axes_are(tmp_path: Path, space: str, signs: tuple[int, int]) -> None:
    affine = read_nrrd(written(tmp_path, samples.nrrd(space=space)), ANY).affine
    assert np.allclose(np.diag(affine), (1 * signs[0], 1.5 * signs[1], 2, 1))
    assert np.allclose(affine[:3, 3], (-10 * signs[0], 20 * signs[1], 30))


def test_itk_agrees_on_each_space(tmp_path: Path) -> None:
    for space in ("RAS", "LAS", "LPS"):
        path = written(tmp_path, samples.nrrd(space=space), f"{space}.nrrd")
        image = sitk.ReadImage(str(path))
        assert np.allclose((-1, -1, 1) * np.array(image.GetOrigin()), read_nrrd(path, ANY).affine[:3, 3])


def test_an_nrrd_with_spacings_only_is_read_and_said_to_be_unoriented(tmp_path: Path) -> None:
    content = samples.nrrd(space=None, space_directions=None, space_origin=None, spacings="1 1.5 2")
    layout = read_nrrd_layout(written(tmp_path, content), ANY)
    assert not layout.oriented
    assert np.allclose(np.linalg.norm(layout.affine[:3, :3], axis=0), (1, 1.5, 2))


def test_an_mha_without_a_matrix_is_said_to_be_unoriented(tmp_path: Path) -> None:
    assert not read_metaimage_layout(written(tmp_path, samples.mha(TransformMatrix=None)), ANY).oriented


def test_big_endian_voxels_and_a_fourth_size_of_one_are_read(tmp_path: Path) -> None:
    swapped = nifti_voxels(dtype=">i2")
    expected = read_nrrd(written(tmp_path, samples.nrrd()), ANY).data
    fields = {"sizes": "6 5 4 1", "dimension": "4", "space_directions": "(1,0,0) (0,1.5,0) (0,0,2) none"}
    assert np.array_equal(
        read_nrrd(written(tmp_path, samples.nrrd(swapped, endian="big", **fields)), ANY).data, expected
    )
    assert np.array_equal(
        read_metaimage(written(tmp_path, samples.mha(swapped, BinaryDataByteOrderMSB="True")), ANY).data,
        expected,
    )


FLOATS = np.arange(120, dtype="<f4")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_voxels_that_are_no_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    floats = FLOATS.copy()
    floats[7] = bad
    for read, content in (
        (read_nrrd, samples.nrrd(floats.tobytes(), type="float")),
        (read_metaimage, samples.mha(floats.tobytes(), ElementType="MET_FLOAT")),
    ):
        with pytest.raises(ImplausibleImage, match="NaN or infinity at 1 "):
            read(written(tmp_path, content), ANY)


@pytest.mark.parametrize(
    ("content", "outcome", "says"),
    [
        (samples.nrrd(nifti_voxels()[:-1]), TruncatedImage, "too short"),
        (samples.nrrd(gzip.compress(nifti_voxels())[:-40], encoding="gzip"), TruncatedImage, "after|damaged"),
        (
            samples.nrrd(gzip.compress(bytes(240))[:12] + bytes(90), encoding="gzip"),
            TruncatedImage,
            "after|damaged",
        ),
        (samples.nrrd(nifti_voxels() + bytes(2**20)), ImplausibleImage, "much longer"),
        (
            samples.nrrd(gzip.compress(nifti_voxels() + bytes(2**24)), encoding="gzip"),
            ImplausibleImage,
            "much longer",
        ),
        (samples.nrrd(bytes(240)), ImplausibleImage, "the same value"),
        (samples.nrrd(b"no deflate at all" * 20, encoding="gzip"), TruncatedImage, "damaged"),
    ],
)
def test_voxels_that_contradict_the_header_are_refused(
    tmp_path: Path, content: bytes, outcome: type[HounsfieldError], says: str
) -> None:
    with pytest.raises(outcome, match=says):
        read_nrrd(written(tmp_path, content), Limits())


def test_the_limit_holds_before_memory_is_taken(tmp_path: Path) -> None:
    with pytest.raises(TooManyVoxels, match="the limit is 0 MiB"):
        read_nrrd(written(tmp_path, samples.nrrd()), Limits(max_bytes=239))


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedImage, match="not NRRD"):
        read_nrrd(written(tmp_path, samples.mha()), ANY)
    with pytest.raises(Invalid, match="does not end"):
        read_metaimage(written(tmp_path, samples.nrrd()), ANY)


def test_no_message_repeats_the_header(tmp_path: Path) -> None:
    name = samples.SECRET.decode()
    for content in (samples.nrrd(sizes=name), samples.nrrd(type=name), samples.nrrd(space=name)):
        with pytest.raises(HounsfieldError) as refused:
            read_nrrd(written(tmp_path, content), ANY)
        assert name not in refused.value.detail
    with pytest.raises(HounsfieldError) as refused:
        read_metaimage(written(tmp_path, samples.mha(DimSize=name)), ANY)
    assert name not in refused.value.detail
