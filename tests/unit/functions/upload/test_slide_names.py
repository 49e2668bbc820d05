"""Names that a slide's file may have."""

import pytest

from functions.upload.slides.names import PACKED, require_slide_name
from shared.errors import Invalid
from shared.formats.names import SLIDES


@pytest.mark.parametrize("ending", SLIDES + PACKED)
def test_endings_of_slides_are_taken_in_either_case(ending: str) -> None:
    require_slide_name(f"Roe_Jane{ending}")
    require_slide_name(f" Roe_Jane{ending.upper()} ")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Roe_Jane.xlsx", "ends with .svs"),
        ("Roe_Jane", "ends with .svs"),
        ("Roe_Jane.svs.exe", "ends with .svs"),
        ("Roe_Jane.mrxs", "several files"),
        ("Roe_Jane.VMS", "several files"),
    ],
)
def test_others_are_refused_without_their_name(name: str, says: str) -> None:
    with pytest.raises(Invalid, match=says) as refused:
        require_slide_name(name)
    assert "Jane" not in refused.value.detail
