"""Multipart uploads into the folder store: parts in place, one writer each, and what is left by those who are killed."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import TooLarge
from shared.storage.folder import FolderStorage
from shared.storage.port import ObjectNotFound, Part, PartBusy, PartMismatch, UploadNotFound
from tests.unit.shared.storage.test_folder import files_under, open_folder

PART = 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def storage(root: Path) -> FolderStorage:
    return open_folder(root)


@pytest.fixture
def upload_id(storage: FolderStorage) -> str:
    return storage.start_multipart("incoming", "a", part_bytes=PART)


def put(storage: FolderStorage, upload_id: str, number: int, data: bytes) -> Part:
    return storage.put_part(upload_id, number, io.BytesIO(data))


def complete(storage: FolderStorage, upload_id: str, parts: list[Part] | None = None) -> bytes:
    parts = storage.list_parts("incoming", "a", upload_id) if parts is None else parts
    storage.complete_multipart("incoming", "a", upload_id, parts)
    return storage.read("incoming", "a")


# Every part at its place


@given(data=st.data())
def test_any_order_and_any_repeats_make_the_same_object(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    storage = open_folder(tmp_path_factory.mktemp("objects"))
    content = data.draw(st.binary(min_size=1, max_size=5 * 7))
    pieces = {index // 7 + 1: content[index : index + 7] for index in range(0, len(content), 7)}
    order = data.draw(st.permutations(sorted(pieces)))
    repeats = data.draw(st.lists(st.sampled_from(sorted(pieces)), max_size=3))
    upload_id = storage.start_multipart("incoming", "a", part_bytes=7)
    for number in repeats:
        put(storage, upload_id, number, bytes(7))
    for number in order:
        put(storage, upload_id, number, pieces[number])
    assert complete(storage, upload_id) == content


def test_the_last_part_may_be_sent_again_shorter(storage: FolderStorage, upload_id: str) -> None:
    put(storage, upload_id, 1, b"a" * PART)
    put(storage, upload_id, 2, b"b" * PART)
    put(storage, upload_id, 2, b"end")
    assert complete(storage, upload_id) == b"a" * PART + b"end"


def test_completing_copies_nothing(storage: FolderStorage, root: Path, upload_id: str) -> None:
    put(storage, upload_id, 1, b"x")
    before = (root / ".uploads" / upload_id / "data").stat().st_ino
    complete(storage, upload_id)
    assert (root / "incoming/a").stat().st_ino == before


def test_a_part_larger_than_its_place_is_refused_and_its_neighbour_unharmed(
    storage: FolderStorage, upload_id: str
) -> None:
    second = put(storage, upload_id, 2, b"b" * PART)
    with pytest.raises(TooLarge, match="at most 1000 bytes"):
        put(storage, upload_id, 1, b"a" * (PART + 1))
    assert storage.list_parts("incoming", "a", upload_id) == [second]
    put(storage, upload_id, 1, b"a" * PART)
    assert complete(storage, upload_id) == b"a" * PART + b"b" * PART


def test_a_part_declared_too_large_leaves_what_was_received(storage: FolderStorage, upload_id: str) -> None:
    first = put(storage, upload_id, 1, b"a")
    with pytest.raises(TooLarge):
        storage.receive_part(upload_id, 1, declared=PART + 1)
    assert storage.list_parts("incoming", "a", upload_id) == [first]


@pytest.mark.parametrize("lengths", [(PART - 1, 5), (PART - 1, PART - 1), (PART, PART - 1, PART)])
def test_parts_that_do_not_fill_their_places_are_no_object(
    storage: FolderStorage, upload_id: str, lengths: tuple[int, ...]
) -> None:
    for number, length in enumerate(lengths, 1):
        put(storage, upload_id, number, bytes(length))
    with pytest.raises(PartMismatch, match="bytes"):
        complete(storage, upload_id)
    with pytest.raises(ObjectNotFound):
        storage.head("incoming", "a")


def test_parts_by_the_thousand_are_listed_in_order(storage: FolderStorage) -> None:
    upload_id = storage.start_multipart("incoming", "a", part_bytes=1)
    for number in (10_000, 250, 99, 100, 101, 1):
        put(storage, upload_id, number, b"x")
    numbers = [part.number for part in storage.list_parts("incoming", "a", upload_id)]
    assert numbers == [1, 99, 100, 101, 250, 10_000]


# One writer of a part at a time


def test_a_part_has_one_writer_and_other_parts_do_not_wait(storage: FolderStorage, upload_id: str) -> None:
    with storage.receive_part(upload_id, 1) as writer:
        writer.write(b"first")
        with pytest.raises(PartBusy, match="Part 1 is being received"):
            storage.receive_part(upload_id, 1)
        other = put(storage, upload_id, 2, b"other")
        assert storage.list_parts("incoming", "a", upload_id) == [other]
        part = writer.finish()
    assert storage.list_parts("incoming", "a", upload_id) == [part, other]
    again = put(storage, upload_id, 1, b"second")
    assert storage.list_parts("incoming", "a", upload_id) == [again, other]


def test_a_part_that_is_given_up_was_not_received_and_can_be_sent_again(
    storage: FolderStorage, root: Path, upload_id: str
) -> None:
    put(storage, upload_id, 1, b"complete")
    with storage.receive_part(upload_id, 1) as writer:
        writer.write(b"hal")
    assert storage.list_parts("incoming", "a", upload_id) == []
    assert [name for name in files_under(root / ".uploads") if name.endswith(".lock")] == []
    put(storage, upload_id, 1, b"whole")
    assert complete(storage, upload_id) == b"whole"


def test_while_a_part_is_rewritten_the_upload_cannot_be_completed(
    storage: FolderStorage, upload_id: str
) -> None:
    parts = [put(storage, upload_id, 1, b"a" * PART), put(storage, upload_id, 2, b"b")]
    with storage.receive_part(upload_id, 2) as writer:
        with pytest.raises(PartMismatch, match="Part 2 was not received"):
            complete(storage, upload_id, parts)
        writer.write(b"c")
        writer.finish()
    with pytest.raises(PartMismatch, match="another ETag"):
        complete(storage, upload_id, parts)
    assert complete(storage, upload_id) == b"a" * PART + b"c"


def test_nor_while_one_is_written_that_is_not_named(storage: FolderStorage, upload_id: str) -> None:
    """Its writer has the file open, and would go on writing into what is an object by then."""
    part = put(storage, upload_id, 1, b"a")
    with storage.receive_part(upload_id, 2):
        with pytest.raises(PartBusy, match="Part 2 is still being received"):
            complete(storage, upload_id, [part])
        with pytest.raises(ObjectNotFound):
            storage.head("incoming", "a")
    assert complete(storage, upload_id, [part]) == b"a"


def test_a_writer_of_an_upload_that_was_aborted_is_told_so(storage: FolderStorage, upload_id: str) -> None:
    with storage.receive_part(upload_id, 1) as writer:
        storage.abort_multipart("incoming", "a", upload_id)
        writer.write(b"late")
        with pytest.raises(UploadNotFound):
            writer.finish()


def test_no_descriptor_stays_open(storage: FolderStorage, upload_id: str) -> None:
    def everything() -> None:
        put(storage, upload_id, 1, b"x")
        with storage.receive_part(upload_id, 1) as writer:
            writer.write(b"x")
            for _ in range(2):
                with pytest.raises(PartBusy):
                    storage.receive_part(upload_id, 1)
        with pytest.raises(TooLarge):
            storage.receive_part(upload_id, 1, declared=PART + 1)
        with pytest.raises(UploadNotFound):
            storage.receive_part("0" * 32, 1)

    everything()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        everything()
    assert len(os.listdir("/proc/self/fd")) == before


# Processes that are killed

WRITER = """
import sys, time
from pathlib import Path
from tests.unit.shared.storage.test_folder import open_folder
with open_folder(Path({root!r})).receive_part({upload_id!r}, {number}) as writer:
    writer.write(b"k" * 700)
    print("writing", flush=True)
    time.sleep(60)
"""


@contextmanager
def writing(root: Path, upload_id: str, number: int) -> "Iterator[subprocess.Popen[str]]":
    """Another process in the middle of a part; killed at the end."""
    program = WRITER.format(root=str(root), upload_id=upload_id, number=number)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "writing\n"
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def test_a_part_whose_writer_was_killed_was_not_received_and_is_nobody_s(
    storage: FolderStorage, root: Path, upload_id: str
) -> None:
    first = put(storage, upload_id, 1, b"a" * PART)
    put(storage, upload_id, 2, b"before")
    with writing(root, upload_id, 2), pytest.raises(PartBusy):
        storage.receive_part(upload_id, 2)
    assert storage.list_parts("incoming", "a", upload_id) == [first]
    put(storage, upload_id, 2, b"after")
    assert complete(storage, upload_id) == b"a" * PART + b"after"


def test_a_killed_writer_of_a_part_too_many_does_not_stand_in_the_way(
    storage: FolderStorage, root: Path, upload_id: str
) -> None:
    part = put(storage, upload_id, 1, b"a")
    with writing(root, upload_id, 2):
        pass
    assert complete(storage, upload_id, [part]) == b"a"
    assert files_under(root / ".uploads") == []


def test_after_a_restart_an_upload_goes_on_where_it_was(
    storage: FolderStorage, root: Path, upload_id: str
) -> None:
    first = put(storage, upload_id, 1, b"a" * PART)
    later = open_folder(root)
    assert later.list_parts("incoming", "a", upload_id) == [first]
    put(later, upload_id, 2, b"rest")
    assert complete(later, upload_id) == b"a" * PART + b"rest"


def test_one_killed_after_it_completed_is_tidied_up_after(
    storage: FolderStorage, root: Path, upload_id: str
) -> None:
    part = put(storage, upload_id, 1, b"x")
    (root / ".uploads" / upload_id / "data").rename(root / "incoming/a")
    with pytest.raises(UploadNotFound):
        storage.list_parts("incoming", "a", upload_id)
    with pytest.raises(UploadNotFound):
        complete(storage, upload_id, [part])
    open_folder(root)
    assert files_under(root / ".uploads") == []
    assert storage.read("incoming", "a") == b"x"


# Copies and local files


def test_what_we_wrote_is_copied_as_a_name_and_what_somebody_else_put_there_as_bytes(
    storage: FolderStorage, root: Path
) -> None:
    storage.put("incoming", "ours", b"ours")
    (root / "incoming/theirs").write_bytes(b"theirs")
    for key in ("ours", "theirs"):
        storage.copy("incoming", key, "studies", key)
    assert (root / "incoming/ours").samefile(root / "studies/ours")
    with (root / "incoming/theirs").open("r+b") as file:  # as `cp` over it does
        file.write(b"THEIRS")
    assert storage.read("studies", "theirs") == b"theirs"


def test_a_link_is_neither_copied_nor_given_as_a_file(
    storage: FolderStorage, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("private")
    (root / "incoming/link").symlink_to(tmp_path / "secret")
    with pytest.raises(ObjectNotFound):
        storage.copy("incoming", "link", "studies", "copy")
    with pytest.raises(ObjectNotFound), storage.local_path("incoming", "link"):
        pytest.fail("a file behind a link")
    assert files_under(root / ".tmp") == []


def test_a_local_file_is_the_object_s_own(storage: FolderStorage, root: Path) -> None:
    storage.put("studies", "a/b", b"x")
    with storage.local_path("studies", "a/b") as path:
        assert path.samefile(root / "studies/a/b")
        open_folder(root)  # another process starts, and sweeps what was left behind
        assert path.read_bytes() == b"x"
    assert files_under(root / ".tmp") == []


def test_a_folder_that_was_given_up_is_swept_at_once(root: Path) -> None:
    open_folder(root)
    (root / ".tmp/gone-1").mkdir()
    (root / ".tmp/gone-1/data").write_bytes(b"x")
    old = root / ".tmp/view"
    old.mkdir()
    yesterday = time.time() - 90_000
    os.utime(old, (yesterday, yesterday))
    open_folder(root)
    assert files_under(root / ".tmp") == []


def test_what_killed_processes_left_is_swept_while_the_store_is_open(root: Path) -> None:
    store = open_folder(root)
    (root / ".tmp/gone-1").mkdir()
    (root / ".tmp/new").touch()
    assert store.sweep() == 1
    assert [path.name for path in (root / ".tmp").iterdir()] == ["new"]
