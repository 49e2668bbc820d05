"""Tars that we write: what `tarfile` reads, at the places that were told."""

import io
import tarfile

import pytest

from shared.archives.tar_writer import TarWriter


def test_each_file_lies_where_it_is_said_to_lie() -> None:
    buffer = io.BytesIO()
    writer = TarWriter(buffer)
    contents = [b"", b"a", b"b" * 512, b"c" * 1000]
    places = []
    for number, content in enumerate(contents):
        with writer.member(f"{number}.dcm") as placed:
            buffer.write(content)
        places.append(placed)
    writer.finish()
    whole = buffer.getvalue()
    assert [whole[one.offset : one.offset + one.size] for one in places] == contents
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        members = tar.getmembers()
        assert [(m.name, m.size, m.mode, m.mtime, m.uid) for m in members] == [
            (f"{n}.dcm", len(content), 0o600, 0, 0) for n, content in enumerate(contents)
        ]
        assert [m.offset_data for m in members] == [one.offset for one in places]
        read = [tar.extractfile(member) for member in members]
        assert [file.read() for file in read if file] == contents


def test_a_file_that_could_not_be_written_leaves_no_trace() -> None:
    buffer = io.BytesIO()
    writer = TarWriter(buffer)
    with pytest.raises(ValueError, match="damaged"), writer.member("a"):
        _half(buffer)
    with writer.member("b") as placed:
        buffer.write(b"whole")
    writer.finish()
    assert placed.offset == 512
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as tar:
        assert tar.getnames() == ["b"]


def _half(buffer: io.BytesIO) -> None:
    buffer.write(b"half")
    raise ValueError("damaged")
