"""Descriptors and other short texts: what is kept of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.imaging.dicom.deid_text import Mentions, identifier_tokens, person_tokens, vocabulary

NOBODY = Mentions(frozenset())
PATIENT = Mentions(
    person_tokens("Müller-Lüdenscheidt^Anna Maria")
    | person_tokens("Li^Bo")
    | identifier_tokens("MRN-4471")
    | identifier_tokens("St. Hedwig University Hospital, Radiology Department")
)


@pytest.mark.parametrize(
    "text",
    [
        "t1_mprage_sag_p2_iso", "AX T2 FLAIR", "Ax T1 +C", "T1W/TSE", "ep2d_diff_b1000"[:4] + " b1000", "Chest 5.0 B30f",
        "THIN LUNG 0.625mm", "AAA CTA"[4:], "SAG T1 POST GAD", "Head 3D TOF", "L-SPINE L4 L5", "Br40d\\3"[:5],
        "120kV 3.0 mm axial", "t2_tirm_tra_dark-fluid", "MR T1 c+ cor",
    ],
)  # fmt: skip
def test_a_technical_description_stays_as_it_is(text: str) -> None:
    assert NOBODY.cleaned_descriptor(text.encode()) == text.encode()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("CT Head John Smith", "CT Head"),
        ("Smith^John CT_Head", "CT_Head"),
        ("MR brain 12/03/1965", "MR brain"),
        ("MR brain 12.03.65 axial", "MR brain axial"),
        ("CT 2024-02-29", "CT"),
        ("CT 20240229", "CT"),
        ("CT 12MAR65", "CT"),
        ("tel 555 123 4567 CT", "CT"),
        ("Patient geboren 1965 Kopf", "Patient Kopf"),
        ("b1965 head", "head"),
        ("ID 8837261 LUNG", "LUNG"),
        ("1.2.840.113619.2.55 AX", "AX"),
        ("Dr. House: knee", "Dr knee"),
        ("nobody known here", ""),
    ],
)
def test_what_is_no_technical_word_goes(text: str, kept: str) -> None:
    assert NOBODY.cleaned_descriptor(text.encode()).decode() == kept


@pytest.mark.parametrize("text", [b"Kopf M\xfcller", "Kopf Müller".encode(), "Kopf 山田".encode()])
def test_words_in_other_scripts_go(text: bytes) -> None:
    assert NOBODY.cleaned_descriptor(text) == b"Kopf"


def test_a_descriptor_that_changes_its_character_set_goes() -> None:
    assert NOBODY.cleaned_descriptor(b"Head \x1b$B;3ED\x1b(B") == b""


def test_a_known_word_goes_when_someone_is_called_so() -> None:
    called = Mentions(person_tokens("Head^April"))
    assert called.cleaned_descriptor(b"CT Head axial") == b"CT axial"


@given(st.binary(max_size=64))
def test_cleaning_a_descriptor_twice_changes_nothing(value: bytes) -> None:
    once = PATIENT.cleaned_descriptor(value)
    assert PATIENT.cleaned_descriptor(once) == once
    assert once.isascii()


@given(
    st.lists(st.sampled_from([*sorted(vocabulary())[:400], "Smith", "T1", "3.0", "1965", "+", "_", " - "]))
)
def test_cleaning_words_twice_changes_nothing(words: list[str]) -> None:
    once = NOBODY.cleaned_descriptor(" ".join(words).encode())
    assert NOBODY.cleaned_descriptor(once) == once
    assert b"Smith" not in once
    assert b"1965" not in once


@pytest.mark.parametrize(
    "text",
    [
        "made for Anna", "MUELLER", "Muller", "MÜLLER", "Ludenscheidt", "li", "bo scan", "mrn 4471", "xMRN4471x", "4471",
        "Hedwig", "of 20240229", "of 29.02.2024", "1.2.840.113619.2.55.3",
    ],
)  # fmt: skip
def test_a_text_that_mentions_someone_or_a_date_goes(text: str) -> None:
    assert PATIENT.kept_text(text.encode()) == b""


@pytest.mark.parametrize(
    "text",
    [
        "SIEMENS",
        "GE MEDICAL SYSTEMS",
        "syngo CT 2012B",
        "Biograph128",
        "*tfl3d1_16ns",
        "LightSpeedApps2.4.2_H2.4M5",
        "Olivia",
    ],
)
def test_another_short_text_stays(text: str) -> None:
    assert PATIENT.kept_text(text.encode()) == text.encode()


def test_of_several_values_only_the_one_that_mentions_someone_goes() -> None:
    assert PATIENT.kept_text(b"ORIGINAL\\ANNA\\AXIAL") == b"ORIGINAL\\\\AXIAL"


def test_common_words_of_an_institution_identify_nothing() -> None:
    assert identifier_tokens("University Hospital Radiology 12") == {"universityhospitalradiology12"}
