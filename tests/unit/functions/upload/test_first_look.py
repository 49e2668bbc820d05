"""What a file's first bytes decide, and what they leave to ingest."""

import io
import subprocess
import sys
from typing import IO

import pytest

from functions.upload.first_look import first_look
from shared.errors import HounsfieldError, Invalid, TooLarge, UnsupportedImage
from shared.formats.types import Format
from tests.unit.shared.formats import samples


def stream(data: bytes) -> IO[bytes]:
    return io.BytesIO(data)


@pytest.mark.parametrize("name", sorted(samples.valid()))
def test_whatever_is_read_here_gets_past_it_and_is_left_at_its_beginning(name: str) -> None:
    data = samples.valid()[name]
    file = stream(data)
    found, size = first_look(file, "file 1", alone=False)
    assert (file.tell(), size) == (0, len(data))
    assert found.media_type


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "file 3: The file is empty"),
        (b"Jane Roe is well.\n" * 40, "file 3: The file is a text file"),
        (b"\x7fELF" + bytes(99), "file 3: The file is a program"),
        (b"PAR1" + bytes(range(200)), "file 3: The file is of an unknown type"),
        (bytes(70_000), "file 3: The file is nothing but zero bytes at its beginning"),
    ],
)
def test_what_is_nothing_of_ours_is_refused_by_its_number_and_never_by_its_words(
    data: bytes, says: str
) -> None:
    with pytest.raises(UnsupportedImage) as refused:
        first_look(stream(data), "file 3")
    assert refused.value.detail.startswith(says)
    assert "Roe" not in refused.value.detail


def test_a_header_that_cannot_be_is_refused_as_what_it_is() -> None:
    damaged = bytearray(samples.picture("PNG"))
    damaged[24] = 77  # bits of a sample
    huge = bytearray(samples.picture("PNG"))
    huge[16:24] = b"\x7f\xff\xff\xff" * 2
    for data, error in ((damaged, Invalid), (huge, TooLarge)):
        with pytest.raises(error, match="file 1: The PNG"):
            first_look(stream(bytes(data)), "file 1")


def test_a_file_of_another_kind_than_the_sender_says_is_refused() -> None:
    assert first_look(stream(samples.dicom()), "file 1", "ct")[0].format is Format.DICOM
    with pytest.raises(UnsupportedImage, match="file 1 is a CT, not a whole-slide image; send it as kind ct"):
        first_look(stream(samples.dicom()), "file 1", "slide")


def test_an_index_may_come_with_the_files_that_it_is_the_index_of() -> None:
    index = samples.heyex_xml()
    assert first_look(stream(index), "file 1", alone=False)[0].needs is not None
    with pytest.raises(UnsupportedImage, match="file 1: A HEYEX XML export is the index of its pictures"):
        first_look(stream(index), "file 1", alone=True)


def test_the_error_keeps_its_class() -> None:
    with pytest.raises(HounsfieldError) as refused:
        first_look(stream(b"GIF89a" + bytes(9)), "file 1")
    assert refused.value.status == 415


def test_the_function_needs_no_library_that_decodes_images() -> None:
    heavy = {"numpy", "pydicom", "openslide", "nibabel", "PIL", "SimpleITK"}
    code = f"import functions.upload, sys; sys.exit(str({heavy!r} & set(sys.modules) or ''))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.stderr.strip() == ""
