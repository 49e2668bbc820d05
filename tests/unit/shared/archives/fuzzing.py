"""Good archives, hurt at random: what `unpack` may do with them."""

import gzip
import random
import shutil
import tarfile
from collections import Counter
from pathlib import Path
from struct import pack

from shared.archives import ArchiveLimits, ArchiveTooLarge, BadArchive, UnsupportedArchive, unpack
from tests.unit.shared.archives.building import (
    COMPRESSORS,
    END,
    ZipMember,
    pax,
    record,
    saying,
    tar,
    tar_member,
    with_checksum,
    zip64_end,
    zip_by_hand,
    zip_of,
)

LIMITS = ArchiveLimits(members=50, total_bytes=2**20, member_bytes=2**19, ratio_floor=2**18)
_NOISE = random.Random(0).randbytes(4000)
_TREE = {
    "a/IM1": b"image" * 300,
    "a/IM2": _NOISE[:1500],
    "b/" + "long" * 40: b"x",
    "__MACOSX/._a": b"y",
    "e": b"",
}


def seeds() -> list[bytes]:
    """Small good archives of every kind."""
    sparse = pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "2000"})
    sparse += tar_member("s", b"1\n600\n5\n".ljust(512, b"\0") + b"hello") + END
    old = tar_member("s", b"hello", b"S", at_386=b"00000000000\0" + b"00000000005\0", at_483=b"00000002000\0")
    wide = zip_by_hand(ZipMember(), before_end=lambda at, size: zip64_end(1, size, at, record_at=at + size))
    wide_fields = {"size": 2**32 - 1, "start": 2**32 - 1, "extra": pack("<HH2Q", 1, 16, 7, 0)}
    wider = zip_by_hand(ZipMember(), directory=saying(**wide_fields))
    plain = [tar(_TREE, form) for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]
    zips = [zip_of(_TREE, method) for method in (0, 8, 12, 14)]
    nested = [zip_of({"day.tgz": gzip.compress(tar(_TREE)), "x": b"y"}), tar({"day.zip": zip_of(_TREE)})]
    streams = [COMPRESSORS[kind](tar(_TREE)) for kind in ("gz", "bz2", "xz")]
    described = zip_by_hand(ZipMember(flags=8, after=bytes(16)))
    return [
        *plain,
        *zips,
        *nested,
        *streams,
        sparse,
        old + END,
        wide,
        wider,
        described,
        gzip.compress(_NOISE),
    ]


def hurt(good: bytes, other: bytes, chance: random.Random) -> bytes:
    """One to four of: bits flipped, bytes set, a cut, a piece left out, doubled or of another archive."""
    data = bytearray(good)
    for _ in range(chance.choice((1, 1, 2, 4))):
        chance.choice((_flip, _set, _piece, _piece, _relabel, _relabel))(data, other, chance)
    return bytes(data)


def _piece(data: bytearray, other: bytes, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    to = min(len(data), at + chance.choice((1, 4, 30, 512, 1024)))
    start = chance.randrange(len(other))
    where, what = chance.choice(
        (
            (slice(at, None), b""),
            (slice(at, to), b""),
            (slice(at, at), data[at:to]),
            (slice(at, to), other[start : start + 600]),
        )
    )
    data[where] = what


def _flip(data: bytearray, other: bytes, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 8) if data else 0):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _set(data: bytearray, other: bytes, chance: random.Random) -> None:
    """An interesting number somewhere, as lengths and counts are."""
    value = chance.choice(
        (b"\0" * 4, b"\xff" * 4, b"\xff\xff", b"\0\0\0\x80", b"\x7f", b"\0" * 8, b"\xff" * 8, b"PK\1\2")
    )
    at = chance.randrange(len(data) + 1)
    data[at : at + len(value)] = value


def _relabel(data: bytearray, other: bytes, chance: random.Random) -> None:
    """A tar header changed and given the checksum it then should have, so that the change is looked at."""
    headers = [at for at in range(0, len(data) - 511, 512) if data[at + 257 : at + 262] == b"ustar"]
    if not headers:
        return _flip(data, other, chance)
    start = chance.choice(headers)
    block = bytearray(data[start : start + 512])
    field, value = chance.choice(
        (
            (0, chance.choice((b"../x\0", b"/x\0", b"a\\b", b"\xff\xfe\0", b"._x\0"))),
            (100, chance.choice((b"0004755\0", b"0000644\0"))),
            (
                124,
                chance.choice(
                    (b"77777777777\0", b"\x80" + bytes(10) + b"\7", b"\xff" * 12, b"00000000777\0")
                ),
            ),
            (156, bytes([chance.choice(b"01234567LKSxgXMVDN\0")])),
            (386, chance.randbytes(48)),
            (482, b"\1"),
            (345, chance.randbytes(8)),
        )
    )
    block[field : field + len(value)] = value
    data[start : start + 512] = with_checksum(bytes(block))
    if chance.random() < 0.3:
        data[start:start] = tar_member("p", record("path", chance.choice(("../x", "/x", "fine"))), b"x")
    return None


def fuzz(work: Path, cases: int, seed: int = 0) -> Counter[str]:
    """Unpacks hurt archives in `work` (empty); how often which outcome was seen.

    AssertionError: a file was left after a refusal, or written elsewhere. Any error but the documented ones goes on.
    """
    outcomes: Counter[str] = Counter()
    good = seeds()
    chance = random.Random(seed)
    archive, out, bystander = work / "archive", work / "in" / "out", work / "in" / "bystander"
    out.mkdir(parents=True)
    bystander.write_bytes(b"untouched")
    for case in range(cases):
        archive.write_bytes(hurt(chance.choice(good), chance.choice(good), chance))
        try:
            members = unpack(archive, out, LIMITS)
        except (BadArchive, ArchiveTooLarge, UnsupportedArchive) as refusal:
            outcomes[type(refusal).__name__] += 1
            expected = []
        else:
            outcomes["unpacked"] += 1
            expected = sorted(member.path for member in members)
            assert sum(member.path.stat().st_size for member in members) <= LIMITS.total_bytes
            assert all(member.path.stat().st_size == member.size for member in members)
        assert sorted(out.rglob("*")) == expected, f"case {case} of seed {seed}"
        assert sorted(work.rglob("*")) == sorted([archive, work / "in", bystander, out, *expected])
        assert bystander.read_bytes() == b"untouched"
        for path in out.iterdir():
            path.unlink()
    shutil.rmtree(work)
    return outcomes
