"""Archives from strangers: each is refused for what is wrong with it, and nothing of it stays."""

import gzip
import lzma
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from struct import pack

import pytest

from shared.archives import ArchiveLimits, ArchiveTooLarge, BadArchive, UnsupportedArchive, unpack
from shared.errors import HounsfieldError
from tests.unit.shared.archives.building import (
    COMPRESSORS,
    END,
    ZipMember,
    deflate,
    overlapping_zip,
    pax,
    quoting_zip,
    record,
    saying,
    tar,
    tar_member,
    with_checksum,
    zip64_end,
    zip_by_hand,
    zip_of,
)

LIMITS = ArchiveLimits(
    members=20,
    total_bytes=400_000,
    member_bytes=200_000,
    ratio=50,
    ratio_floor=100_000,
    path_length=200,
    path_depth=8,
)
ROOMY = ArchiveLimits(ratio_floor=2**20)
PATIENT = "DOE^JANE"
NOISE = random.Random(1).randbytes(150_000)

Case = tuple[Callable[[], bytes], type[HounsfieldError], str, ArchiveLimits]


def bad(reason: str, *members: bytes, end: bytes = END, limits: ArchiveLimits = LIMITS) -> Case:
    """A tar of the members, damaged or unsafe."""
    return lambda: b"".join(members) + end, BadArchive, reason, limits


def bad_zip(reason: str, *members: ZipMember, **wrong: object) -> Case:
    """A zip of the members, damaged or unsafe."""
    return lambda: zip_by_hand(*members, **wrong), BadArchive, reason, LIMITS


def unsupported(reason: str, build: Callable[[], bytes]) -> Case:
    return build, UnsupportedArchive, reason, LIMITS


def too_large(reason: str, build: Callable[[], bytes], limits: ArchiveLimits = LIMITS) -> Case:
    return build, ArchiveTooLarge, reason, limits


def named(name: str | bytes) -> bytes:
    return tar_member(name, b"x")


def sparse(stored: bytes, **records: str) -> bytes:
    fields = {"major": "1", "minor": "0", "name": PATIENT, "realsize": "2000"} | records
    return pax({f"GNU.sparse.{key}": value for key, value in fields.items()}) + tar_member("s", stored)


def gnu_sparse(table: bytes, size: bytes, stored: bytes = b"", more: bytes = b"\0") -> bytes:
    return tar_member("s", stored, tarfile.GNUTYPE_SPARSE, at_386=table, at_482=more, at_483=size)


def sparse_map(*numbers: int) -> bytes:
    return b"".join(b"%d\n" % number for number in numbers).ljust(512, b"\0")


def lying_zip64(**lies: int) -> bytes:
    def end(at: int, size: int) -> bytes:
        right = {"count": 1, "size": size, "at": at, "record_at": at + size}
        return zip64_end(**(right | lies))

    return zip_by_hand(ZipMember(), before_end=end)


def deep(levels: int) -> bytes:
    content = tar({"a": b"x"})
    for _ in range(levels):
        content = tar({PATIENT: content})
    return content


SPECIALS: dict[str, Case] = {
    "a symbolic link": bad("Member 1 is a symbolic link", tar_member("l", b"", b"2", linkname="/etc/passwd")),
    "a symbolic link to a neighbour": bad(
        "Member 2 is a symbolic link", named("a"), tar_member("l", b"", b"2", linkname="a")
    ),
    "a hard link": bad("Member 2 is a hard link", named("a"), tar_member("l", b"", b"1", linkname="a")),
    "a character device": bad("character device", tar_member("null", b"", b"3")),
    "a block device": bad("block device", tar_member("sda", b"", b"4")),
    "a FIFO": bad("FIFO", tar_member("pipe", b"", b"6")),
    "a volume of several": bad("unusual type", tar_member("a", b"x", b"M")),
    "an unknown type": bad("unusual type", tar_member("a", b"x", b"Z")),
    "setuid": bad("setuid", tar_member("a", b"x", mode=0o4755)),
    "setgid": bad("setuid or setgid", tar_member("a", b"x", mode=0o2755)),
    "a folder with content": bad("content of its own", tar_member("d", b"x" * 600, b"5")),
    "a zipped symbolic link": bad_zip("symbolic link", ZipMember(mode=0o120777)),
    "a zipped FIFO": bad_zip("FIFO", ZipMember(mode=0o010644)),
    "a zipped device": bad_zip("device", ZipMember(mode=0o060644)),
    "a zipped setuid program": bad_zip("setuid", ZipMember(mode=0o104755)),
    "a zipped folder with content": bad_zip("content of its own", ZipMember(name=b"d/")),
}
NAMES: dict[str, Case] = {
    "an absolute path": bad("absolute path", named("/etc/cron.d/x")),
    "an absolute path in pax": bad("absolute path", pax({"path": "/etc/x"}), named("a")),
    "a path that climbs": bad("climbs out", named("../../x")),
    "a path that climbs at last": bad("climbs out", named("a/b/../../../x")),
    "a folder that climbs": bad("climbs out", tar_member("../d", b"", b"5")),
    "metadata that climbs": bad("climbs out", named("__MACOSX/../../x")),
    "a long name that climbs": bad("climbs out", tar_member("L", b"../x\0", b"L"), named("a")),
    "a sparse name that climbs": bad("climbs out", sparse(sparse_map(0), name="../x")),
    "a drive letter": bad("absolute path", named("C:/x")),
    "a backslash": bad("backslash", named("..\\x")),
    "a NUL in a pax path": bad("control characters", pax({"path": b"a\0b"}), named("a")),
    "a line break": bad("control characters", named("a\nb")),
    "an escape": bad("control characters", named("\x1b[2Ja")),
    "a name that reads backwards": bad("control characters", named("a\u202egpj.exe")),
    "a name in Latin-1": bad("cannot be decoded", named(b"M\xfcller")),
    "a pax path in Latin-1": bad("cannot be decoded", pax({"path": b"M\xfcller"}), named("a")),
    "no name": bad("no name", named("")),
    "a file called as a folder": bad("name of a folder", named("a/")),
    "a file called as the root": bad("name of a folder", named("./.")),
    "the same name twice": bad("Member 2 has the name of an earlier", named(PATIENT), named(PATIENT)),
    "the same name by detours": bad("name of an earlier", named("d/a"), named("./d//./a")),
    "the same name in capitals": bad("letter case aside", named("Straße"), named("STRASSE")),
    "the same name composed otherwise": bad("name of an earlier", named("\u00e9"), named("e\u0301")),
    "a long path": bad("longer than 200 characters", pax({"path": "p" * 201}), named("a")),
    "a deep path": bad("more than 8 folders deep", named("a/" * 8 + "x")),
    "a zipped absolute path": bad_zip("absolute path", ZipMember(name=b"/etc/x")),
    "a zipped path that climbs": bad_zip("climbs out", ZipMember(name=b"../x")),
    "a zipped drive letter": bad_zip("absolute path", ZipMember(name=b"c:x")),
    "a zipped backslash": bad_zip("backslash", ZipMember(name=b"a\\b")),
    "a zipped NUL": bad_zip("control characters", ZipMember(name=b"a.png\0.exe")),
    "a zipped name that is no UTF-8": bad_zip("cannot be decoded", ZipMember(name=b"\xff", flags=0x800)),
    "zipped names that differ in case": bad_zip(
        "Member 2 has the name", ZipMember(name=b"IM1"), ZipMember(name=b"im1")
    ),
    "a long zipped path": bad_zip("longer than 200", ZipMember(name=b"p" * 201)),
    "a very long zipped path": bad_zip("longer than 200", ZipMember(name=b"p" * 60_000)),
    "a zipped file called as the root": bad_zip("name of a folder", ZipMember(name=b".")),
}
SIZES: dict[str, Case] = {
    "too many members": too_large("more than 20 files", lambda: tar({f"{i}": b"" for i in range(21)})),
    "too many folders": too_large(
        "more than 20 files", lambda: b"".join(tar_member(f"{i}", b"", b"5") for i in range(21)) + END
    ),
    "too many zipped members": too_large(
        "more than 20 files", lambda: zip_of({f"{i}": b"" for i in range(21)})
    ),
    "a member over its limit": too_large(
        "Member 1 unpacks to more than the", lambda: tar({"a": bytes(200_001)})
    ),
    "metadata over the limit": too_large("Member 1", lambda: tar({"._a": bytes(200_001)})),
    "a member of an exabyte": too_large(
        "Member 1", lambda: tar_member("a", b"x", at_124=b"\x80" + (2**60).to_bytes(11)) + END
    ),
    "a pax size of an exabyte": too_large("Member 1", lambda: pax({"size": str(2**60)}) + named("a") + END),
    "too much in all": too_large("more than 0 MiB", lambda: tar({f"{i}": NOISE for i in range(3)})),
    "a tar.gz bomb": too_large(
        "more than 50 times", lambda: gzip.compress(tar({"a": bytes(150_000)})), LIMITS
    ),
    "a tar.xz bomb": too_large("more than 50 times", lambda: lzma.compress(tar({"a": bytes(150_000)}))),
    "a tar.bz2 bomb": too_large("more than 50 times", lambda: COMPRESSORS["bz2"](tar({"a": bytes(150_000)}))),
    "a gzip bomb": too_large("more than 50 times", lambda: gzip.compress(bytes(150_000))),
    "a bomb of padding": too_large(
        "more than 50 times", lambda: gzip.compress(tar({"a": b"x"}) + bytes(500_000))
    ),
    "one gzipped file over its limit": too_large("Member 1", lambda: gzip.compress(NOISE * 2)),
    "a zip bomb": too_large("Member 1 unpacks to more than 50 times", lambda: zip_of({"a": bytes(150_000)})),
    "a zip bomb of many": too_large(
        "The archive unpacks to more than 50 times", lambda: zip_of({f"{i}": bytes(90_000) for i in range(4)})
    ),
    "a sparse bomb": too_large(
        "The archive unpacks to more than 50 times", lambda: sparse(sparse_map(0), realsize="190000") + END
    ),
    "a sparse file of an exabyte": too_large(
        "Member 1", lambda: gnu_sparse(b"", b"\x80" + (2**60).to_bytes(11)) + END
    ),
    "a bomb in an archive": too_large(
        "In member 1, an archive itself: The compressed file unpacks",
        lambda: tar({PATIENT: gzip.compress(tar({"a": bytes(150_000)}))}),
    ),
    "members of inner archives add up": too_large(
        "more than 20 files", lambda: tar({f"{i}": tar({f"{n}": b"" for n in range(6)}) for i in range(3)})
    ),
    "archives too deep": (lambda: deep(2), BadArchive, "In member 1.*Member 1 is an archive", LIMITS),
    "a zip in a tar.gz in a tar": (
        lambda: tar({"a": gzip.compress(tar({"b": zip_of({"c": b""})}))}),
        BadArchive,
        "opened 1 deep",
        LIMITS,
    ),
}
GOOD = tar({PATIENT: NOISE[:3000]})
TAR_DAMAGE: dict[str, Case] = {
    "cut in a header": bad("ends early", GOOD[:300], end=b""),
    "cut in its content": bad("ends early", GOOD[:2000], end=b""),
    "cut before its end marker": bad("ends early", GOOD[: 512 + 3072], end=b""),
    "an extended header before nothing": bad("damaged", named("a"), pax({"comment": "of the next member"})),
    "a wrong checksum": bad("header of member 2 is damaged", named("a"), b"c" + named("b")[1:]),
    "text after a member": bad("damaged", named("a"), b"some text".ljust(512)),
    "text after the end": bad("Other bytes follow", GOOD, b"text", end=b""),
    "a second tar after the end": bad("Other bytes follow", GOOD, GOOD, end=b""),
    "empty blocks without end": bad("Other bytes follow", GOOD, bytes(2**20), end=b"", limits=ROOMY),
    "a negative size": bad("is negative", tar_member("a", at_124=b"\xff" * 12)),
    "a negative octal size": bad("no number", tar_member("a", at_124=b"-0000001000\0")),
    "a size with an underscore": bad("no number", tar_member("a", at_124=b"0000001_000\0")),
    "a negative pax size": bad("no number", pax({"size": "-512"}), named("a")),
    "a pax size of many digits": bad("no number", pax({"size": "9" * 5000}), named("a")),
    "a pax record that is too long": bad(
        "extended header", tar_member("p", b"99 path=a\n", b"x"), named("a")
    ),
    "a pax record of length 0": bad("extended header", tar_member("p", b"0 path=a\n", b"x"), named("a")),
    "a pax record that loops": bad("extended header", tar_member("p", b"3 path=a\n", b"x"), named("a")),
    "a pax record without an end": bad("extended header", tar_member("p", b"10 path=a!", b"x"), named("a")),
    "a global path": bad("global header", pax({"path": "a"}, b"g"), named("b")),
    "a global size": bad("global header", pax({"size": "5"}, b"g"), named("b")),
    "a huge pax header": bad("limit is 1,048,576", tar_member("p", b"", b"x", size=2**33), named("a")),
    "a huge long name": bad("limit is 1,048,576", tar_member("p", b"", b"L", size=2**33), named("a")),
    "a huge global header": bad("limit is 1,048,576", tar_member("p", b"", b"g", size=2**40), named("a")),
    "a long name for each other": bad(
        "Very many extension", tar_member("p", b"a\0", b"L") * 2000, named("a")
    ),
    "pax headers for each other": bad("Very many extension", pax({"path": "a"}) * 2000, named("a")),
    "a pax header for nothing": bad("header of member 1 is damaged", pax({"path": "a"})),
    "a sparse map out of order": bad("contradicts", sparse(sparse_map(2, 600, 5, 0, 5) + b"x" * 10)),
    "a sparse map beyond the end": bad("contradicts", sparse(sparse_map(1, 1999, 5) + b"x" * 5)),
    "a sparse map of other data": bad("contradicts", sparse(sparse_map(1, 0, 5) + b"x" * 9)),
    "a sparse map that never ends": bad("map of member 1 is damaged", sparse(b"1" * 2048)),
    "a sparse map that promises more": bad("map of member 1 is damaged", sparse(sparse_map(10**9))),
    "a sparse map of text": bad("no number", sparse(b"one\n".ljust(512))),
    "a GNU map that never ends": bad("damaged", gnu_sparse(b"", b"00000002000\0", more=b"\1")),
    "a GNU map of text": bad("damaged", gnu_sparse(b"some where, some length ", b"00000002000\0")),
}
ZIP = ZipMember()
ZIP_DAMAGE: dict[str, Case] = {
    "a zip cut in its directory": (lambda: zip_of({"a": NOISE})[:-40], BadArchive, "cut short", LIMITS),
    "a zip cut in its content": (lambda: zip_of({"a": NOISE})[:5000], BadArchive, "cut short", LIMITS),
    "a zip's first bytes": (lambda: b"PK\3\4", BadArchive, "cut short", LIMITS),
    "an empty zip cut short": (lambda: zip_of({})[:-6], BadArchive, "cut short", LIMITS),
    "bytes after a zip": (lambda: zip_of({"a": b"x"}) + b"more", BadArchive, "added to", LIMITS),
    "Fifield's overlapping zip": (lambda: overlapping_zip(5, NOISE[:9]), BadArchive, "overlaps", ROOMY),
    "Fifield's quoting zip": (lambda: quoting_zip(5, NOISE[:9]), BadArchive, "overlaps", ROOMY),
    "a directory that counts more": bad_zip("contradicts", ZIP, count=2),
    "a directory that counts fewer": bad_zip(
        "more members than it counts", ZIP, ZipMember(name=b"b"), count=1
    ),
    "a directory elsewhere": bad_zip("contradicts", ZIP, directory_at=3),
    "a directory beyond the end": bad_zip("contradicts", ZIP, directory_at=2**31),
    "a directory of another size": bad_zip("contradicts", ZIP, directory_size=20),
    "two counts": bad_zip("contradicts", ZIP, count_here=7),
    "another name in the directory": bad_zip("header of member 1 disagree", ZIP, directory=saying(name=b"b")),
    "another size in the directory": bad_zip("disagree", ZIP, directory=saying(size=3)),
    "another method in the directory": bad_zip("disagree", ZIP, directory=saying(method=0)),
    "another checksum in the directory": bad_zip("disagree", ZIP, directory=saying(crc=3)),
    "a header elsewhere": bad_zip("contradicts", ZIP, directory=saying(start=4)),
    "a header beyond the end": bad_zip("contradicts", ZIP, directory=saying(start=2**31)),
    "a wrong checksum of a zip": bad_zip("does not fit its size and checksum", ZipMember(crc=1)),
    "a zipped size too small": bad_zip("does not fit its size", ZipMember(size=3)),
    "a zipped size too large": bad_zip("does not fit its size", ZipMember(size=30)),
    "a stored member of two sizes": bad_zip("two sizes", ZipMember(method=0, size=3)),
    "damaged deflate": bad_zip("data of member 1 is damaged", ZipMember(data=b"\xff" * 20)),
    "cut deflate": bad_zip("ends elsewhere", ZipMember(content=NOISE, data=deflate(NOISE)[:-50])),
    "deflate with a tail": bad_zip("ends elsewhere", ZipMember(data=deflate(b"content") + b"tail")),
    "damaged LZMA settings": bad_zip("LZMA settings", ZipMember(method=14, data=b"\x09\4\5\0\xff\0\0\0\0\0")),
    "cut LZMA settings": bad_zip("LZMA settings", ZipMember(method=14, data=b"\x09\4")),
    "a member outside the directory": (
        lambda: zip_by_hand(ZipMember(after=ZipMember(name=b"hidden").local())),
        BadArchive,
        "does not name follow member 1",
        LIMITS,
    ),
    "a zip behind another": (
        lambda: (
            zip_by_hand(ZIP, directory=saying(start=len(ZIP.local())))[: len(ZIP.local())]
            + zip_by_hand(ZIP, directory=saying(start=len(ZIP.local())), directory_at=2 * len(ZIP.local()))
        ),
        BadArchive,
        "precede",
        LIMITS,
    ),
    "a 64-bit count that lies": (lambda: lying_zip64(count=2**40), BadArchive, "64-bit.*contradicts", LIMITS),
    "a 64-bit size that lies": (lambda: lying_zip64(size=2**50), BadArchive, "64-bit.*contradicts", LIMITS),
    "a 64-bit record elsewhere": (lambda: lying_zip64(record_at=0), BadArchive, "contradicts", LIMITS),
    "a 64-bit record beyond the end": (
        lambda: lying_zip64(record_at=2**60),
        BadArchive,
        "contradicts",
        LIMITS,
    ),
    "a 64-bit record of another length": (
        lambda: lying_zip64(length=2**62),
        BadArchive,
        "contradicts",
        LIMITS,
    ),
    "a header beyond 64 bits": bad_zip(
        "contradicts", ZIP, directory=saying(start=2**32 - 1, extra=pack("<HHQ", 1, 8, 2**64 - 1))
    ),
    "no 64-bit sizes": bad_zip("lacks its 64-bit sizes", ZIP, directory=saying(size=2**32 - 1)),
    "a 64-bit size of an exabyte": too_large(
        "Member 1 unpacks to more than",
        lambda: zip_by_hand(
            ZipMember(flags=8, after=bytes(16)),
            directory=saying(size=2**32 - 1, extra=pack("<HHQ", 1, 8, 2**60)),
        ),
    ),
}
STREAM_DAMAGE: dict[str, Case] = {
    f"a tar.{kind} {what}": (
        lambda kind=kind, hurt=hurt: hurt(COMPRESSORS[kind](GOOD)),
        BadArchive,
        reason,
        LIMITS,
    )
    for kind in ("gz", "bz2", "xz")
    for what, hurt, reason in (
        ("cut in the middle", lambda data: data[: len(data) // 2], "ends early"),
        ("without its last byte", lambda data: data[:-1], "ends early"),
        ("followed by text", lambda data: data + b"text follows", "Other bytes follow"),
        ("with a wrong byte", lambda data: data[:200] + bytes([data[200] ^ 255]) + data[201:], "damaged"),
    )
}
KINDS: dict[str, Case] = {
    "nothing": unsupported("no archive", bytes),
    "text": unsupported("no archive", lambda: b"patient,age\n" * 99),
    "zeros": unsupported("no archive", lambda: bytes(10240)),
    "a DICOM file": unsupported("no archive", lambda: b"PK\3\4".ljust(128, b"\0") + b"DICM" + bytes(400)),
    "a Word document": unsupported("no archive", lambda: zip_of({"[Content_Types].xml": b"<Types/>"})),
    "7z": unsupported("This is a 7z archive; send a .zip", lambda: b"7z\xbc\xaf\x27\x1c" + bytes(99)),
    "RAR": unsupported("This is a RAR archive", lambda: b"Rar!\x1a\x07\x01\x00" + bytes(99)),
    "Zstandard": unsupported("This is a Zstandard archive", lambda: b"\x28\xb5\x2f\xfd" + bytes(99)),
    "7z in a tar": unsupported(
        "Member 2 is a 7z archive", lambda: tar({"a": b"", "b": b"7z\xbc\xaf\x27\x1c" + NOISE})
    ),
    "an encrypted zip": unsupported("Member 1 is encrypted", lambda: zip_by_hand(ZipMember(flags=1))),
    "an AES zip": unsupported("Member 1 is encrypted", lambda: zip_by_hand(ZipMember(method=99))),
    "an encrypted directory": unsupported("encrypted", lambda: zip_by_hand(ZipMember(flags=1 << 13))),
    "a patch": unsupported("a patch", lambda: zip_by_hand(ZipMember(flags=1 << 5))),
    "Deflate64": unsupported("Deflate64", lambda: zip_by_hand(ZipMember(method=9))),
    "an unknown method": unsupported(r"unknown method \(77\)", lambda: zip_by_hand(ZipMember(method=77))),
    "the last part of a split zip": unsupported("split zip", lambda: zip_by_hand(ZIP, disk=3)),
    "a member on another disk": unsupported("split zip", lambda: zip_by_hand(ZipMember(disk=3))),
    "a 64-bit split zip": unsupported("split zip", lambda: lying_zip64(disks=4)),
    "an old sparse form": unsupported(
        "old sparse form", lambda: pax({"GNU.sparse.size": "9"}) + named("a") + END
    ),
    "LZMA with a dictionary of 4 GiB": unsupported(
        "128 MiB of memory",
        lambda: zip_by_hand(ZipMember(method=14, data=b"\x09\4\5\0]" + b"\xff" * 4 + bytes(9))),
    ),
    "xz with a dictionary of 1.5 GiB": unsupported(
        "128 MiB of memory",
        lambda: lzma.compress(
            b"x", filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1536 * 2**20}]
        ),
    ),
}
HOSTILE = SPECIALS | NAMES | SIZES | TAR_DAMAGE | ZIP_DAMAGE | STREAM_DAMAGE | KINDS


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_for_what_is_wrong_with_it(name: str, tmp_path: Path) -> None:
    build, error, reason, limits = HOSTILE[name]
    folder = tmp_path / "work" / "folder"
    folder.mkdir(parents=True)
    (tmp_path / f"{PATIENT}.bin").write_bytes(build())

    with pytest.raises(error, match=reason) as refusal:
        unpack(tmp_path / f"{PATIENT}.bin", folder, limits)

    assert PATIENT not in refusal.value.detail
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted([f"{PATIENT}.bin", "work", "folder"])


def test_the_builders_make_good_archives_when_told_nothing_wrong(tmp_path: Path) -> None:
    good = {
        "tar": named("a") + END,
        "pax": pax({"path": "a", "comment": "c"}) + named("b") + END,
        "sparse": sparse(sparse_map(1, 600, 5) + b"hello") + END,
        "gnu sparse": gnu_sparse(b"00000000000\0" + b"00000000005\0", b"00000002000\0", b"hello") + END,
        "zip": zip_by_hand(ZipMember(), ZipMember(name=b"b", method=0)),
        "zip with descriptors": zip_by_hand(ZipMember(flags=8, after=bytes(16))),
        "zip64": lying_zip64(),
        "zip with wide sizes": zip_by_hand(
            ZipMember(), directory=saying(size=2**32 - 1, extra=pack("<HHQ", 1, 8, 7))
        ),
        "checksum": with_checksum(named("a")[:512]) + named("a")[512:] + END,
        "record": tar_member("p", record("path", "b"), b"x") + named("a") + END,
    }
    for name, content in good.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / f"{name} out").mkdir()
        assert unpack(tmp_path / name, tmp_path / f"{name} out", LIMITS), name


def test_encrypted_zips_of_real_tools_are_refused(tmp_path: Path) -> None:
    plain = zip_of({"a": NOISE[:100]}, zipfile.ZIP_STORED)
    hidden = bytearray(plain)
    for magic, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        hidden[plain.index(magic) + flags] |= 1
    (tmp_path / "a.zip").write_bytes(hidden)

    with pytest.raises(UnsupportedArchive, match="without a password"):
        unpack(tmp_path / "a.zip", tmp_path, LIMITS)
