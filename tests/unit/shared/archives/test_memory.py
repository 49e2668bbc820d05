"""Bombs and huge headers cost little memory, whatever they claim: measured in a process of their own."""

import bz2
import gzip
import io
import lzma
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from struct import pack

import pytest

from tests.unit.shared.archives.building import END, ZipMember, pax, tar, tar_member, zip_by_hand

MIB = 2**20
SCRIPT = """
import pathlib, sys
from shared.archives import ArchiveLimits, unpack
from shared.errors import HounsfieldError
from tests.memory import peak_mib

before = peak_mib()
try:
    print(len(unpack(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), ArchiveLimits())))
except HounsfieldError as error:
    print(type(error).__name__)
print(peak_mib() - before)
"""


def zeros(compressor: object, mebibytes: int, head: bytes = b"") -> bytes:
    """So many compressed MiB of zeros behind a head."""
    parts = [compressor.compress(head)]
    parts += [compressor.compress(bytes(MIB)) for _ in range(mebibytes)]
    return b"".join([*parts, compressor.flush()])


def gzip_of(mebibytes: int, head: bytes = b"") -> bytes:
    return zeros(zlib.compressobj(9, zlib.DEFLATED, 31), mebibytes, head)


def bzip2_in_zip(mebibytes: int) -> bytes:
    data = zeros(bz2.BZ2Compressor(), mebibytes)
    return zip_by_hand(ZipMember(method=12, data=data, content=b"", size=4000, crc=0))


def crowded_directory(entries: int) -> bytes:
    """A directory of very many entries that its end record counts as few."""
    member = ZipMember()
    central = member.central(0) * entries
    end = pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, len(central), len(member.local()), 0)
    return member.local() + central + end


def many_members(count: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for number in range(count):
            archive.addfile(tarfile.TarInfo(f"{number:0400}"))
    return buffer.getvalue()


def fine_zip(mebibytes: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a", bytes(range(256)) * (mebibytes * 4096), zipfile.ZIP_STORED)
    return buffer.getvalue()


CLAIM = {"size": 2**33}
HEAVY: dict[str, tuple[Callable[[], bytes], str]] = {
    "a gzip bomb of 1 GiB": (lambda: gzip_of(1024), "ArchiveTooLarge"),
    "a tar.gz bomb of 1 GiB": (lambda: gzip_of(1024, tar_member("a", size=2**30)), "ArchiveTooLarge"),
    "a tar.gz with a pax header of 512 MiB": (
        lambda: gzip_of(512, tar_member("p", b"536870912 path=", b"x", size=2**29)),
        "BadArchive",
    ),
    "a tar.gz with a long name of 512 MiB": (
        lambda: gzip_of(512, tar_member("n", b"", b"L", size=2**29)),
        "BadArchive",
    ),
    "a tar with a pax header of 8 GiB": (
        lambda: tar_member("p", bytes(8 * MIB), b"x", **CLAIM),
        "BadArchive",
    ),
    "a tar with a link name of 8 GiB": (lambda: tar_member("n", bytes(8 * MIB), b"K", **CLAIM), "BadArchive"),
    "a chain of pax headers": (lambda: pax({"path": "p" * 900_000}) * 40 + END, "BadArchive"),
    "an endless sparse map": (
        lambda: (
            tar_member("s", b"", b"S", at_482=b"\1", at_483=b"00000002000\0")
            + ((b"00000000001\0" + b"00000000000\0") * 21).ljust(504, b"\0").ljust(512, b"\1") * 60_000
        ),
        "BadArchive",
    ),
    "a tar.bz2 bomb of 1 GiB": (
        lambda: zeros(bz2.BZ2Compressor(), 1024, tar_member("a", size=2**30)),
        "ArchiveTooLarge",
    ),
    "a tar.xz bomb of 512 MiB": (
        lambda: zeros(lzma.LZMACompressor(preset=1), 512, tar_member("a", size=2**29)),
        "ArchiveTooLarge",
    ),
    "a bzip2 bomb in a zip that lies": (lambda: bzip2_in_zip(512), "BadArchive"),
    "a directory of 600,000 entries": (lambda: crowded_directory(600_000), "BadArchive"),
    "a bomb in a bomb": (
        lambda: gzip.compress(tar({f"{n}": gzip_of(100, tar_member("a", size=100 * MIB)) for n in range(3)})),
        "ArchiveTooLarge",
    ),
    "a good zip of 256 MiB": (lambda: fine_zip(256), "1"),
    "20,000 members with long names": (lambda: many_members(20_000), "20000"),
}


@pytest.mark.parametrize("name", HEAVY)
def test_no_archive_takes_much_memory(name: str, tmp_path: Path) -> None:
    build, outcome = HEAVY[name]
    (tmp_path / "archive").write_bytes(build())
    (tmp_path / "out").mkdir()

    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "archive", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=True,
    )

    seen, mebibytes = run.stdout.split()
    assert seen == outcome
    assert int(mebibytes) < 100, f"{mebibytes} MiB"
