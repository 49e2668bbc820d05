"""Patient names at rest."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config import Settings
from shared.ids import uuid7
from shared.security.keys import KeyStore
from shared.security.sealing import BrokenSeal, NameSealer

SEALER = NameSealer(bytes(range(32)))
STUDY = uuid7().bytes
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
    one, another = (NameSealer(KeyStore(Settings(data_dir=tmp_path)).secret("patient-names")) for _ in "ab")
    assert another.open(one.seal(NAME, STUDY), STUDY) == NAME
