"""Slice preprocessing: the head fills the frame, and intensities count only relative to each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from serving.predictors.slices import Preprocessing, head_box, normalise, prepare, rescale, to_square

HOW = Preprocessing(size=64)


def head(height: int = 120, width: int = 100, lesion: bool = True) -> NDArray[np.float32]:
    """An ellipse of grey with a bright spot in a black frame; right half a little brighter than the left."""
    rows, columns = np.indices((height, width), dtype=np.float32)
    y, x = (rows - height / 2) / (height * 0.3), (columns - width / 2) / (width * 0.25)
    image = np.where(y**2 + x**2 < 1, 100 + 20 * x + 10 * y, 0)
    if lesion:
        image = np.where((y + 0.4) ** 2 + (x - 0.3) ** 2 < 0.03, 200, image)
    return image.astype(np.float32)


@given(
    scale=st.floats(1e-3, 1e4),
    offset=st.floats(-1e3, 1e3),
)
def test_scale_and_offset_of_the_intensities_do_not_matter(scale: float, offset: float) -> None:
    moved = (head().astype(np.float64) * scale + offset * scale).astype(np.float32)
    assert np.allclose(to_square(moved, HOW), to_square(head(), HOW), atol=0.01)


def test_a_brain_scored_around_zero_is_read_like_the_raw_one() -> None:
    raw = head()
    brain = raw > 0
    scored = np.where(brain, (raw - raw[brain].mean()) / raw[brain].std(), 0).astype(np.float32)
    found = to_square(scored, HOW)
    assert found[0, 0] == 0
    assert np.corrcoef(found.ravel(), to_square(raw, HOW).ravel())[0, 1] > 0.95


def test_the_head_fills_the_frame_wherever_it_lay() -> None:
    small_in_large = np.zeros((300, 400), dtype=np.float32)
    small_in_large[20:140, 250:350] = head()
    assert np.allclose(to_square(small_in_large, HOW), to_square(head(), HOW), atol=0.02)


def test_rows_and_columns_stay_what_they_are() -> None:
    found = to_square(head(), HOW)
    row, column = np.unravel_index(int(found.argmax()), found.shape)
    assert row < 32 < column


def test_specks_and_rulers_do_not_widen_the_crop() -> None:
    specked = head()
    specked[3, 5] = specked[110, 95] = 250
    assert head_box(rescale(specked)) == head_box(rescale(head()))


def test_the_shape_of_the_head_is_kept() -> None:
    found = to_square(head(), HOW) > 0.1
    height, width = np.ptp(np.flatnonzero(found.any(1))) + 1, np.ptp(np.flatnonzero(found.any(0))) + 1
    assert height / width == pytest.approx(72 / 50, rel=0.06)


@pytest.mark.parametrize("value", [0.0, -7.0, 1e6])
def test_an_empty_slice_becomes_black(value: float) -> None:
    assert not to_square(np.full((50, 40), value, dtype=np.float32), HOW).any()


def test_a_batch_is_prepared_slice_by_slice() -> None:
    batch = np.stack([head(), head(lesion=False) * 7])
    found = prepare(batch, HOW)
    assert found.shape == (2, 64, 64, 3)
    assert found.dtype == np.float32
    assert np.array_equal(found[1], prepare(batch[1:], HOW)[0])


def test_normalisations_are_those_of_keras_applications() -> None:
    grey = np.full((2, 2), 0.5, dtype=np.float32)
    assert np.allclose(normalise(grey, "unit"), 0.5)
    assert np.allclose(normalise(grey, "minus_one_one"), 0.0)
    assert np.allclose(normalise(grey, "caffe")[0, 0], [127.5 - 103.939, 127.5 - 116.779, 127.5 - 123.68])
    assert np.allclose(
        normalise(grey, "imagenet")[0, 0], [0.015 / 0.229, 0.044 / 0.224, 0.094 / 0.225], atol=1e-4
    )


@pytest.mark.parametrize(
    "wrong",
    [{}, {"size": 8}, {"size": 64, "normalisation": "z"}, {"size": 64, "crop": "no"}, {"size": 64, "x": 1}],
)
def test_a_manifest_that_asks_for_something_else_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Preprocessing.model_validate(wrong)
