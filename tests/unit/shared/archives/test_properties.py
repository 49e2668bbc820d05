"""Whatever tree of regular files is packed comes back byte for byte."""

import io
import tarfile
import unicodedata
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.archives import ArchiveLimits, unpack
from shared.archives.names import is_metadata
from tests.unit.shared.archives.building import COMPRESSORS, tar, zip_of

LIMITS = ArchiveLimits(path_length=2000, ratio_floor=64 * 2**20)
_LETTERS = st.characters(exclude_categories=("Cc", "Cs", "Cf", "Zl", "Zp"), exclude_characters="/\\:")
_PARTS = st.text(_LETTERS, min_size=1, max_size=40).filter(lambda part: part not in (".", ".."))
_PATHS = st.lists(_PARTS, min_size=1, max_size=6).map("/".join)
_CONTENTS = st.one_of(
    st.binary(max_size=3000),
    st.builds(lambda unit, times: unit * times, st.binary(min_size=1, max_size=20), st.integers(0, 40_000)),
)
# Contents that are archives themselves are opened, which another test shows.
_TREES = st.dictionaries(
    _PATHS.filter(lambda path: not is_metadata(path)),
    _CONTENTS.map(lambda content: b"\0" + content),
    max_size=8,
).filter(lambda tree: len({unicodedata.normalize("NFC", path).casefold() for path in tree}) == len(tree))


def round_trip(packed: bytes) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        archive, out = Path(folder) / "archive", Path(folder) / "out"
        archive.write_bytes(packed)
        out.mkdir()
        return {member.name: member.path.read_bytes() for member in unpack(archive, out, LIMITS)}


@settings(max_examples=150)
@given(
    _TREES.filter(bool),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.sampled_from(sorted(COMPRESSORS)),
)
def test_a_tar_of_any_tree_comes_back(tree: dict[str, bytes], form: int, compression: str) -> None:
    assert list(round_trip(COMPRESSORS[compression](tar(tree, form))).items()) == list(tree.items())


@settings(max_examples=150)
@given(
    _TREES, st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
)
def test_a_zip_of_any_tree_comes_back(tree: dict[str, bytes], method: int) -> None:
    assert list(round_trip(zip_of(tree, method)).items()) == list(tree.items())


@settings(max_examples=100)
@given(_TREES)
def test_both_agree_with_the_standard_library(tree: dict[str, bytes]) -> None:
    with zipfile.ZipFile(io.BytesIO(zip_of(tree))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == round_trip(zip_of(tree))
    if tree:
        with tarfile.open(fileobj=io.BytesIO(tar(tree))) as archive:
            files = {info.name: archive.extractfile(info) for info in archive}
            assert {name: file.read() for name, file in files.items() if file} == round_trip(tar(tree))
