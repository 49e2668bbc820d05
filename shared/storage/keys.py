"""What a caller may ask for, the same for every adapter: buckets, keys, ranges, lifetimes of signed URLs."""

import unicodedata
from datetime import timedelta

from shared.errors import Invalid
from shared.storage.port import BUCKETS

MAX_KEY_BYTES = 1024  # S3
MAX_SEGMENT_BYTES = 255  # ext4, XFS, APFS
MAX_EXPIRY = timedelta(days=7)  # signature v4


def check_key(bucket: str, key: str) -> list[str]:
    """The key's segments. Raises Invalid where bucket or key break the rules of the port."""
    check_bucket(bucket)
    _check_text(key)
    segments = key.split("/")
    for segment in segments:
        if segment in ("", ".", ".."):
            raise Invalid("A storage key is relative, without empty, '.' or '..' segments.")
        if len(segment.encode()) > MAX_SEGMENT_BYTES:
            raise Invalid(f"A segment of a storage key has at most {MAX_SEGMENT_BYTES} bytes in UTF-8.")
    return segments


def is_key(key: str) -> bool:
    """Whether `key` keeps the rules; a store written by others too may hold names that do not."""
    try:
        check_key(BUCKETS[0], key)
    except Invalid:
        return False
    return True


def check_prefix(bucket: str, prefix: str) -> list[str]:
    """The whole segments of a listing prefix; its last, partial one is left out. Raises Invalid."""
    check_bucket(bucket)
    _check_text(prefix)
    folder, slash, _ = prefix.rpartition("/")
    return check_key(bucket, folder) if slash else []


def check_bucket(bucket: str) -> None:
    """Raises Invalid unless `bucket` is one of ours."""
    if bucket not in BUCKETS:
        raise Invalid(f"There is no such bucket; buckets are {', '.join(BUCKETS)}.")


def check_range(start: int, length: int) -> None:
    """Raises Invalid for a range that begins before the object or has a negative length."""
    if start < 0 or length < 0:
        raise Invalid("A range needs start ≥ 0 and length ≥ 0.")


def check_expiry(expires: timedelta) -> int:
    """Seconds for which a signed URL lives. Raises Invalid under one second or over seven days."""
    seconds = int(expires.total_seconds())
    if not 1 <= seconds <= MAX_EXPIRY.total_seconds():
        raise Invalid("A signed URL lives for one second to seven days.")
    return seconds


def _check_text(text: str) -> None:
    if "\\" in text or any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise Invalid("A storage key has no backslash, control character or unpaired surrogate.")
    if len(text.encode()) > MAX_KEY_BYTES:
        raise Invalid(f"A storage key has at most {MAX_KEY_BYTES} bytes in UTF-8.")
