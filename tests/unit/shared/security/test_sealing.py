"""Patient names at rest."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from shared.config import Settings
from shared.ids import uuid7
from shared.security.keys import KeyStore
from shared.security.rings import derive, new_content
from shared.security.sealing import KEY_ID, BrokenSeal, NameRing, NameSealer

SEALER = NameSealer(bytes(range(32)))
STUDY_ID = uuid7()
STUDY = STUDY_ID.bytes
NAME = "A patient"
names = st.text(st.characters(exclude_categories=["Cs"]))


@given(name=names, study=st.binary())
def test_a_sealed_name_opens_for_its_own_study(name: str, study: bytes) -> None:
    assert SEALER.open(SEALER.seal(name, study), study) == name


@given(name=names)
def test_a_sealed_name_does_not_open_for_another_study(name: str) -> None:
    with pytest.raises(BrokenSeal):
        SEALER.open(SEALER.seal(name, STUDY), uuid7().bytes)


@given(position=st.integers(0, 1 + 4 + 12 + len(NAME) + 16 - 1), bit=st.integers(0, 7))
def test_a_sealed_name_with_any_bit_changed_does_not_open(position: int, bit: int) -> None:
    sealed = bytearray(SEALER.seal(NAME, STUDY))
    sealed[position] ^= 1 << bit
    with pytest.raises(BrokenSeal):
        SEALER.open(bytes(sealed), STUDY)


@given(length=st.integers(0, 1 + 4 + 12 + len(NAME) + 16 - 1))
def test_a_sealed_name_that_was_cut_short_does_not_open(length: int) -> None:
    with pytest.raises(BrokenSeal):
        SEALER.open(SEALER.seal(NAME, STUDY)[:length], STUDY)


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(BrokenSeal, match="another key"):
        NameSealer(bytes(32)).open(SEALER.seal(NAME, STUDY), STUDY)


def test_the_same_name_is_sealed_differently_each_time() -> None:
    sealed = {SEALER.seal(NAME, STUDY) for _ in range(50)}
    assert len(sealed) == 50
    assert len({one[:5] for one in sealed}) == 1  # version and key id, for a later rotation
    assert not any(NAME.encode() in one for one in sealed)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_secret_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        NameSealer(bytes(length))


def test_every_process_of_a_deployment_opens_what_another_sealed(tmp_path: Path) -> None:
    one, another = (NameRing(KeyStore(Settings(data_dir=tmp_path)).names) for _ in "ab")
    assert another.open(one.seal(NAME, STUDY_ID), STUDY_ID) == NAME


def test_names_outlive_a_rotation_and_new_ones_are_sealed_with_the_new_key(tmp_path: Path) -> None:
    store = KeyStore(Settings(data_dir=tmp_path))
    before = NameRing(store.names).seal(NAME, STUDY_ID)
    store.rotate("names")
    names = NameRing(KeyStore(Settings(data_dir=tmp_path)).names)
    after = names.seal(NAME, STUDY_ID)
    assert before[KEY_ID] != after[KEY_ID]
    assert names.open(before, STUDY_ID) == names.open(after, STUDY_ID) == NAME


def test_a_name_that_another_process_sealed_with_a_key_made_just_now_opens(tmp_path: Path) -> None:
    here, there = (KeyStore(Settings(data_dir=tmp_path)) for _ in "ab")
    _ = here.names.newest
    there.rotate("names")
    assert NameRing(here.names).open(NameRing(there.names).seal(NAME, STUDY_ID), STUDY_ID) == NAME


def test_a_name_sealed_before_there_were_rings_opens(tmp_path: Path) -> None:
    store = KeyStore(Settings(data_dir=tmp_path))
    old = tmp_path / "keys" / "signing.pem"
    (tmp_path / "keys").mkdir()
    old.write_bytes(new_content("signing"))
    raw = store.private_key.private_bytes_raw()
    sealed = NameSealer(derive(raw, "patient-names")).seal(NAME, STUDY)
    names = NameRing(store.names)
    assert names.open(sealed, STUDY_ID) == NAME
    assert names.seal(NAME, STUDY_ID)[KEY_ID] != sealed[KEY_ID]


@given(sealed=st.binary(max_size=80))
def test_what_was_never_sealed_is_left_out_with_a_warning_that_says_nothing_of_it(sealed: bytes) -> None:
    with TemporaryDirectory() as folder, capture_logs() as logs:
        names = NameRing(KeyStore(Settings(data_dir=Path(folder))).names)
        assert names.open_if_possible(None, STUDY_ID) is None
        assert names.open_if_possible(sealed, STUDY_ID) is None
    (warning,) = logs
    assert (warning["log_level"], warning["study_id"]) == ("warning", str(STUDY_ID))
    assert set(warning) == {"event", "log_level", "study_id", "why"}
