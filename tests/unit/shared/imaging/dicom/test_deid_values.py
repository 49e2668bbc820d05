"""UIDs, dates, times and ages."""

from datetime import date
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from shared.imaging.dicom.deid_dates import capped_age, checked_times, shift_dates, shift_datetimes
from shared.imaging.dicom.deid_pseudonyms import Pseudonyms
from tests.unit.shared.imaging.dicom.deid_images import OTHER_TENANT, SECRET, TENANT

OURS = Pseudonyms(SECRET, TENANT)
uids = st.from_regex(r"[1-9][0-9]{0,5}(\.[1-9][0-9]{0,8}){1,5}", fullmatch=True)


@given(uids)
def test_a_uid_is_replaced_by_a_valid_one_that_says_nothing(uid: str) -> None:
    new = OURS.uid(uid)
    assert UID(new).is_valid
    assert new != uid
    assert UUID(int=int(new.removeprefix("2.25."))).version == 8
    assert OURS.uid(uid) == new


@given(uids)
def test_a_uid_of_our_own_stays_and_is_recognised(uid: str) -> None:
    new = OURS.uid(uid)
    assert OURS.uid(new) == new
    assert OURS.made(new)
    assert not OURS.made(uid)
    assert not Pseudonyms(SECRET, OTHER_TENANT).made(new)
    assert not OURS.made(f"2.25.{int(new[5:]) ^ 1}")


@pytest.mark.parametrize(
    "uid", ["2.25.", "2.25.x", "2.25.-1", f"2.25.{2**128}", "2.25." + "9" * 5000, "2.25.١٢"]
)
def test_a_uid_that_is_no_uuid_is_not_our_own(uid: str) -> None:
    assert not OURS.made(uid)
    assert OURS.made(OURS.uid(uid))


@pytest.mark.parametrize("uid", [CTImageStorage, ExplicitVRLittleEndian, "1.2.840.10008.1.4.1.1", ""])
def test_what_dicom_defines_stays(uid: str) -> None:
    assert OURS.uid(uid) == uid


def test_a_uid_that_hides_in_dicoms_root_is_replaced() -> None:
    assert OURS.uid("1.2.840.10008.7734521").startswith("2.25.")


def test_tenants_and_secrets_have_uids_and_shifts_of_their_own() -> None:
    others = [Pseudonyms(SECRET, OTHER_TENANT), Pseudonyms(SECRET[::-1], TENANT)]
    assert len({each.uid("1.2.3") for each in (OURS, *others)}) == 3
    assert len({each.days("MRN-1") for each in (OURS, *others)}) == 3


@given(st.text(max_size=64))
def test_dates_are_moved_one_to_ten_years_back(patient_id: str) -> None:
    assert -3653 <= OURS.days(patient_id) <= -366
    assert OURS.days(f" {patient_id} ") == OURS.days(patient_id)


@given(st.dates(min_value=date(100, 1, 1)), st.integers(-3653, -366))
def test_a_date_moves_by_whole_days(day: date, days: int) -> None:
    moved = shift_dates(day.strftime("%Y%m%d").rjust(8, "0").encode(), days).decode()
    assert (date(int(moved[:4]), int(moved[4:6]), int(moved[6:])) - day).days == days


@pytest.mark.parametrize(
    ("value", "moved"),
    [
        (b"20240301", b"20230228"),
        (b"2024.03.01", b"20230228"),
        (b"2024-03-01", b"20230228"),
        (b"20240301\\20240302 ", b"20230228\\20230301"),
        (b"20240301\\", b"20230228\\"),
        (b"20240230", b""),
        (b"20240301-20240302", b""),
        (b"00010101", b""),
        (b"yesterday", b""),
        (b"20240301\\Smith", b""),
        ("２０２４０３０１".encode(), b""),
        (b"\xb2\xb9", b""),
    ],
)
def test_dates(value: bytes, moved: bytes) -> None:
    assert shift_dates(value, -367) == moved


@pytest.mark.parametrize(
    ("value", "moved"),
    [
        (b"20240301131415.123456+0100", b"20230228131415.123456+0100"),
        (b"20240301131415", b"20230228131415"),
        (b"2024030113", b"2023022813"),
        (b"202403", b"202302"),
        (b"2024", b"2022"),
        (b"2024+0100", b"2022+0100"),
        (b"20240301256060", b""),
        (b"Smith", b""),
    ],
)
def test_datetimes(value: bytes, moved: bytes) -> None:
    assert shift_datetimes(value, -367) == moved


@pytest.mark.parametrize("value", [b"131415", b"131415.250", b"13", b"1314", b"13:14:15", b"000000\\235960"])
def test_times_stay(value: bytes) -> None:
    assert checked_times(value) == value


@pytest.mark.parametrize("value", [b"251415", b"Smith", b"13:1415", b"131415 Smith"])
def test_what_is_no_time_goes(value: bytes) -> None:
    assert checked_times(value) == b""


@pytest.mark.parametrize(
    ("value", "capped"),
    [
        (b"042Y", b"042Y"),
        (b"42Y ", b"042Y"),
        (b"089Y", b"089Y"),
        (b"090Y", b"090Y"),
        (b"103Y", b"090Y"),
        (b"006M", b"006M"),
        (b"010D", b"010D"),
        (b"old ", b""),
    ],
)
def test_ages_over_89_are_all_the_same(value: bytes, capped: bytes) -> None:
    assert capped_age(value) == capped
