"""Notices of object stores, as they really come."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import TooLarge
from shared.events.notices import MOST, MalformedNotice, ObjectNotice, parse

KEY = "default/brain-mri/Müller +Otto/a&b %25 x.nii"
ENCODED = "default/brain-mri/M%C3%BCller+%2BOtto/a%26b+%2525+x.nii"


def record(
    key: str, source: str | None = "aws:s3", name: str = "ObjectCreated:Put", **more: Any
) -> dict[str, Any]:
    """An S3 record."""
    return {
        "eventVersion": "2.1",
        **({"eventSource": source} if source else {}),
        "eventTime": "2026-11-21T17:56:29.298Z",
        "eventName": name,
        "s3": {
            "bucket": {"name": "incoming", "arn": "arn:aws:s3:::incoming"},
            "object": {"key": key, "size": 5, "eTag": "5d41402abc4b2a76b9719d911017c592", **more},
        },
    }


def read(document: object, headers: dict[str, str] | None = None) -> list[ObjectNotice]:
    notices = parse(headers or {}, json.dumps(document).encode())
    assert notices is not None
    return notices


# Captured from Ceph 16.2: its keys are as they are, its sequencer is little-endian.
CEPH = (
    '{"Records":[{"eventVersion":"2.2","eventSource":"ceph:s3","awsRegion":"","eventTime":"2026-11-21T17:56:29.298927Z",'
    '"eventName":"ObjectCreated:Put","userIdentity":{"principalId":"test"},"requestParameters":{"sourceIPAddress":""},'
    '"responseElements":{"x-amz-request-id":"3d2d31a0-4168-4821-b9aa-8456921cf051.4107.2887393262696993664",'
    '"x-amz-id-2":"100b-default-default"},"s3":{"s3SchemaVersion":"1.0","configurationId":"plain","bucket":{"name":'
    '"incoming","ownerIdentity":{"principalId":"test"},"arn":"arn:aws:s3:::incoming","id":"3d2d31a0"},"object":{"key":'
    f'"{KEY}","size":5,"eTag":"5d41402abc4b2a76b9719d911017c592","versionId":"",'
    '"sequencer":"4DDB016BC1A7F211","metadata":[{"key":"x-amz-date","val":"20261121T175627Z"}],"tags":[]}},'
    '"eventId":"1795283789.301115.5d41402abc4b2a76b9719d911017c592","opaqueData":""}]}'
).encode()


def test_ceph_sends_keys_as_they_are() -> None:
    [notice] = parse({"content-type": "application/json"}, CEPH) or []
    assert notice.bucket == "incoming" and notice.created
    assert notice.keys[0] == KEY


@pytest.mark.parametrize("name", ["s3:ObjectCreated:Put", "ObjectCreated:CompleteMultipartUpload"])
def test_another_ceph_may_encode_them(name: str) -> None:
    [notice] = read({"Records": [record(ENCODED, "ceph:s3", name)]})
    assert KEY in notice.keys and notice.created


def test_ceph_wraps_its_records_into_a_cloud_event_when_asked_to() -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-type": "com.amazonaws.ObjectCreated:Put",
        "ce-id": "1",
        "ce-subject": KEY,
    }
    assert parse(headers, CEPH) == parse({}, CEPH)


@pytest.mark.parametrize("way", ["Put", "Post", "Copy", "CompleteMultipartUpload"])
def test_aws_encodes_keys(way: str) -> None:
    [notice] = read({"Records": [record(ENCODED, name=f"ObjectCreated:{way}")]})
    assert notice == ObjectNotice("incoming", (KEY,), created=True)


def test_minio_names_the_object_twice() -> None:
    records = [record(ENCODED, "minio:s3", "s3:ObjectCreated:Put")]
    [notice] = read({"EventName": "s3:ObjectCreated:Put", "Key": f"incoming/{KEY}", "Records": records})
    assert notice.keys[0] == KEY
    [short] = read({"EventName": "s3:ObjectCreated:Put", "Key": f"incoming/{KEY}"})
    assert (short.bucket, short.keys[0]) == ("incoming", KEY)


def test_event_bridge_sends_keys_as_they_are() -> None:
    detail = {
        "bucket": {"name": "incoming"},
        "object": {"key": KEY, "size": 5, "etag": "x", "sequencer": "00"},
    }
    event = {"version": "0", "detail-type": "Object Created", "source": "aws.s3", "detail": detail}
    assert read(event) == [ObjectNotice("incoming", (KEY,), created=True)]
    assert not read({**event, "detail-type": "Object Deleted"})[0].created


def test_sns_wraps_them_into_text() -> None:
    wrapped = {"Type": "Notification", "TopicArn": "arn:aws:sns:eu-central-1:1:incoming", "MessageId": "1"}
    message = json.dumps({"Records": [record(ENCODED)]})
    assert read({**wrapped, "Message": message}) == read({"Records": [record(ENCODED)]})
    assert read({**wrapped, "Message": json.dumps({"Event": "s3:TestEvent", "Bucket": "incoming"})}) == []
    for wrong in ("x", "[]", "{}", None, json.dumps({**wrapped, "Message": message})):
        with pytest.raises(MalformedNotice):
            read({**wrapped, "Message": wrong})


@pytest.mark.parametrize(
    "url",
    [
        "https://sns.eu-central-1.amazonaws.com/?Action=Confirm",
        "https://elsewhere.example",
        "https://[",
        5,
        None,
    ],
)
def test_an_sns_subscription_is_not_confirmed_by_us(url: object) -> None:
    asked = {
        "Type": "SubscriptionConfirmation",
        "TopicArn": "arn:aws:sns:eu-central-1:1:x",
        "SubscribeURL": url,
    }
    assert read(asked) == []


@pytest.mark.parametrize(
    "data",
    [
        {"Records": [record(ENCODED)]},
        record(ENCODED),
        {"bucket": {"name": "incoming"}, "object": {"key": KEY}},
    ],
)
def test_cloud_events_carry_any_of_them(data: dict[str, Any]) -> None:
    headers = {"ce-specversion": "1.0", "ce-type": "com.amazonaws.s3.objectcreated"}
    structured = {"specversion": "1.0", "type": "com.amazonaws.s3.ObjectCreated:Put", "id": "1", "data": data}
    for notices in (read(data, headers), read(structured)):
        assert [notice.keys for notice in notices] == [(KEY,)]


def test_the_test_notice_of_s3_tells_of_nothing() -> None:
    assert read({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "incoming"}) == []


@pytest.mark.parametrize(
    "name", ["ObjectRemoved:Delete", "s3:ObjectRemoved:DeleteMarkerCreated", "ObjectTagging:Put"]
)
def test_what_is_no_creation_is_told_apart(name: str) -> None:
    assert not read({"Records": [record(ENCODED, name=name)]})[0].created


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"5", b"\xff", b"{}", b'{"type": "hounsfield.x"}', b"[" * 100_000]
)
def test_what_is_no_notice_is_left_to_others(body: bytes) -> None:
    assert parse({}, body) is None


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"s3": {}}, "s3.bucket.name"),
        ({"s3": None}, "s3.bucket.name"),
        ({"eventName": 5}, "eventName"),
        ({"s3": {"bucket": {"name": "b"}, "object": {"key": ["JOHN DOE"]}}}, "s3.object.key"),
    ],
)
def test_a_record_that_lacks_something_is_named_by_number(change: dict[str, Any], what: str) -> None:
    with pytest.raises(MalformedNotice) as refused:
        read({"Records": [record(ENCODED), {**record("JOHN DOE"), **change}]})
    assert refused.value.detail == f"record 2: {what} is missing, or no text"


@pytest.mark.parametrize("records", [5, None, {}, ["x"], [None]])
def test_records_that_are_none_are_refused(records: object) -> None:
    with pytest.raises(MalformedNotice):
        read({"Records": records})


def test_a_body_holds_a_thousand_notices_at_most() -> None:
    assert len(read({"Records": [record("k")] * MOST})) == MOST
    with pytest.raises(TooLarge, match="at most 1000 notices, not 1001"):
        read({"Records": [record("k")] * (MOST + 1)})


NAMES = [
    "Records",
    "s3",
    "bucket",
    "object",
    "key",
    "name",
    "eventName",
    "detail",
    "detail-type",
    "Type",
    "TopicArn",
    "Message",
    "EventName",
    "Key",
    "data",
]
VALUES = ["Notification", "Object Created", "com.amazonaws.x", "1.0"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(VALUES),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*NAMES, "specversion", "type"]), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_comes_is_read_or_refused(document: Any) -> None:
    with suppress(MalformedNotice, TooLarge):
        for notice in parse({}, json.dumps(document).encode()) or []:
            assert isinstance(notice.bucket, str) and all(isinstance(key, str) for key in notice.keys)
