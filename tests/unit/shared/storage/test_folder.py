"""What only the folder store has: plain files on disk, links, a disk that fills up, and the sidecars."""

import hashlib
import io
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from shared.errors import Conflict, Invalid, Unavailable
from shared.storage.folder import FolderStorage
from shared.storage.port import ObjectNotFound, UploadNotFound
from shared.storage.signing import UrlSigner

HOUR = timedelta(hours=1)


def open_folder(root: Path) -> FolderStorage:
    """A store on `root`."""
    return FolderStorage(root, UrlSigner(b"secret"), "http://testserver/")


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return open_folder(tmp_path / "objects")


@pytest.fixture
def root(storage: FolderStorage, tmp_path: Path) -> Path:
    return tmp_path / "objects"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def files_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# Files on disk


def test_an_object_is_a_plain_file_under_its_key(storage: FolderStorage, root: Path) -> None:
    storage.put("studies", "t/s/volume/t1.nii.gz", b"voxels")
    assert (root / "studies/t/s/volume/t1.nii.gz").read_bytes() == b"voxels"
    assert files_under(root / ".tmp") == []


def test_a_file_that_was_written_for_it_is_the_object_itself(storage: FolderStorage, root: Path) -> None:
    made = root.parent / "made"
    made.write_bytes(b"voxels")
    made.chmod(0o644)
    storage.adopt("studies", "t/s/volume/t1.nii", made)
    assert (root / "studies/t/s/volume/t1.nii").samefile(made)
    assert made.stat().st_mode & 0o777 == 0o600
    assert files_under(root / ".tmp") == []


def test_a_file_that_somebody_else_may_change_is_copied(storage: FolderStorage, root: Path) -> None:
    (root / "incoming/drop").mkdir()
    dropped = root / "incoming/drop/slide.svs"
    dropped.write_bytes(b"slide")
    with storage.local_path("incoming", "drop/slide.svs") as path:
        storage.adopt("studies", "t/s/slide.svs", path)
    dropped.write_bytes(b"other")
    assert storage.read("studies", "t/s/slide.svs") == b"slide"


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_only_the_owner_may_read_what_is_stored(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        storage = open_folder(tmp_path / "objects")
        storage.put("studies", "t/s/volume/t1.nii.gz", b"voxels", "application/gzip")
        upload = storage.start_multipart("incoming", "a/b")
        storage.put_part(upload, 1, io.BytesIO(b"part"))
        finished = storage.start_multipart("incoming", "a/c")
        part = storage.put_part(finished, 1, io.BytesIO(b"part"))
        storage.complete_multipart("incoming", "a/c", finished, [part])
    finally:
        os.umask(before)
    made = [tmp_path / "objects", *(tmp_path / "objects").rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in made if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in made if path.is_file()} == {0o600}
    names = {path.name for path in made}
    assert {".lock", ".meta", ".uploads", ".tmp", "manifest.json", "t1.nii.gz", "c"} <= names


def test_a_root_that_is_there_keeps_the_mode_that_somebody_gave_it(tmp_path: Path) -> None:
    root = tmp_path / "objects"
    root.mkdir()
    root.chmod(0o750)
    open_folder(root)
    assert root.stat().st_mode & 0o777 == 0o750
    assert (root / "studies").stat().st_mode & 0o777 == 0o700


def test_a_file_copied_into_the_folder_is_an_object_without_hash(storage: FolderStorage, root: Path) -> None:
    (root / "incoming/drop").mkdir()
    (root / "incoming/drop/slice.dcm").write_bytes(b"DICM")
    assert [ref.key for ref in storage.list_objects("incoming")] == ["drop/slice.dcm"]
    assert storage.head("incoming", "drop/slice.dcm").sha256 is None
    assert storage.media_type("incoming", "drop/slice.dcm") is None
    assert storage.read("incoming", "drop/slice.dcm") == b"DICM"


def test_the_hash_of_an_overwritten_file_is_not_trusted(storage: FolderStorage, root: Path) -> None:
    storage.put("incoming", "a", b"12345", "text/plain")
    path = root / "incoming/a"
    written = path.stat()
    path.write_bytes(b"54321")
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns + 1_000_000))
    assert storage.head("incoming", "a").sha256 is None
    path.write_bytes(b"123456")
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert storage.head("incoming", "a").sha256 is None


def test_a_damaged_sidecar_is_as_good_as_none(storage: FolderStorage, root: Path) -> None:
    storage.put("incoming", "a", b"1")
    [sidecar] = (root / ".meta").rglob("*.json")
    sidecar.write_text("{")
    assert storage.head("incoming", "a").sha256 is None


def test_deleting_removes_the_sidecar_and_empty_folders_but_not_the_bucket(
    storage: FolderStorage, root: Path
) -> None:
    storage.put("incoming", "a/b/c", b"1")
    storage.put("incoming", "a/d", b"1")
    storage.delete("incoming", "a/b/c")
    assert files_under(root / "incoming") == ["a", "a/d"]
    storage.delete("incoming", "a/d")
    assert files_under(root / "incoming") == []
    assert list((root / ".meta").rglob("*.json")) == []
    storage.check()


def test_a_key_beneath_another_object_is_a_conflict(storage: FolderStorage, root: Path) -> None:
    storage.put("incoming", "a", b"file")
    storage.put("incoming", "b/c", b"file")
    for key in ("a/b", "b"):
        with pytest.raises(Conflict):
            storage.put("incoming", key, b"x")
    assert [ref.key for ref in storage.list_objects("incoming")] == ["a", "b/c"]
    assert storage.head("incoming", "a").sha256 == sha256(b"file")
    assert files_under(root / ".tmp") == []
    with pytest.raises(ObjectNotFound):
        storage.head("incoming", "a/b")


def test_two_processes_may_use_one_folder(storage: FolderStorage, root: Path) -> None:
    other = open_folder(root)
    upload_id = storage.start_multipart("incoming", "a", "text/plain")
    part = other.put_part(upload_id, 1, io.BytesIO(b"whole"))
    ref = storage.complete_multipart("incoming", "a", upload_id, [part])
    assert (ref.size, ref.sha256) == (5, None)
    assert other.head("incoming", "a").size == 5
    assert other.read("incoming", "a") == b"whole"
    assert other.media_type("incoming", "a") == "text/plain"


def test_errors_do_not_spell_out_keys(storage: FolderStorage) -> None:
    with pytest.raises(ObjectNotFound) as caught:
        storage.head("incoming", "DOE^JOHN.dcm")
    assert "DOE" not in str(caught.value)
    assert caught.value.problem()["key"] == "DOE^JOHN.dcm"


# Links and other things that are no files


def test_links_lead_nowhere(storage: FolderStorage, root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key.pem").write_text("private")
    (root / "incoming/folder").symlink_to(secret)
    (root / "incoming/file").symlink_to(secret / "key.pem")
    assert list(storage.list_objects("incoming")) == []
    for key in ("folder/key.pem", "file"):
        with pytest.raises(ObjectNotFound):
            storage.open("incoming", key)
        with pytest.raises(ObjectNotFound):
            storage.head("incoming", key)
        storage.delete("incoming", key)
    with pytest.raises(Conflict):
        storage.put("incoming", "folder/new", b"x")
    storage.put("incoming", "file", b"an object now")
    assert files_under(secret) == ["key.pem"]
    assert (secret / "key.pem").read_text() == "private"


def test_pipes_and_unspeakable_names_are_no_objects(storage: FolderStorage, root: Path) -> None:
    os.mkfifo(root / "incoming/pipe")
    Path(os.fsdecode(os.fsencode(root / "incoming") + b"/latin1-\xe9")).write_bytes(b"x")
    (root / "incoming/line\nbreak").write_bytes(b"x")
    (root / "incoming/good").write_bytes(b"x")
    assert [ref.key for ref in storage.list_objects("incoming")] == ["good"]
    with pytest.raises(ObjectNotFound):
        storage.open("incoming", "pipe")


def test_a_deep_tree_is_listed(storage: FolderStorage) -> None:
    key = "/".join("d" * 300)
    storage.put("incoming", key, b"x")
    assert [ref.key for ref in storage.list_objects("incoming")] == [key]
    storage.delete("incoming", key)
    assert list(storage.list_objects("incoming")) == []


def test_no_descriptor_stays_open(storage: FolderStorage) -> None:
    def everything() -> None:
        storage.put("incoming", "a/b/c", b"x")
        storage.read("incoming", "a/b/c")
        list(storage.list_objects("incoming"))
        for absent in ("a/b", "a/b/c/d", "z"):
            with pytest.raises(ObjectNotFound):
                storage.open("incoming", absent)
        storage.delete("incoming", "a/b/c")

    everything()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        everything()
    assert len(os.listdir("/proc/self/fd")) == before


# A disk that fails


def in_small_filesystem(folder: Path, program: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with a 4 MiB file system of its own mounted on `folder`; skips where that is not allowed."""
    mounted = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    script = f'mount -t tmpfs -o size=4m tmpfs "{folder}" && exec "$@"'
    if subprocess.run([*mounted, script, "sh", "true"], capture_output=True).returncode:
        pytest.skip("FULL DISK NOT TESTED: this machine allows no user namespaces with mounts")
    return subprocess.run(
        [*mounted, script, "sh", sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )


FULL_DISK = """
import io
from pathlib import Path
from shared.errors import Unavailable
from tests.unit.shared.storage.test_folder import files_under, open_folder

root = Path({root!r})
storage = open_folder(root)
storage.put("incoming", "small", b"kept")
upload_id = storage.start_multipart("incoming", "parts")
part = storage.put_part(upload_id, 1, io.BytesIO(bytes(2_500_000)))
for attempt in (
    lambda: storage.put("incoming", "big", io.BytesIO(bytes(8_000_000))),
    lambda: storage.put("incoming", "small", bytes(8_000_000)),
    lambda: storage.put_part(upload_id, 2, io.BytesIO(bytes(8_000_000))),
):
    try:
        attempt()
    except Unavailable as error:
        print(error)
print([ref.key for ref in storage.list_objects("incoming")], storage.read("incoming", "small"))
print(storage.list_parts("incoming", "parts", upload_id) == [part], files_under(root / ".tmp"))
print(storage.complete_multipart("incoming", "parts", upload_id, [part]).size)
"""


def test_a_full_disk_makes_the_store_unavailable_and_leaves_no_half_object(tmp_path: Path) -> None:
    done = in_small_filesystem(tmp_path, FULL_DISK.format(root=str(tmp_path)))
    assert done.stdout.splitlines() == [
        *["The object store cannot be used: No space left on device."] * 3,
        "['small'] b'kept'",
        "True []",
        "2500000",  # what was received is there already: completing takes no room
    ], done.stderr


def test_a_bucket_that_went_missing_makes_the_store_unavailable(storage: FolderStorage, root: Path) -> None:
    (root / "models").rmdir()
    with pytest.raises(Unavailable, match="models"):
        storage.check()
    with pytest.raises(Unavailable):
        storage.put("models", "a", b"x")


def test_what_killed_writers_left_is_swept_after_a_day(storage: FolderStorage, root: Path) -> None:
    old, new = root / ".tmp/old", root / ".tmp/new"
    for path in (old, new):
        path.write_bytes(b"half")
    yesterday = time.time() - 90_000
    os.utime(old, (yesterday, yesterday))
    open_folder(root)
    assert files_under(root / ".tmp") == ["new"]


# Uploads


def test_a_signed_part_names_upload_and_number(storage: FolderStorage) -> None:
    upload_id = storage.start_multipart("incoming", "a b")
    url = storage.sign_part("incoming", "a b", upload_id, 3, HOUR)
    assert url.startswith(
        f"http://testserver/api/storage/incoming/a%20b?op=part&upload={upload_id}&number=3&expires="
    )


def test_no_url_is_signed_for_the_upload_of_another_object(storage: FolderStorage) -> None:
    upload_id = storage.start_multipart("incoming", "mine")
    with pytest.raises(UploadNotFound):
        storage.sign_part("incoming", "yours", upload_id, 1, HOUR)


def test_a_part_for_no_upload_is_refused(storage: FolderStorage, root: Path) -> None:
    for upload_id in ("0" * 32, "..", "../incoming", ""):
        with pytest.raises(UploadNotFound):
            storage.put_part(upload_id, 1, io.BytesIO(b"x"))
    with pytest.raises(Invalid):
        storage.put_part(storage.start_multipart("incoming", "a"), 0, io.BytesIO(b"x"))
    assert list(storage.list_objects("incoming")) == []


def test_etags_tell_parts_apart_and_quotes_do_not_matter(storage: FolderStorage) -> None:
    upload_id = storage.start_multipart("incoming", "a")
    other = storage.put_part(upload_id, 1, io.BytesIO(b"y"))
    part = storage.put_part(upload_id, 1, io.BytesIO(b"x"))
    assert part.etag != other.etag
    assert part == storage.put_part(upload_id, 1, io.BytesIO(b"x"))
    quoted = type(part)(1, f'"{part.etag}"', 1)
    storage.complete_multipart("incoming", "a", upload_id, [quoted])


def test_a_finished_upload_leaves_nothing_on_the_disk(storage: FolderStorage, root: Path) -> None:
    done, dropped = storage.start_multipart("incoming", "a"), storage.start_multipart("incoming", "b")
    parts = [storage.put_part(upload_id, 1, io.BytesIO(b"x")) for upload_id in (done, dropped)]
    storage.complete_multipart("incoming", "a", done, parts[:1])
    storage.abort_multipart("incoming", "b", dropped)
    assert files_under(root / ".uploads") == []
    assert files_under(root / ".tmp") == []
