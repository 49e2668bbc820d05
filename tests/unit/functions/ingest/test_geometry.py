import numpy as np
import pytest

from functions.ingest.geometry import check_head, check_same_region
from shared.errors import Invalid
from shared.imaging.volume import Volume


def grid(
    shape: tuple[int, int, int], spacing: float, origin: tuple[float, float, float] = (0, 0, 0)
) -> Volume:
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = origin
    return Volume(np.broadcast_to(np.uint8(0), shape), affine)


@pytest.mark.parametrize(
    ("shape", "spacing"), [((240, 240, 155), 1.0), ((46, 46, 24), 5.5), ((64, 64, 64), 2.0)]
)
def test_the_field_of_view_of_a_head_is_taken(shape: tuple[int, int, int], spacing: float) -> None:
    check_head(grid(shape, spacing), "file 1")


@pytest.mark.parametrize(
    ("shape", "spacing"), [((240, 240, 10), 1.0), ((30, 30, 30), 1.0), ((600, 600, 600), 1.0)]
)
def test_what_is_too_small_or_too_large_for_a_head_is_refused(
    shape: tuple[int, int, int], spacing: float
) -> None:
    with pytest.raises(Invalid, match="file 3 covers"):
        check_head(grid(shape, spacing), "file 3")


def test_other_grids_over_the_same_region_are_taken() -> None:
    check_same_region(grid((240, 240, 150), 1), grid((120, 120, 75), 2), ("T1", "T2"))
    check_same_region(grid((240, 240, 150), 1), grid((240, 240, 150), 1, (20, 20, 10)), ("T1", "T2"))


def test_scans_that_share_less_than_half_are_refused() -> None:
    with pytest.raises(Invalid, match="T1 and FLAIR show different regions: 0%"):
        check_same_region(grid((100, 100, 100), 1), grid((100, 100, 100), 1, (500, 0, 0)), ("T1", "FLAIR"))
    with pytest.raises(Invalid, match="different regions"):
        check_same_region(grid((200, 200, 200), 1), grid((100, 100, 100), 1), ("T1", "FLAIR"))
