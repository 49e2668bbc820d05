"""What every object store does. `TestFolder` always runs; `TestS3` runs where HOUNSFIELD_TEST_S3 is set.

`tests/e2e/test_storage_on_ceph.py` runs the same suite on a Ceph that it starts itself.
"""

import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import boto3
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.config import load_settings
from shared.errors import Forbidden, Invalid, Unavailable
from shared.storage.factory import make_storage
from shared.storage.folder import FolderStorage
from shared.storage.port import Bucket, ObjectNotFound, ObjectRef, Part, PartMismatch, Storage, UploadNotFound
from shared.storage.s3 import SINGLE_PUT_BYTES, S3Storage
from shared.storage.signing import UrlSigner, attachment
from tests.e2e.ceph import s3_environment

HOUR = timedelta(hours=1)
SECRET = b"the suite's own secret"
SMALLEST_PART = 5 * 1024 * 1024
NO_SUCH_UPLOAD = "0123456789abcdef0123456789abcdef"

SEGMENTS = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/\\"), min_size=1, max_size=12
).filter(lambda segment: segment not in (".", ".."))
KEYS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)
"""Keys of every script and symbol that the port allows."""
NEAR_SEGMENTS = st.sampled_from(["a", "a-", "a.", "a0", "b", "é", "z"])
NEAR_KEYS = st.lists(NEAR_SEGMENTS, min_size=1, max_size=3).map("/".join)
"""Keys that differ where `/` sorts before or after other characters."""
BAD_KEYS = ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\\b", "a\0b", "a\nb", "a\x7fb", "\ud800"]
BAD_KEYS += ["x" * 256, "é" * 128, "/".join(["x" * 99] * 11)]

examples = settings(
    deadline=None,
    max_examples=40,
    # One suite runs in several classes by design; see StorageContract.
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)


@dataclass(frozen=True)
class Answer:
    """What a signed URL answered."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Subject:
    """A store under test."""

    storage: Storage
    environment: dict[str, str]
    """Settings with which another process reaches the same store."""
    fetch: Callable[[str, str, bytes], Answer]
    """Uses a signed URL: method, URL, body."""


def fresh(tail: str = "") -> str:
    """A key prefix that no other test uses."""
    return f"{uuid.uuid4().hex}/{tail}"


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that repeat nowhere."""
    return random.Random(seed).randbytes(size)


def keys_of(storage: Storage, bucket: Bucket, prefix: str) -> list[str]:
    """Keys as listed."""
    return [ref.key for ref in storage.list_objects(bucket, prefix)]


def without_nesting(keys: set[str]) -> list[str]:
    """The keys beneath which no other key lies: a folder cannot hold "a" and "a/b"."""
    return [key for key in keys if not any(other.startswith(key + "/") for other in keys)]


def bare(ref: ObjectRef) -> ObjectRef:
    """What writing tells of an object; its ETag and time are asked for."""
    assert ref.etag
    assert ref.modified
    return ref.model_copy(update={"etag": None, "modified": None})


class OneWay(io.BytesIO):
    """A stream that can only be read forwards, like the body of a request."""

    def seekable(self) -> bool:
        return False

    def seek(self, offset: int, whence: int = 0, /) -> int:
        raise io.UnsupportedOperation("seek")

    def tell(self) -> int:
        raise io.UnsupportedOperation("tell")


class Breaking(OneWay):
    """A stream whose sender goes away in the middle."""

    def read(self, size: int | None = -1, /) -> bytes:
        if block := super().read(1000):
            return block
        raise ConnectionResetError("the client is gone")


class StorageContract:
    """The suite. A subclass provides the class-scoped fixture `subject`."""

    @pytest.fixture
    def storage(self, subject: Subject) -> Storage:
        return subject.storage

    # Objects

    def test_what_was_put_is_read_back_with_its_size_and_hash(self, storage: Storage) -> None:
        key, data = fresh("slice.dcm"), noise(100_000)
        written = storage.put("incoming", key, data, "application/dicom")
        assert written.sha256 == hashlib.sha256(data).hexdigest()
        assert (written.bucket, written.key, written.size) == ("incoming", key, len(data))
        assert written.uri == f"object://incoming/{key}"
        assert bare(storage.head("incoming", key)) == written
        assert storage.read("incoming", key) == data

    def test_an_object_may_be_empty(self, storage: Storage) -> None:
        key = fresh("empty")
        assert storage.put("studies", key, b"").size == 0
        assert storage.read("studies", key) == b""
        assert storage.read_range("studies", key, 0, 10) == b""
        assert keys_of(storage, "studies", key) == [key]

    def test_a_seekable_stream_is_stored_from_where_it_stands_and_left_open(self, storage: Storage) -> None:
        stream = io.BytesIO(b"header" + noise(3_000_000))
        stream.seek(6)
        written = storage.put("studies", fresh("volume"), stream)
        assert storage.read("studies", written.key) == noise(3_000_000)
        assert written.sha256 == hashlib.sha256(noise(3_000_000)).hexdigest()
        assert not stream.closed

    def test_a_stream_that_cannot_seek_is_stored_whole(self, storage: Storage) -> None:
        data = noise(9_000_000)
        written = storage.put("studies", fresh("volume"), OneWay(data))
        assert storage.head("studies", written.key).sha256 == hashlib.sha256(data).hexdigest()
        assert storage.read("studies", written.key) == data

    def test_an_object_larger_than_a_single_put_is_stored_whole(self, storage: Storage) -> None:
        data = noise(SINGLE_PUT_BYTES + 1)
        written = storage.put("models", fresh("weights.safetensors"), io.BytesIO(data))
        assert bare(storage.head("models", written.key)) == written
        with storage.open("models", written.key) as stream:
            assert hashlib.sha256(stream.read()).hexdigest() == written.sha256
        storage.delete("models", written.key)

    def test_a_stream_that_fails_leaves_what_was_there(self, storage: Storage) -> None:
        key = fresh("slice")
        storage.put("incoming", key, b"before")
        with pytest.raises(ConnectionResetError):
            storage.put("incoming", key, Breaking(noise(10_000)))
        assert storage.read("incoming", key) == b"before"

    def test_a_file_that_was_written_for_it_becomes_the_object(
        self, subject: Subject, tmp_path: Path
    ) -> None:
        storage, key, data = subject.storage, fresh("made"), noise(3 * 2**20 + 1)
        (tmp_path / "made").write_bytes(data)
        ref = storage.adopt("studies", key, tmp_path / "made", "image/tiff")
        assert (ref.key, ref.size, ref.sha256) == (key, len(data), hashlib.sha256(data).hexdigest())
        assert (tmp_path / "made").read_bytes() == data
        (tmp_path / "made").unlink()
        assert storage.read("studies", key) == data
        assert storage.head("studies", key).sha256 == ref.sha256

    def test_an_adopted_file_replaces_what_was_there(self, storage: Storage, tmp_path: Path) -> None:
        key = fresh("made")
        storage.put("studies", key, b"first")
        (tmp_path / "next").write_bytes(b"next")
        storage.adopt("studies", key, tmp_path / "next")
        storage.adopt("studies", key, tmp_path / "next")
        assert storage.read("studies", key) == b"next"

    def test_putting_again_replaces(self, storage: Storage) -> None:
        key = fresh("result.json")
        storage.put("studies", key, b"first, and longer")
        second = storage.put("studies", key, b"second")
        assert storage.read("studies", key) == b"second"
        assert bare(storage.head("studies", key)) == second

    def test_buckets_are_apart(self, storage: Storage) -> None:
        key = fresh("same")
        storage.put("incoming", key, b"1")
        storage.put("models", key, b"2")
        assert (storage.read("incoming", key), storage.read("models", key)) == (b"1", b"2")
        with pytest.raises(ObjectNotFound):
            storage.head("studies", key)

    def test_an_open_stream_is_read_in_pieces_and_to_its_end(self, storage: Storage) -> None:
        key, data = fresh("volume"), noise(700_001)
        storage.put("studies", key, data)
        with storage.open("studies", key) as stream:
            assert stream.read(10) == data[:10]
            pieces = list(iter(lambda: stream.read(100_000), b""))
        assert b"".join(pieces) == data[10:]
        assert stream.closed

    def test_an_absent_object_is_not_found(self, storage: Storage) -> None:
        key = fresh("absent")
        with pytest.raises(ObjectNotFound):
            storage.head("studies", key)
        with pytest.raises(ObjectNotFound):
            storage.open("studies", key)
        with pytest.raises(ObjectNotFound):
            storage.read_range("studies", key, 0, 1)
        with pytest.raises(ObjectNotFound):
            storage.read_range("studies", key, 0, 0)

    def test_a_folder_of_objects_is_no_object(self, storage: Storage) -> None:
        folder = fresh("series")
        storage.put("studies", f"{folder}/1.dcm", b"1")
        with pytest.raises(ObjectNotFound):
            storage.head("studies", folder)
        with pytest.raises(ObjectNotFound):
            storage.open("studies", folder)
        storage.delete("studies", folder)
        assert keys_of(storage, "studies", folder) == [f"{folder}/1.dcm"]

    def test_a_deleted_object_is_gone_and_deleting_again_is_no_error(self, storage: Storage) -> None:
        prefix = fresh()
        for name in ("a/b/c", "a/d"):
            storage.put("studies", prefix + name, b"x")
        storage.delete("studies", prefix + "a/b/c")
        storage.delete("studies", prefix + "a/b/c")
        assert keys_of(storage, "studies", prefix) == [prefix + "a/d"]
        with pytest.raises(ObjectNotFound):
            storage.head("studies", prefix + "a/b/c")

    def test_what_follows_a_deleted_object_under_its_key_is_another_object(self, storage: Storage) -> None:
        key = fresh("a/b")
        storage.put("studies", key, b"first")
        storage.delete("studies", key)
        storage.put("studies", key, b"later")
        assert storage.head("studies", key).sha256 == hashlib.sha256(b"later").hexdigest()

    def test_a_prefix_is_deleted_and_nothing_beside_it(self, storage: Storage) -> None:
        prefix = fresh()
        for name in ("study-1/a", "study-1/b/c", "study-10/a"):
            storage.put("studies", prefix + name, b"x")
        assert storage.delete_prefix("studies", prefix + "study-1/") == 2
        assert keys_of(storage, "studies", prefix) == [prefix + "study-10/a"]

    @given(size=st.integers(0, 5000), start=st.integers(0, 6000), length=st.integers(0, 6000))
    @examples
    def test_a_range_is_the_slice_of_the_whole(
        self, subject: Subject, size: int, start: int, length: int
    ) -> None:
        key, data = fresh("volume"), noise(size)
        subject.storage.put("studies", key, data)
        assert subject.storage.read_range("studies", key, start, length) == data[start : start + length]

    def test_a_range_far_past_the_end_is_empty_and_a_huge_one_is_cut(self, storage: Storage) -> None:
        key = fresh("volume")
        storage.put("studies", key, b"0123456789")
        assert storage.read_range("studies", key, 2**40, 1) == b""
        assert storage.read_range("studies", key, 8, 2**40) == b"89"

    @pytest.mark.parametrize(("start", "length"), [(-1, 5), (0, -1)])
    def test_a_range_is_not_negative(self, storage: Storage, start: int, length: int) -> None:
        key = fresh("volume")
        storage.put("studies", key, b"0123456789")
        with pytest.raises(Invalid):
            storage.read_range("studies", key, start, length)

    # Keys and listings

    @given(key=KEYS)
    @examples
    def test_every_key_that_keeps_the_rules_works(self, subject: Subject, key: str) -> None:
        storage, full = subject.storage, fresh(key)
        storage.put("incoming", full, b"x")
        assert storage.head("incoming", full).key == full
        assert keys_of(storage, "incoming", full) == [full]
        assert subject.fetch("GET", storage.sign_get("incoming", full, HOUR), b"").body == b"x"
        storage.delete("incoming", full)
        assert keys_of(storage, "incoming", full) == []

    def test_the_longest_key_works(self, storage: Storage) -> None:
        key = "/".join([uuid.uuid4().hex * 7 + "é" * 15] * 4)[:1024]
        key = key.encode()[:1024].decode(errors="ignore")
        storage.put("incoming", key, b"x")
        assert storage.read("incoming", key) == b"x"
        assert storage.head("incoming", key).sha256 is not None

    @pytest.mark.parametrize("key", BAD_KEYS, ids=lambda key: repr(key)[:20])
    def test_a_key_that_breaks_the_rules_is_refused_everywhere(self, storage: Storage, key: str) -> None:
        calls: list[Callable[[], object]] = [
            lambda: storage.put("incoming", key, b"x"),
            lambda: storage.head("incoming", key),
            lambda: storage.open("incoming", key),
            lambda: storage.read_range("incoming", key, 0, 1),
            lambda: storage.delete("incoming", key),
            lambda: storage.copy("incoming", key, "studies", "copy"),
            lambda: storage.copy("studies", "original", "incoming", key),
            lambda: storage.local_path("incoming", key).__enter__(),
            lambda: storage.start_multipart("incoming", key),
            lambda: storage.sign_part("incoming", key, NO_SUCH_UPLOAD, 1, HOUR),
            lambda: storage.list_parts("incoming", key, NO_SUCH_UPLOAD),
            lambda: storage.complete_multipart("incoming", key, NO_SUCH_UPLOAD, [Part(1, "0" * 32, 1)]),
            lambda: storage.abort_multipart("incoming", key, NO_SUCH_UPLOAD),
            lambda: storage.sign_get("incoming", key, HOUR),
        ]
        for call in calls:
            with pytest.raises(Invalid):
                call()

    @pytest.mark.parametrize("prefix", ["/", "../", "a/../", "a//", "a\\", "a\n"])
    def test_a_prefix_that_no_key_can_have_is_refused(self, storage: Storage, prefix: str) -> None:
        with pytest.raises(Invalid):
            storage.list_objects("incoming", prefix)

    @given(keys=st.sets(NEAR_KEYS, min_size=1, max_size=8).map(without_nesting), cut=st.integers(0, 3))
    @examples
    def test_a_listing_is_in_byte_order_and_holds_exactly_the_prefix(
        self, subject: Subject, keys: list[str], cut: int
    ) -> None:
        base = fresh()
        for key in keys:
            subject.storage.put("studies", base + key, key.encode())
        prefix = keys[0][:cut]
        listed = list(subject.storage.list_objects("studies", base + prefix))
        wanted = sorted((key for key in keys if key.startswith(prefix)), key=str.encode)
        assert [ref.key.removeprefix(base) for ref in listed] == wanted
        assert [ref.size for ref in listed] == [len(key.encode()) for key in wanted]

    def test_a_listing_goes_on_past_a_thousand_objects(self, storage: Storage) -> None:
        prefix = fresh()
        names = [f"{number // 100}/{number:05d}" for number in range(1005)]
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda name: storage.put("studies", prefix + name, b"x"), names))
        assert keys_of(storage, "studies", prefix) == sorted(prefix + name for name in names)

    def test_an_etag_stays_until_the_object_changes_and_is_listed_too(self, storage: Storage) -> None:
        key = fresh("watched")
        storage.put("incoming", key, b"first")
        before = storage.head("incoming", key)
        [listed] = storage.list_objects("incoming", key)
        again = storage.head("incoming", key)
        assert before.etag == again.etag == listed.etag
        storage.put("incoming", key, b"later")
        assert storage.head("incoming", key).etag != before.etag

    def test_an_object_tells_when_it_was_written(self, storage: Storage) -> None:
        key, began = fresh("timed"), datetime.now(UTC)
        storage.put("incoming", key, b"x")
        [listed] = storage.list_objects("incoming", key)
        for modified in (storage.head("incoming", key).modified, listed.modified):
            assert modified is not None
            assert abs(modified - began) < timedelta(seconds=30)

    # Copies and local files

    def test_a_copy_has_the_bytes_the_hash_and_the_media_type(self, subject: Subject) -> None:
        storage, source, target = subject.storage, fresh("received"), fresh("kept/original")
        written = storage.put("incoming", source, noise(100_000), "application/dicom")
        copied = storage.copy("incoming", source, "studies", target)
        assert (copied.bucket, copied.key) == ("studies", target)
        assert (copied.size, copied.sha256) == (written.size, written.sha256)
        assert bare(storage.head("studies", target)) == copied
        assert storage.read("studies", target) == noise(100_000)
        answer = subject.fetch("GET", storage.sign_get("studies", target, HOUR), b"")
        assert answer.headers["content-type"] == "application/dicom"

    @pytest.mark.parametrize("change", ["replaced", "deleted"])
    @pytest.mark.parametrize("changed", ["source", "copy"])
    def test_a_copy_is_another_object(self, storage: Storage, change: str, changed: str) -> None:
        keys = {"source": fresh("source"), "copy": fresh("copy")}
        storage.put("studies", keys["source"], b"kept")
        storage.copy("studies", keys["source"], "studies", keys["copy"])
        if change == "replaced":
            storage.put("studies", keys[changed], b"new")
        else:
            storage.delete("studies", keys[changed])
        [other] = keys.keys() - {changed}
        assert storage.read("studies", keys[other]) == b"kept"
        assert storage.head("studies", keys[other]).sha256 == hashlib.sha256(b"kept").hexdigest()

    def test_a_copy_replaces_what_was_there(self, storage: Storage) -> None:
        source, target = fresh("source"), fresh("target")
        storage.put("studies", source, b"new")
        storage.put("studies", target, b"old, and longer")
        storage.copy("studies", source, "studies", target)
        assert storage.read("studies", target) == b"new"

    def test_a_copy_onto_itself_changes_nothing(self, storage: Storage) -> None:
        key = fresh("same")
        written = storage.put("studies", key, b"x", "text/plain")
        assert storage.copy("studies", key, "studies", key).sha256 == written.sha256
        assert storage.read("studies", key) == b"x"

    def test_nothing_is_copied_from_nowhere(self, storage: Storage) -> None:
        with pytest.raises(ObjectNotFound):
            storage.copy("incoming", fresh("absent"), "studies", fresh("target"))

    def test_an_object_is_a_local_file_for_a_while(self, storage: Storage) -> None:
        key, data = fresh("DOE^JOHN/volume"), noise(3_000_000)
        storage.put("studies", key, data)
        with storage.local_path("studies", key, "volume.nii.gz") as path:
            assert path.name == "volume.nii.gz"
            assert "DOE" not in str(path)
            assert path.read_bytes() == data
            assert [other.name for other in path.parent.iterdir()] == ["volume.nii.gz"]
        assert not path.parent.exists()
        assert storage.read("studies", key) == data

    def test_a_local_file_stays_as_it_was_when_the_object_changes(self, storage: Storage) -> None:
        key = fresh("changing")
        storage.put("studies", key, b"first")
        with storage.local_path("studies", key) as path:
            storage.put("studies", key, b"second")
            assert path.read_bytes() == b"first"
            storage.delete("studies", key)
            assert path.read_bytes() == b"first"

    def test_there_is_no_local_file_of_nothing(self, storage: Storage) -> None:
        with pytest.raises(ObjectNotFound), storage.local_path("studies", fresh("absent")):
            pytest.fail("a file of nothing")

    # Writers at the same time, and killed ones

    def test_writers_of_one_key_never_show_a_mix(self, storage: Storage) -> None:
        key = fresh("contested")
        contents = [bytes([letter]) * 300_000 for letter in b"abcd"]
        hashes = {hashlib.sha256(data).hexdigest(): data for data in contents}
        storage.put("studies", key, contents[0])

        def write(data: bytes) -> None:
            for _ in range(10):
                storage.put("studies", key, data)

        def look(_: int) -> None:
            for _ in range(20):
                assert storage.read("studies", key) in contents
                ref = storage.head("studies", key)
                assert (ref.size, ref.sha256 in hashes) == (300_000, True)

        with ThreadPoolExecutor(8) as pool:
            readers = pool.map(look, range(4))
            list(pool.map(write, contents))
            list(readers)
        sha256 = storage.head("studies", key).sha256
        assert sha256 is not None
        assert storage.read("studies", key) == hashes[sha256]

    def test_writing_and_deleting_in_one_folder_do_not_disturb_each_other(self, storage: Storage) -> None:
        folder = fresh("deep/er")

        def churn(worker: int) -> None:
            for _ in range(15):
                storage.put("studies", f"{folder}/{worker}", b"x")
                storage.delete("studies", f"{folder}/{worker}")
            storage.put("studies", f"{folder}/{worker}", b"last")

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(churn, range(6)))
        assert keys_of(storage, "studies", folder) == [f"{folder}/{worker}" for worker in range(6)]

    def test_a_writer_killed_in_the_middle_leaves_nothing_to_see(self, subject: Subject) -> None:
        key = fresh("killed")
        program = (
            "import sys\n"
            "from shared.config import load_settings\n"
            "from shared.storage.factory import make_storage\n"
            f"make_storage(load_settings(), '', b'secret').put('incoming', {key!r}, sys.stdin.buffer)\n"
        )
        environment = os.environ | subject.environment
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, env=environment
        ) as writer:
            assert writer.stdin is not None
            writer.stdin.write(noise(20_000_000))  # more than the pipe holds: the writer is at work
            writer.send_signal(signal.SIGKILL)
            assert writer.wait() == -signal.SIGKILL
        with pytest.raises(ObjectNotFound):
            subject.storage.head("incoming", key)
        assert keys_of(subject.storage, "incoming", key) == []
        subject.storage.put("incoming", key, b"second try")
        assert subject.storage.read("incoming", key) == b"second try"

    # Multipart uploads

    def send(self, subject: Subject, key: str, upload_id: str, number: int, data: bytes) -> Part:
        url = subject.storage.sign_part("incoming", key, upload_id, number, HOUR)
        answer = subject.fetch("PUT", url, data)
        assert answer.status == 200
        return Part(number, answer.headers["etag"], len(data))

    def test_parts_may_come_in_any_order(self, subject: Subject) -> None:
        storage, key = subject.storage, fresh("slide.svs")
        pieces = {1: noise(SMALLEST_PART, 1), 2: noise(SMALLEST_PART, 2), 3: noise(1234, 3)}
        upload_id = storage.start_multipart("incoming", key, "image/tiff", SMALLEST_PART)
        sent = {number: self.send(subject, key, upload_id, number, pieces[number]) for number in (3, 1, 2)}
        ref = storage.complete_multipart("incoming", key, upload_id, [sent[1], sent[2], sent[3]])
        whole = pieces[1] + pieces[2] + pieces[3]
        assert ref.size == len(whole)
        assert ref.sha256 in (None, hashlib.sha256(whole).hexdigest())
        assert storage.read("incoming", key) == whole
        assert bare(storage.head("incoming", key)) == ref
        answer = subject.fetch("GET", storage.sign_get("incoming", key, HOUR), b"")
        assert answer.headers["content-type"] == "image/tiff"

    def test_an_upload_is_resumed_from_the_parts_received(self, subject: Subject) -> None:
        storage, key = subject.storage, fresh("volume.nii.gz")
        upload_id = storage.start_multipart("incoming", key, part_bytes=SMALLEST_PART)
        assert storage.list_parts("incoming", key, upload_id) == []
        first = self.send(subject, key, upload_id, 1, noise(SMALLEST_PART))
        received = storage.list_parts("incoming", key, upload_id)
        assert received == [Part(1, first.etag.strip('"'), SMALLEST_PART)]
        last = self.send(subject, key, upload_id, 2, b"the rest")
        storage.complete_multipart("incoming", key, upload_id, [*received, last])
        assert storage.read("incoming", key) == noise(SMALLEST_PART) + b"the rest"

    def test_a_part_sent_again_replaces_the_first(self, subject: Subject) -> None:
        storage, key = subject.storage, fresh("again")
        upload_id = storage.start_multipart("incoming", key)
        stale = self.send(subject, key, upload_id, 1, b"broken!")
        good = self.send(subject, key, upload_id, 1, b"healthy")
        assert [part.number for part in storage.list_parts("incoming", key, upload_id)] == [1]
        with pytest.raises(PartMismatch):
            storage.complete_multipart("incoming", key, upload_id, [stale])
        storage.complete_multipart("incoming", key, upload_id, [good])
        assert storage.read("incoming", key) == b"healthy"

    def test_the_old_object_stays_until_the_upload_is_complete(self, subject: Subject) -> None:
        storage, key = subject.storage, fresh("replaced")
        storage.put("incoming", key, b"old")
        upload_id = storage.start_multipart("incoming", key)
        part = self.send(subject, key, upload_id, 1, b"new")
        assert storage.read("incoming", key) == b"old"
        assert keys_of(storage, "incoming", key) == [key]
        storage.complete_multipart("incoming", key, upload_id, [part])
        assert storage.read("incoming", key) == b"new"

    def test_completion_with_parts_that_do_not_match_is_refused_and_can_be_mended(
        self, subject: Subject
    ) -> None:
        storage, key = subject.storage, fresh("mismatch")
        upload_id = storage.start_multipart("incoming", key, part_bytes=SMALLEST_PART)
        one = self.send(subject, key, upload_id, 1, noise(SMALLEST_PART))
        two = self.send(subject, key, upload_id, 2, b"end")
        wrong: dict[str, list[Part]] = {
            "no part": [],
            "wrong order": [two, one],
            "twice": [one, one],
            "one forgotten": [two],
            "not received": [one, two, Part(3, one.etag, 3)],
            "another ETag": [one, Part(2, one.etag, 3)],
            "another size": [one, Part(2, two.etag, 4)],
        }
        for parts in wrong.values():
            with pytest.raises(PartMismatch):
                storage.complete_multipart("incoming", key, upload_id, parts)
        with pytest.raises(ObjectNotFound):
            storage.head("incoming", key)
        storage.complete_multipart("incoming", key, upload_id, [one, two])
        assert storage.head("incoming", key).size == SMALLEST_PART + 3

    def test_parts_of_another_size_than_the_first_are_a_mismatch(self, subject: Subject) -> None:
        storage, key = subject.storage, fresh("sizes")
        sizes = [(SMALLEST_PART, SMALLEST_PART - 1, 5), (SMALLEST_PART - 1, SMALLEST_PART)]
        for lengths in sizes:
            upload_id = storage.start_multipart("incoming", key, part_bytes=SMALLEST_PART)
            parts = [
                self.send(subject, key, upload_id, number, bytes(length))
                for number, length in enumerate(lengths, 1)
            ]
            with pytest.raises(PartMismatch, match="bytes"):
                storage.complete_multipart("incoming", key, upload_id, parts)
            storage.abort_multipart("incoming", key, upload_id)

    def test_a_gap_in_the_numbers_is_a_mismatch(self, subject: Subject) -> None:
        storage, key = subject.storage, fresh("gap")
        upload_id = storage.start_multipart("incoming", key, part_bytes=SMALLEST_PART)
        parts = [self.send(subject, key, upload_id, number, bytes(SMALLEST_PART)) for number in (1, 3)]
        with pytest.raises(PartMismatch, match="Part 2"):
            storage.complete_multipart("incoming", key, upload_id, parts)

    def test_an_upload_may_be_one_empty_part(self, subject: Subject) -> None:
        storage, key = subject.storage, fresh("nothing")
        upload_id = storage.start_multipart("incoming", key)
        part = self.send(subject, key, upload_id, 1, b"")
        storage.complete_multipart("incoming", key, upload_id, [part])
        assert storage.read("incoming", key) == b""

    @pytest.mark.parametrize("part_bytes", [0, -1, (5 << 30) + 1])
    def test_a_part_size_is_one_byte_to_five_gib(self, storage: Storage, part_bytes: int) -> None:
        with pytest.raises(Invalid):
            storage.start_multipart("incoming", fresh("sizes"), part_bytes=part_bytes)

    def test_an_aborted_upload_is_gone_and_aborting_again_is_no_error(self, subject: Subject) -> None:
        storage, key = subject.storage, fresh("aborted")
        upload_id = storage.start_multipart("incoming", key)
        part = self.send(subject, key, upload_id, 1, b"x")
        url = storage.sign_part("incoming", key, upload_id, 2, HOUR)
        storage.abort_multipart("incoming", key, upload_id)
        storage.abort_multipart("incoming", key, upload_id)
        with pytest.raises(UploadNotFound):
            storage.list_parts("incoming", key, upload_id)
        with pytest.raises(UploadNotFound):
            storage.complete_multipart("incoming", key, upload_id, [part])
        assert subject.fetch("PUT", url, b"late").status == 404
        assert keys_of(storage, "incoming", key) == []

    def test_a_completed_upload_is_gone(self, subject: Subject) -> None:
        storage, key = subject.storage, fresh("completed")
        upload_id = storage.start_multipart("incoming", key)
        part = self.send(subject, key, upload_id, 1, b"x")
        storage.complete_multipart("incoming", key, upload_id, [part])
        with pytest.raises(UploadNotFound):
            storage.list_parts("incoming", key, upload_id)
        with pytest.raises(UploadNotFound):
            storage.complete_multipart("incoming", key, upload_id, [part])
        storage.abort_multipart("incoming", key, upload_id)
        assert storage.read("incoming", key) == b"x"

    @pytest.mark.parametrize("upload_id", [NO_SUCH_UPLOAD, "../../incoming", "no such"])
    def test_an_unknown_upload_is_not_found(self, storage: Storage, upload_id: str) -> None:
        with pytest.raises(UploadNotFound):
            storage.list_parts("incoming", fresh("unknown"), upload_id)

    def test_uploads_are_listed_until_they_end(self, subject: Subject) -> None:
        storage, folder = subject.storage, fresh("of-a-tenant")
        begun = [
            (key, storage.start_multipart("incoming", key))
            for key in (f"{folder}/b", f"{folder}/a", f"{folder}/a", f"{folder}-2/a")
        ]
        assert sorted(storage.list_multipart("incoming", f"{folder}/")) == sorted(begun[:3])
        assert set(begun) <= set(storage.list_multipart("incoming"))
        assert list(storage.list_multipart("studies", f"{folder}/")) == []
        (key, completed), aborted, left, _ = begun
        part = self.send(subject, key, completed, 1, b"x")
        storage.complete_multipart("incoming", key, completed, [part])
        storage.abort_multipart("incoming", *aborted)
        assert list(storage.list_multipart("incoming", f"{folder}/")) == [left]

    def test_an_upload_belongs_to_its_object(self, subject: Subject) -> None:
        storage, key, other = subject.storage, fresh("mine"), fresh("other")
        upload_id = storage.start_multipart("incoming", key)
        part = self.send(subject, key, upload_id, 1, b"x")
        storage.abort_multipart("incoming", other, upload_id)
        with pytest.raises(UploadNotFound):
            storage.list_parts("incoming", other, upload_id)
        with pytest.raises(UploadNotFound):
            storage.complete_multipart("incoming", other, upload_id, [part])
        storage.complete_multipart("incoming", key, upload_id, [part])

    @pytest.mark.parametrize("number", [0, -1, 10_001])
    def test_a_part_number_is_one_to_ten_thousand(self, storage: Storage, number: int) -> None:
        key = fresh("numbers")
        upload_id = storage.start_multipart("incoming", key)
        with pytest.raises(Invalid):
            storage.sign_part("incoming", key, upload_id, number, HOUR)

    # Signed URLs

    def test_a_signed_url_reads_the_object_and_nothing_else(self, subject: Subject) -> None:
        storage, key, data = subject.storage, fresh("report one+1 é%2F?.pdf"), noise(10_000)
        storage.put("studies", key, data, "application/pdf")
        storage.put("studies", key + "2", b"another patient's")
        url = storage.sign_get("studies", key, HOUR)
        answer = subject.fetch("GET", url, b"")
        assert (answer.status, answer.body) == (200, data)
        assert answer.headers["content-type"] == "application/pdf"
        assert subject.fetch("PUT", url, b"overwritten").status == 403
        assert subject.fetch("GET", url.replace(".pdf", ".pdf2"), b"").status == 403
        assert storage.read("studies", key) == data

    def test_a_signed_url_names_the_download(self, subject: Subject) -> None:
        key = fresh("report")
        subject.storage.put("studies", key, b"x")
        name = 'Bericht "Köpf"; 1.pdf'
        url = subject.storage.sign_get("studies", key, HOUR, name)
        assert subject.fetch("GET", url, b"").headers["content-disposition"] == attachment(name)
        assert subject.fetch("GET", url.replace("Bericht", "Malware"), b"").status == 403

    def test_a_signed_url_expires(self, subject: Subject) -> None:
        storage, key = subject.storage, fresh("short")
        storage.put("studies", key, b"x")
        upload_id = storage.start_multipart("studies", key)
        brief = timedelta(seconds=1)
        urls = {
            "GET": storage.sign_get("studies", key, brief),
            "PUT": storage.sign_part("studies", key, upload_id, 1, brief),
        }
        time.sleep(2.5)
        assert [subject.fetch(method, url, b"").status for method, url in urls.items()] == [403, 403]
        assert storage.list_parts("studies", key, upload_id) == []

    def test_a_signed_part_is_good_for_that_part_only(self, subject: Subject) -> None:
        storage, key = subject.storage, fresh("parts")
        upload_id = storage.start_multipart("incoming", key)
        url = storage.sign_part("incoming", key, upload_id, 31, HOUR)
        assert subject.fetch("PUT", url.replace("umber=31", "umber=32"), b"x").status == 403
        assert subject.fetch("GET", url, b"").status == 403
        assert storage.list_parts("incoming", key, upload_id) == []

    @pytest.mark.parametrize("expires", [timedelta(0), timedelta(seconds=-5), timedelta(days=8)])
    def test_a_signed_url_lives_for_a_week_at_most(self, storage: Storage, expires: timedelta) -> None:
        with pytest.raises(Invalid):
            storage.sign_get("studies", fresh("x"), expires)

    def test_a_store_that_is_in_order_says_so(self, storage: Storage) -> None:
        storage.check()


class TestFolder(StorageContract):
    """A folder of this machine; the suite serves its signed URLs as the upload function does."""

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, tmp_path_factory: pytest.TempPathFactory) -> Subject:
        environment = {"HOUNSFIELD_STORAGE_URL": tmp_path_factory.mktemp("objects").as_uri()}
        storage = open_store(environment)
        assert isinstance(storage, FolderStorage)
        return Subject(storage, environment, lambda *request: serve(storage, *request))


class S3Contract(StorageContract):
    """The suite and what only S3 has. A subclass provides the class-scoped fixture `endpoint`."""

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, endpoint: str) -> Iterator[Subject]:
        environment = s3_environment(endpoint, f"test-{uuid.uuid4().hex[:12]}-")
        storage = open_store(environment)
        assert isinstance(storage, S3Storage)
        storage.ensure_buckets(["https://viewer.example.org"])
        with httpx.Client(trust_env=False) as client:
            yield Subject(storage, environment, lambda *request: request_over_http(client, *request))
        remove_buckets(environment)

    def test_buckets_that_exist_are_kept(self, subject: Subject) -> None:
        key = fresh("kept")
        subject.storage.put("studies", key, b"x")
        assert isinstance(subject.storage, S3Storage)
        subject.storage.ensure_buckets()
        assert subject.storage.read("studies", key) == b"x"

    def test_a_browser_may_upload_parts_and_read_their_etag(self, subject: Subject) -> None:
        key = fresh("from-a-browser")
        upload_id = subject.storage.start_multipart("incoming", key)
        url = subject.storage.sign_part("incoming", key, upload_id, 1, HOUR)
        origin = {"Origin": "https://viewer.example.org"}
        asked = httpx.options(url, headers=origin | {"Access-Control-Request-Method": "PUT"}, trust_env=False)
        assert asked.headers["access-control-allow-origin"] in ("*", "https://viewer.example.org")
        sent = httpx.put(url, content=b"x", headers=origin, trust_env=False)
        assert "etag" in sent.headers["access-control-expose-headers"].lower()

    def test_a_versioned_bucket_gives_each_write_its_version(self, subject: Subject) -> None:
        name = subject.environment["HOUNSFIELD_BUCKET_PREFIX"] + "models"
        s3_client(subject.environment).put_bucket_versioning(
            Bucket=name, VersioningConfiguration={"Status": "Enabled"}
        )
        key = fresh("weights")
        first = subject.storage.put("models", key, b"1")
        second = subject.storage.put("models", key, b"2")
        assert None not in (first.version, second.version)
        assert first.version != second.version
        assert bare(subject.storage.head("models", key)) == second

    def test_parts_too_small_are_a_mismatch(self, subject: Subject) -> None:
        storage, key = subject.storage, fresh("small")
        upload_id = storage.start_multipart("incoming", key)
        parts = [self.send(subject, key, upload_id, number, b"small") for number in (1, 2)]
        with pytest.raises(PartMismatch):
            storage.complete_multipart("incoming", key, upload_id, parts)

    def test_what_is_too_large_for_one_copy_is_copied_in_parts(self, subject: Subject) -> None:
        environment, data = subject.environment, noise(2 * SMALLEST_PART + 7_000_000)
        in_parts = S3Storage(
            s3_client(environment), environment["HOUNSFIELD_BUCKET_PREFIX"], copy_bytes=1 << 20
        )
        source, target = fresh("large"), fresh("copy")
        written = subject.storage.put("incoming", source, data, "image/tiff")
        copied = in_parts.copy("incoming", source, "studies", target)
        assert (copied.size, copied.sha256) == (written.size, written.sha256)
        assert bare(subject.storage.head("studies", target)) == copied
        assert subject.storage.read("studies", target) == data
        answer = subject.fetch("GET", subject.storage.sign_get("studies", target, HOUR), b"")
        assert answer.headers["content-type"] == "image/tiff"

    def test_names_that_are_no_keys_of_ours_are_not_listed(self, subject: Subject) -> None:
        prefix = fresh()
        name = subject.environment["HOUNSFIELD_BUCKET_PREFIX"] + "incoming"
        for key in ("folder/", "a//b", "good"):  # consoles make "folder/" to show an empty folder
            s3_client(subject.environment).put_object(Bucket=name, Key=prefix + key, Body=b"x")
        assert keys_of(subject.storage, "incoming", prefix) == [prefix + "good"]
        assert subject.storage.head("incoming", prefix + "good").sha256 is None

    def test_missing_buckets_and_wrong_credentials_make_the_store_unavailable(self, subject: Subject) -> None:
        nowhere = {"HOUNSFIELD_BUCKET_PREFIX": f"none-{uuid.uuid4().hex[:8]}-"}
        elsewhere = open_store(subject.environment | nowhere)
        with pytest.raises(Unavailable, match="no bucket"):
            elsewhere.check()
        with pytest.raises(Unavailable):
            elsewhere.put("incoming", fresh("x"), b"x")
        stranger = open_store(subject.environment | {"HOUNSFIELD_S3_SECRET_KEY": "wrong"})
        with pytest.raises(Unavailable):
            stranger.check()
        with pytest.raises(Unavailable):
            stranger.head("incoming", fresh("x"))


class TestS3(S3Contract):
    """The service that HOUNSFIELD_TEST_S3 names."""

    __test__ = "HOUNSFIELD_TEST_S3" in os.environ

    @pytest.fixture(scope="class")
    @classmethod
    def endpoint(cls) -> str:
        return os.environ["HOUNSFIELD_TEST_S3"]


if not TestS3.__test__:

    def test_s3() -> None:
        """One loud line instead of one for each test of `TestS3`."""
        pytest.skip(
            "S3 NOT TESTED: set HOUNSFIELD_TEST_S3 to an endpoint, or run tests/e2e, which starts Ceph"
        )


def open_store(environment: dict[str, str]) -> Storage:
    """The store that a process with these variables uses."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return make_storage(load_settings(), "http://testserver", SECRET)


def serve(storage: FolderStorage, method: str, url: str, body: bytes) -> Answer:
    """What the upload function answers to a signed URL of the folder store."""
    parts = urlsplit(url)
    bucket, _, key = unquote(parts.path.removeprefix("/api/storage/")).partition("/")
    try:
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        grant = UrlSigner(SECRET).verify(method, bucket, key, query)
        if grant.op == "part":
            part = storage.put_part(grant.upload_id, grant.number, io.BytesIO(body))
            return Answer(200, {"etag": f'"{part.etag}"'}, b"")
        headers = {"content-type": storage.media_type(grant.bucket, grant.key) or "application/octet-stream"}
        named = {"content-disposition": attachment(grant.filename)} if grant.filename else {}
        return Answer(200, headers | named, storage.read(grant.bucket, grant.key))
    except (Forbidden, UploadNotFound) as error:
        return Answer(error.status, {}, error.detail.encode())


def request_over_http(client: httpx.Client, method: str, url: str, body: bytes) -> Answer:
    """What the S3 service answers."""
    answer = client.request(method, url, content=body)
    return Answer(answer.status_code, dict(answer.headers), answer.content)


def s3_client(environment: dict[str, str]) -> Any:
    """A plain client beside the adapter's."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=environment["HOUNSFIELD_S3_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id=environment["HOUNSFIELD_S3_ACCESS_KEY"],
        aws_secret_access_key=environment["HOUNSFIELD_S3_SECRET_KEY"],
    )


def remove_buckets(environment: dict[str, str]) -> None:
    """Leave nothing on a service that others may use too."""
    client = s3_client(environment)
    for logical in ("incoming", "studies", "models"):
        name = environment["HOUNSFIELD_BUCKET_PREFIX"] + logical
        for upload in client.list_multipart_uploads(Bucket=name).get("Uploads", []):
            client.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
        for page in client.get_paginator("list_object_versions").paginate(Bucket=name):
            for found in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                client.delete_object(Bucket=name, Key=found["Key"], VersionId=found["VersionId"])
        client.delete_bucket(Bucket=name)
