"""The pictures show the lesion on the right side, in its colour, with letters, bar and legend."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray
from PIL import Image

from shared.errors import Invalid
from shared.imaging.measure import largest_slice
from shared.imaging.nifti import Limits, read_nifti
from shared.imaging.overlay import PANEL_HEIGHT, TUMOUR_LABELS, blend, montage_png, overlay_png
from shared.imaging.volume import Volume
from tests.builders import nifti_ball, nifti_texture, nifti_volumes


def _pixels(png: bytes) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.mode) == ("PNG", "RGB")
    return np.asarray(image)


def _case(grid: Volume) -> tuple[Volume, Volume]:
    """A head with a lesion of label 3 in the patient's left frontal lobe."""
    head = np.where(nifti_ball(grid, (0, 0, 0), 46.0), 500 + 50 * nifti_texture(grid), 0)
    lesion = 3 * nifti_ball(grid, (-20.0, 22.0, 0.0), 10.0)
    return Volume(head.astype(np.float32), grid.affine), Volume(lesion.astype(np.uint8), grid.affine)


def _of_colour(pixels: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    return np.asarray((pixels == np.array(colour)).all(axis=-1))


@settings(max_examples=12, deadline=None)
@given(grid=nifti_volumes(largest_tilt=20.0))
def test_a_left_frontal_lesion_is_drawn_top_right(grid: Volume) -> None:
    head, lesion = _case(grid)
    pixels = _pixels(overlay_png(head, lesion, largest_slice(lesion, {3}) or 0))
    panel = pixels[:PANEL_HEIGHT]
    rows, columns = np.nonzero(_of_colour(panel, TUMOUR_LABELS[2].colour))
    assert len(rows) > 50  # the contour
    assert rows.mean() < 0.5 * panel.shape[0]
    assert columns.mean() > 0.5 * panel.shape[1]


def _plain_case() -> tuple[Volume, Volume]:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -49.0
    return _case(Volume(np.zeros((50, 50, 50), dtype=np.uint8), affine))


def test_the_legend_names_only_what_is_marked() -> None:
    head, lesion = _plain_case()
    legend = _pixels(overlay_png(head, lesion, 25))[PANEL_HEIGHT:]
    assert _of_colour(legend, TUMOUR_LABELS[2].colour).sum() > 100
    assert not _of_colour(legend, TUMOUR_LABELS[0].colour).any()


def test_the_scale_bar_is_five_centimetres_long() -> None:
    head, lesion = _plain_case()
    panel = _pixels(overlay_png(head, Volume(lesion.data * 0, lesion.affine), 25))[:PANEL_HEIGHT]
    bar = np.flatnonzero((panel[PANEL_HEIGHT - 14] > 220).all(axis=-1))
    # the 92 mm ball with 14 mm borders is cut to the 100 mm grid: 4.8 pixels a millimetre
    assert len(bar) == pytest.approx(50 * PANEL_HEIGHT / 100, abs=3)


def test_fill_is_translucent_and_the_contour_solid() -> None:
    grey = np.full((9, 9), 0.5, dtype=np.float32)
    mask = np.zeros((9, 9), dtype=np.int32)
    mask[2:7, 2:7] = 1
    picture = blend(grey, mask, TUMOUR_LABELS)
    assert tuple(picture[0, 0]) == (128, 128, 128)
    assert tuple(picture[2, 4]) == TUMOUR_LABELS[0].colour
    assert tuple(picture[4, 4]) not in {(128, 128, 128), TUMOUR_LABELS[0].colour}
    brighter = blend(grey + 0.4, mask, TUMOUR_LABELS)
    assert brighter[4, 4].sum() > picture[4, 4].sum()  # the anatomy shows through


def test_equal_input_gives_equal_bytes() -> None:
    head, lesion = _plain_case()
    assert montage_png(head, lesion, "A") == montage_png(head, lesion, "A")
    assert montage_png(head, lesion, "A") != montage_png(head, lesion, "B")


def test_a_montage_wraps_its_caption_and_works_without_a_lesion() -> None:
    head, lesion = _plain_case()
    none = Volume(np.zeros_like(lesion.data), lesion.affine)
    short, long = (_pixels(montage_png(head, none, text)) for text in ("Short.", "Many words. " * 60))
    assert short.shape[1] == long.shape[1]
    assert long.shape[0] > short.shape[0] + 50


def test_a_label_map_on_another_grid_is_refused() -> None:
    head, lesion = _plain_case()
    shifted = lesion.affine.copy()
    shifted[0, 3] += 2
    with pytest.raises(Invalid, match="different grids"):
        overlay_png(head, Volume(lesion.data, shifted), 25)


def test_a_real_case_is_drawn(hounsfield_data: Path) -> None:
    case = hounsfield_data / "brain3d" / "BraTS2021_00006"
    scan = read_nifti(case / f"{case.name}_flair.nii.gz", Limits())
    truth = read_nifti(case / f"{case.name}_seg.nii.gz", Limits())
    label_map = Volume(np.where(truth.data == 4, 3, truth.data), truth.affine)
    pixels = _pixels(montage_png(scan, label_map, "FLAIR"))
    assert pixels.shape[1] > 1000
    for label in TUMOUR_LABELS:
        assert _of_colour(pixels[:PANEL_HEIGHT], label.colour).sum() > 100
