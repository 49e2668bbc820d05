"""Notices that an object store sends of a new object: S3 records, EventBridge, SNS, CloudEvents round any of these.

Only bucket and key are read from a notice. Whether the object is there, how large it is and in which version is asked
of the store itself: notices come late, twice, out of order, and from whoever knows the token. Ceph's sequencers cannot
even be compared (they are little-endian), and its keys are as they are where everybody else's are URL-encoded.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus, urlsplit

import structlog

from shared.errors import Invalid, TooLarge

log = structlog.get_logger(__name__)

MOST = 1000
"""Notices in one body."""
_CLOUD_EVENTS = ("com.amazonaws.", "com.amazon.s3.")
"""How the types of CloudEvents begin that hold a notice: Ceph, the CloudEvents adapter for S3, TriggerMesh."""
_CREATED = ("ObjectCreated", "ObjectSynced", "Object Created", "objectcreated")


class MalformedNotice(Invalid):
    """A notice that lacks what every notice has."""

    slug, title = "malformed-notice", "Malformed notice"


@dataclass(frozen=True)
class ObjectNotice:
    """Something happened to an object."""

    bucket: str
    """As the store calls it."""
    keys: tuple[str, ...]
    """What its key may be, likeliest first: some senders encode keys and some do not."""
    created: bool
    """False for what is of no interest, such as a removal."""


def parse(headers: Mapping[str, str], body: bytes) -> list[ObjectNotice] | None:
    """The notices in a request; None where it holds something else. Raises MalformedNotice, TooLarge."""
    document = _document(body)
    if document is None:
        return None
    kind = headers.get("ce-type")
    if kind is not None:
        return _inside(document) if kind.startswith(_CLOUD_EVENTS) else None
    if str(document.get("type")).startswith(_CLOUD_EVENTS) and "specversion" in document:
        return _inside(document.get("data"))
    return _found(document)


def _document(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _inside(data: object) -> list[ObjectNotice]:
    """What a CloudEvent carries. Raises MalformedNotice."""
    if isinstance(data, dict):
        found = _found(data)
        if found is not None:
            return found
        if "s3" in data:
            return [_record(data, "the record")]
        if "bucket" in data and "object" in data:
            return [_detail(data, created=True)]
    raise MalformedNotice(
        "the event's data holds no notice: it is Records, one record, or EventBridge's detail"
    )


def _found(document: dict[str, Any]) -> list[ObjectNotice] | None:
    if "Records" in document:
        return list(_records(document["Records"]))
    if document.get("Event") == "s3:TestEvent":
        return []
    if "EventName" in document and "Key" in document:
        return [_top_level(document)]
    if "detail-type" in document and "detail" in document:
        return [_detail(document["detail"], created=document["detail-type"] in _CREATED)]
    if document.get("Type") in ("Notification", "SubscriptionConfirmation") and "TopicArn" in document:
        return _from_sns(document)
    return None


def _from_sns(document: dict[str, Any]) -> list[ObjectNotice]:
    if document["Type"] == "SubscriptionConfirmation":
        _tell_of_subscription(document.get("SubscribeURL"))
        return []
    message = document.get("Message")
    inner = _document(message.encode(errors="replace")) if isinstance(message, str) else None
    if inner is None or "TopicArn" in inner:
        raise MalformedNotice("Message is no JSON object with Records")
    found = _found(inner)
    if found is None:
        raise MalformedNotice("Message is no notice of S3")
    return found


def _tell_of_subscription(url: object) -> None:
    """Nothing is fetched because somebody wrote its address into a request; an operator may."""
    try:
        host = urlsplit(url).hostname if isinstance(url, str) else None
    except ValueError:
        host = None
    if host and host.startswith("sns.") and host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        log.warning("an SNS subscription waits until somebody opens its address", url=url)


def _records(records: object) -> Iterator[ObjectNotice]:
    if not isinstance(records, list):
        raise MalformedNotice("Records is no list")
    if len(records) > MOST:
        raise TooLarge(f"a body holds at most {MOST} notices, not {len(records)}; send them in several")
    for number, record in enumerate(records, 1):
        yield _record(record, f"record {number}")


def _record(record: object, label: str) -> ObjectNotice:
    name = _text(record, label, "eventName")
    bucket = _text(record, label, "s3", "bucket", "name")
    key = _text(record, label, "s3", "object", "key")
    source = record.get("eventSource") if isinstance(record, dict) else None
    decoded = unquote_plus(key)
    if source == "aws:s3":
        keys: tuple[str, ...] = (decoded,)
    else:
        keys = (key, decoded) if source == "ceph:s3" else (decoded, key)
    return ObjectNotice(bucket, tuple(dict.fromkeys(keys)), _is_creation(name))


def _top_level(document: dict[str, Any]) -> ObjectNotice:
    name = _text(document, "the notice", "EventName")
    bucket, _, key = _text(document, "the notice", "Key").partition("/")
    return ObjectNotice(bucket, tuple(dict.fromkeys((key, unquote_plus(key)))), _is_creation(name))


def _detail(detail: object, *, created: bool) -> ObjectNotice:
    """EventBridge: its keys are as they are."""
    if not created:
        return ObjectNotice("", (), created=False)
    bucket = _text(detail, "detail", "bucket", "name")
    return ObjectNotice(bucket, (_text(detail, "detail", "object", "key"),), created=True)


def _is_creation(name: str) -> bool:
    return name.removeprefix("s3:").startswith(_CREATED)


def _text(value: object, label: str, *path: str) -> str:
    """The text at a path, whose value is never repeated. Raises MalformedNotice."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, str):
        raise MalformedNotice(f"{label}: {'.'.join(path)} is missing, or no text")
    return value
