"""What comes out of good archives, and what of them is passed over."""

import bz2
import gzip
import io
import lzma
import os
import random
import resource
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from shared.archives import (
    HEAD_BYTES,
    ArchiveFormat,
    ArchiveLimits,
    BadArchive,
    Member,
    archive_format,
    decoders,
    unpack,
)
from tests.unit.shared.archives.building import COMPRESSORS, END, gzip_header, pax, tar, tar_member, zip_of

FILES = {"study/1/IM0001": b"one" * 500, "study/1/IM0002": b"", "study/2/IM0001": b"three" * 30_000}
LIMITS = ArchiveLimits()


def unpacked(content: bytes, tmp_path: Path, limits: ArchiveLimits = LIMITS) -> dict[str, bytes]:
    """Name → bytes of what comes out, in order."""
    members = unpacked_members(content, tmp_path, limits)
    return {member.name: member.path.read_bytes() for member in members}


def unpacked_members(content: bytes, tmp_path: Path, limits: ArchiveLimits = LIMITS) -> list[Member]:
    (tmp_path / "archive").write_bytes(content)
    (tmp_path / "out").mkdir()
    return unpack(tmp_path / "archive", tmp_path / "out", limits)


@pytest.mark.parametrize("compression", COMPRESSORS)
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_comes_out_as_it_went_in(compression: str, form: int, tmp_path: Path) -> None:
    assert list(unpacked(COMPRESSORS[compression](tar(FILES, form)), tmp_path).items()) == list(FILES.items())


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_zip_comes_out_as_it_went_in(method: int, tmp_path: Path) -> None:
    assert list(unpacked(zip_of(FILES, method), tmp_path).items()) == list(FILES.items())


def test_members_lie_under_numbers_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    members = unpacked_members(tar(FILES), tmp_path)

    assert [member.path for member in members] == [tmp_path / "out" / f"{n:06d}" for n in (1, 2, 3)]
    assert [member.size for member in members] == [len(content) for content in FILES.values()]
    assert {oct(member.path.stat().st_mode & 0o777) for member in members} == {"0o600"}


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_one_compressed_file_comes_out_without_a_name(compress: object, tmp_path: Path) -> None:
    assert callable(compress)
    assert unpacked(compress(b"a volume" * 9000), tmp_path) == {"": b"a volume" * 9000}


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_streams_that_follow_each_other_are_joined(kind: str, tmp_path: Path) -> None:
    content = tar(FILES)
    halves = COMPRESSORS[kind](content[:700]) + COMPRESSORS[kind](b"") + COMPRESSORS[kind](content[700:])

    assert unpacked(halves, tmp_path) == FILES


@pytest.mark.parametrize("flags", range(32))
@pytest.mark.parametrize("piece", [1, 7, 2**16])
def test_every_header_of_gzip_is_read_also_in_pieces(
    flags: int, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "INPUT_BYTES", piece)
    stream = gzip_header(flags) + gzip.compress(b"a volume" * 99, mtime=0)[10:]
    (tmp_path / "it.gz").write_bytes(stream)
    with (tmp_path / "it.gz").open("rb") as file:
        assert b"".join(decoders.decompressed(file, ArchiveFormat.GZIP)) == b"a volume" * 99


@pytest.mark.parametrize(
    "header", [gzip_header(0x20), gzip_header(2)[:-2] + b"no", b"\x1f\x8b\x07" + gzip_header(0)[3:]]
)
def test_a_damaged_header_of_gzip_is_refused(header: bytes) -> None:
    stream = io.BytesIO(header + gzip.compress(b"a volume", mtime=0)[10:])
    with pytest.raises(BadArchive, match="The compressed data of the gzip file is damaged"):
        list(decoders.decompressed(stream, ArchiveFormat.GZIP))


def test_a_flood_of_empty_streams_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match="very many small streams"):
        unpacked(gzip.compress(b"") * 5000, tmp_path)


@pytest.mark.parametrize("kind", ["gz", "xz"])
def test_zeros_behind_a_stream_are_the_padding_of_tapes(kind: str, tmp_path: Path) -> None:
    assert unpacked(COMPRESSORS[kind](tar(FILES)) + bytes(1024), tmp_path) == FILES


def test_a_tar_may_be_padded_to_its_record(tmp_path: Path) -> None:
    assert unpacked(tar(FILES) + bytes(512 * 40 + 17), tmp_path) == FILES


def test_a_tar_older_than_posix_is_told_by_its_checksum(tmp_path: Path) -> None:
    old = (
        tar_member("a", b"old", b"\0", at_257=bytes(8)) + tar_member("d/", b"", b"\0", at_257=bytes(8)) + END
    )

    assert archive_format(old) is ArchiveFormat.TAR
    assert unpacked(old, tmp_path) == {"a": b"old"}


def test_what_desktops_add_and_folders_are_passed_over(tmp_path: Path) -> None:
    clutter = ["__MACOSX/a/._x", "a/._x", "a/.DS_Store", ".ds_store", "Thumbs.db", "a/thumbs.DB", "a/Icon\r"]
    content = dict.fromkeys(clutter, b"clutter") | {"a/x": b"image"}
    folders = b"".join(tar_member(name, b"", b"5", mode=0o2775) for name in ("./", "a/", "empty/"))

    assert unpacked(folders + tar(content), tmp_path) == {"a/x": b"image"}
    shutil.rmtree(tmp_path / "out")
    assert unpacked(zip_of(content | {"empty/": b""}), tmp_path) == {"a/x": b"image"}


def test_names_are_told_without_detours(tmp_path: Path) -> None:
    assert list(unpacked(tar({"./a//b/./c": b"", "ä/日本": b""}), tmp_path)) == ["a/b/c", "ä/日本"]


def test_an_archive_without_files_gives_none(tmp_path: Path) -> None:
    assert unpacked(zip_of({}), tmp_path) == {}


def test_archives_inside_are_replaced_by_their_files(tmp_path: Path) -> None:
    inner = {
        "day1.tar.gz": gzip.compress(tar({"x": b"1"})),
        "z": b"2",
        "day2.zip": zip_of({"x": b"3"}),
        "y": b"4",
    }

    assert list(unpacked(zip_of(inner), tmp_path).items()) == [
        ("day1.tar.gz/x", b"1"),
        ("z", b"2"),
        ("day2.zip/x", b"3"),
        ("y", b"4"),
    ]
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_archives_inside_are_opened_as_deep_as_told(tmp_path: Path) -> None:
    content = tar({"a": tar({"b": tar({"c": b"x"})})})

    assert unpacked(content, tmp_path, ArchiveLimits(depth=2)) == {"a/b/c": b"x"}


def test_compressed_files_and_programs_inside_stay_as_they_are(tmp_path: Path) -> None:
    files = {
        "brain.nii.gz": gzip.compress(b"a volume" * 400),
        "damaged.gz": gzip.compress(b"a volume" * 400)[:20],
        "viewer.jar": zip_of({"META-INF/MANIFEST.MF": b"", "a.class": b""}),
        "report.docx": zip_of({"[Content_Types].xml": b"<Types/>"}),
    }

    assert unpacked(tar(files), tmp_path) == files


def test_the_same_archive_comes_out_the_same_each_time(tmp_path: Path) -> None:
    content = zip_of({f"{number}": b"%d" % number for number in random.Random(3).sample(range(99), 40)})
    first = [(m.name, m.path.name, m.size) for m in unpacked_members(content, tmp_path)]
    shutil.rmtree(tmp_path / "out")

    assert [(m.name, m.path.name, m.size) for m in unpacked_members(content, tmp_path)] == first


def test_a_zip_written_to_a_pipe_is_read(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.content = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.content += bytes(data)
            return len(bytes(data))

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(content)

    assert unpacked(pipe.content, tmp_path) == FILES


def test_a_comment_behind_a_zip_may_look_like_its_end(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"x")
        archive.comment = b"from PK\5\6 with love, " + bytes(30)

    assert unpacked(buffer.getvalue(), tmp_path) == {"a": b"x"}


@pytest.mark.parametrize(
    "options", ["gnu", "posix", "oldgnu", "v7", "ustar", "gnu --sparse", "oldgnu --sparse", "posix --sparse"]
)
def test_what_gnu_tar_writes_comes_out_holes_included(options: str, tmp_path: Path) -> None:
    source = tmp_path / "study"
    source.mkdir()
    with (source / "holes").open("wb") as file:
        for megabyte in range(1, 9):
            file.seek(megabyte * 2**20)
            file.write(b"x" * 5000)
        file.truncate(9 * 2**20 + 5)
    (source / "plain").write_bytes(os.urandom(70_000))
    subprocess.run(
        ["tar", "-C", tmp_path, "-czf", tmp_path / "t.tgz", *f"--format={options}".split(), "study"],
        check=True,
    )

    got = unpacked((tmp_path / "t.tgz").read_bytes(), tmp_path)

    assert got == {f"study/{path.name}": path.read_bytes() for path in source.iterdir()}


def test_pax_records_that_say_nothing_of_the_file_are_passed_over(tmp_path: Path) -> None:
    records = {
        "mtime": "1.5",
        "LIBARCHIVE.xattr.com.apple.x": b"\xff\0=\n7 a=b\n",
        "SCHILY.fflags": "",
        "path": "b",
    }
    content = pax({"comment": "of a commit"}, b"g") + pax(records) + tar_member("a", b"x") + END

    assert unpacked(content, tmp_path) == {"b": b"x"}


def test_nothing_in_the_folder_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "000002").write_bytes(b"another's")
    (tmp_path / "a.tar").write_bytes(tar(FILES))

    with pytest.raises(FileExistsError):
        unpack(tmp_path / "a.tar", tmp_path, LIMITS)

    assert (tmp_path / "000002").read_bytes() == b"another's"
    assert not (tmp_path / "000001").exists()


def test_a_full_disk_is_told_as_such_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar({"a": b"x", "b": bytes(100_000)}))
    (tmp_path / "out").mkdir()
    script = (
        "import sys, pathlib\n"
        "from shared.archives import ArchiveLimits, unpack\n"
        "from shared.errors import Unavailable\n"
        "try:\n"
        "    unpack(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), ArchiveLimits())\n"
        "except Unavailable as error:\n"
        "    print(error.detail)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a.tar", tmp_path / "out"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
        capture_output=True,
        text=True,
        check=True,
    )

    assert "no room left" in run.stdout
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (tar(FILES), ArchiveFormat.TAR),
        (zip_of(FILES), ArchiveFormat.ZIP),
        (zip_of({}), ArchiveFormat.ZIP),
        (gzip.compress(b"x", mtime=0), ArchiveFormat.GZIP),
        (bz2.compress(b"x"), ArchiveFormat.BZIP2),
        (bz2.compress(b""), ArchiveFormat.BZIP2),
        (lzma.compress(b"x"), ArchiveFormat.XZ),
        (b"7z\xbc\xaf\x27\x1c\0\4", ArchiveFormat.SEVEN_ZIP),
        (b"Rar!\x1a\x07\0", ArchiveFormat.RAR),
        (b"\x28\xb5\x2f\xfd\0", ArchiveFormat.ZSTD),
        (b"BZhello, world!", None),
        (b"", None),
        (bytes(512), None),
        (random.Random(2).randbytes(512), None),
        (tar(FILES)[:128] + b"DICM" + tar(FILES)[132:], None),
    ],
)
def test_the_format_is_told_by_the_first_bytes(head: bytes, kind: ArchiveFormat | None) -> None:
    assert archive_format(head[:HEAD_BYTES]) is kind
