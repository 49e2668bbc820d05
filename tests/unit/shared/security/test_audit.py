"""What goes into the audit log, and how a row is hashed."""

from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest

from shared.security.audit import make_record
from shared.security.audit_chain import START, Head, make_seal, row_hash

KEY = b"k" * 32
ID = UUID("019ab000-0000-7000-8000-000000000001")
ROW: dict[str, Any] = {
    "id": ID,
    "tenant_id": ID,
    "seq": 1,
    "at": datetime(2026, 11, 21, 12, 0, 0, 5, UTC),
    "actor_id": None,
    "credential": "token:x",
    "address": None,
    "action": "study.read",
    "outcome": "success",
    "subject_type": "study",
    "subject_id": ID,
    "patient_id": "PÄT-1",
    "trace_id": None,
    "details": {"b": [1, True, None], "a": "é"},
    "key_id": "k1",
}


def hashed(**changes: Any) -> bytes:
    return row_hash(KEY, START, {**ROW, **changes})


def test_ids_become_text_and_everything_else_stays_as_it_is() -> None:
    record = make_record("study.list", None, None, {"studies": [ID], "of": {"n": 2, "all": True}}, "success")
    assert record.details == {"studies": [str(ID)], "of": {"n": 2, "all": True}}


@pytest.mark.parametrize("value", [0.5, b"x", {1, 2}, [0.5], {"a": 0.5}, object()])
def test_what_the_database_might_write_otherwise_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="the audit log takes"):
        make_record("study.read", None, None, {"value": value}, "success")


def test_the_hash_of_a_row_is_the_same_for_ever() -> None:
    """Written out, since every row that there is would be broken by another form."""
    canonical = (
        '{"action":"study.read","at":"2026-11-21T12:00:00.000005+00:00","credential":"token:x",'
        r'"details":{"a":"\u00e9","b":[1,true,null]},'
        f'"id":"{ID}","key_id":"k1","outcome":"success","patient_id":"P\\u00c4T-1","seq":1,'
        f'"subject_id":"{ID}","subject_type":"study","tenant_id":"{ID}"}}'
    )
    padded_in = bytes(byte ^ 0x36 for byte in KEY.ljust(64, b"\0"))
    padded_out = bytes(byte ^ 0x5C for byte in KEY.ljust(64, b"\0"))
    inner = sha256(padded_in + bytes(32) + canonical.encode()).digest()
    assert hashed() == sha256(padded_out + inner).digest()


def test_the_time_zone_that_a_connection_shows_times_in_changes_nothing() -> None:
    elsewhere = ROW["at"].astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert hashed(at=elsewhere) == hashed()


@pytest.mark.parametrize("column", sorted(ROW))
def test_every_column_counts(column: str) -> None:
    other = {
        int: 2,
        str: "other",
        dict: {"a": "é"},
        UUID: UUID(int=1),
        datetime: datetime(2026, 1, 1, tzinfo=UTC),
    }
    assert hashed(**{column: other.get(type(ROW[column]), "something")}) != hashed()


def test_the_row_before_and_the_key_count() -> None:
    assert row_hash(KEY, bytes(31) + b"\1", ROW) != hashed()
    assert row_hash(b"K" * 32, START, ROW) != hashed()


def test_the_seal_of_a_head_is_for_its_tenant_number_and_hash() -> None:
    seals = {
        make_seal(KEY, ID, Head(1, b"a")),
        make_seal(KEY, ID, Head(2, b"a")),
        make_seal(KEY, ID, Head(1, b"b")),
        make_seal(KEY, UUID(int=1), Head(1, b"a")),
        make_seal(b"K" * 32, ID, Head(1, b"a")),
    }
    assert len(seals) == 5
