"""What a file is, its bytes say: never its name."""

import io
from pathlib import Path

import numpy as np
import pytest

from shared.errors import HounsfieldError, UnsupportedImage
from shared.formats.head import identify_head
from shared.formats.identify import identify
from shared.formats.source import HEAD_BYTES
from shared.formats.types import Format, Identified, Kind
from tests.unit.shared.formats import samples

EXPECTED: dict[str, tuple[Format, Kind | None]] = {
    "dicom": (Format.DICOM, "ct"),
    "dicom with a TIFF header in its preamble": (Format.DICOM, "ct"),
    "dicom without preamble": (Format.DICOM, None),
    "dicom without preamble, implicit": (Format.DICOM, None),
    "dicomdir": (Format.DICOMDIR, None),
    "dicom wsi": (Format.DICOM_WSI, "slide"),
    "dicom opt": (Format.DICOM, "oct"),
    "nifti": (Format.NIFTI, None),
    "nifti gzipped": (Format.NIFTI, None),
    "nrrd": (Format.NRRD, None),
    "nrrd gzipped": (Format.NRRD, None),
    "mha": (Format.MHA, None),
    "e2e": (Format.E2E, "oct"),
    "e2e of several volumes": (Format.E2E, "oct"),
    "vol": (Format.VOL, "oct"),
    "fds": (Format.TOPCON, "oct"),
    "fda": (Format.TOPCON, "oct"),
    "heyex xml": (Format.HEYEX_XML, "oct"),
    "png": (Format.PNG, None),
    "png, 16 bits": (Format.PNG, None),
    "jpeg": (Format.JPEG, None),
    "tiff": (Format.TIFF, None),
    "tiff, deflated": (Format.TIFF, None),
    "tiff, lzw": (Format.TIFF, None),
    "bigtiff": (Format.TIFF, None),
    "tiff, big-endian, 16 bits": (Format.TIFF, None),
    "ome-tiff": (Format.OME_TIFF, None),
    "slide": (Format.SLIDE_TIFF, "slide"),
    "zip": (Format.ZIP, None),
    "tar": (Format.TAR, None),
    "tar.gz": (Format.GZIP, None),
    "tar.bz2": (Format.BZIP2, None),
    "tar.xz": (Format.XZ, None),
}


def written(folder: Path, content: bytes, name: str = "000001") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_every_sample_has_an_expectation() -> None:
    assert EXPECTED.keys() == samples.valid().keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_is_what_its_bytes_say(tmp_path: Path, name: str) -> None:
    found = identify(written(tmp_path, samples.valid()[name]))
    assert (found.format, found.kind) == EXPECTED[name]
    assert found.media_type


@pytest.mark.parametrize("name", EXPECTED)
def test_the_head_says_the_same_or_that_it_cannot_know(name: str) -> None:
    content = samples.valid()[name]
    found = identify_head(content[:HEAD_BYTES], len(content))
    expected = Format.TIFF if name == "slide" else EXPECTED[name][0]  # OpenSlide needs the file
    assert found.format is expected


@pytest.mark.parametrize("name", EXPECTED)
def test_no_name_of_a_patient_is_told(tmp_path: Path, name: str) -> None:
    assert samples.SECRET.decode() not in repr(identify(written(tmp_path, samples.valid()[name])))


def test_a_name_that_says_otherwise_is_reported_and_does_not_matter(tmp_path: Path) -> None:
    found = identify(written(tmp_path, samples.nifti(), "brain.png"))
    assert found.format is Format.NIFTI
    assert found.details["named"] == ".png"
    assert "named" not in identify(written(tmp_path, samples.nifti(), "brain.nii")).details
    assert "named" not in identify(written(tmp_path, samples.nifti(), "brain.jane-doe")).details


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (samples.dicom(samples.DICOMDIR), "DICOMDIR is only the index"),
        (samples.heyex_xml(), "index of its pictures"),
        (b"[Virtual Microscope Specimen]\r\nNoLayers=1\r\n", "only the index of a slide"),
        (b"\xef\xbb\xbf[GENERAL]\r\nFOO = 1\r\nSLIDE_VERSION = 01.02\r\nSLIDE_ID = x\r\n", ".mrxs file too"),
    ],
)
def test_an_index_says_that_it_needs_its_other_files(tmp_path: Path, content: bytes, says: str) -> None:
    assert says in (identify(written(tmp_path, content)).needs or "")


def test_archives_are_told_from_images(tmp_path: Path) -> None:
    assert identify(written(tmp_path, samples.tar("w:gz"))).archive
    assert identify(written(tmp_path, samples.tar("w:gz"))).details["holds"] == "tar"
    assert not identify(written(tmp_path, samples.valid()["nifti gzipped"])).archive


def test_a_tiff_whose_directories_lie_at_its_end_is_left_open_by_the_head(tmp_path: Path) -> None:
    content = samples.picture("TIFF", np.zeros((400, 400), dtype=np.uint8))
    moved = content[:4] + (len(content) - 0).to_bytes(4, "little")
    at = int.from_bytes(content[4:8], "little")
    content = moved + content[8:] + content[at : at + 400]
    found = identify_head(content[:HEAD_BYTES], len(content))
    assert found == Identified(Format.TIFF, details={"complete": False})
    assert identify(written(tmp_path, content)).details["width"] == 400


def test_a_jpeg_behind_large_exif_is_left_open_by_the_head(tmp_path: Path) -> None:
    padding = (b"\xff\xe1\xff\xff" + bytes(65533)) * 2
    content = b"\xff\xd8" + padding + samples.picture("JPEG")[2:]
    assert identify_head(content[:HEAD_BYTES], len(content)).details == {"complete": False}
    assert identify(written(tmp_path, content)).details["width"] == 50


def test_ndpi_with_its_64_bit_places_is_walked(tmp_path: Path) -> None:
    """Hamamatsu: classic magic, a 64-bit first place, the high halves of places behind the entries."""
    from shared.formats.source import FileSource
    from shared.formats.tiff import read_pages

    entries = [
        (256, 4, 1, 51200),
        (257, 4, 1, 38144),
        (258, 3, 1, 8),
        (273, 4, 1, 16),
        (277, 3, 1, 3),
        (65420, 4, 1, 1),
    ]
    block = len(entries).to_bytes(2, "little")
    for tag, kind, count, value in entries:
        block += (
            tag.to_bytes(2, "little")
            + kind.to_bytes(2, "little")
            + count.to_bytes(4, "little")
            + value.to_bytes(4, "little")
        )
    content = b"II*\x00" + (64).to_bytes(8, "little") + bytes(52) + block + bytes(8) + bytes(4 * len(entries))
    path = written(tmp_path, content)
    with path.open("rb") as file:
        (page,) = read_pages(FileSource(file, path))
    assert (page.width, page.height, page.ndpi) == (51200, 38144, True)


def test_the_head_needs_neither_numpy_nor_openslide() -> None:
    """So that the upload function can refuse early without the imaging libraries."""
    import subprocess
    import sys

    script = "import sys, shared.formats.head; print({'numpy', 'openslide', 'PIL'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        == "set()\n"
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"GIF89a" + bytes(20), "a GIF picture, which is not read here; save it as PNG"),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), r"HDF5 file .*save it as NIfTI"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(90), "7-Zip archive, which is not read here; pack it as"),
        (b"\x7fELF" + bytes(90), "a program"),
        (b"MZ\x90\x00" + bytes(90), "a Windows program"),
        (samples.SECRET + b",1950-01-01\n" * 9, "a text file that is no image; send DICOM"),
        (b"BM is how this text begins\n", "a text file"),
        (b'{"patient": 1}', "a JSON document"),
        (b"<html><body>", "an XML or HTML document"),
        (bytes(5000), "nothing but zero bytes"),
        (np.random.default_rng(1).bytes(9000), r"unknown type \(its first bytes are [0-9A-F ]{11}\)"),
        (b"SQLite format 3\x00" + bytes(100), "SQLite database that is no Sakura slide"),
        (samples.nifti(magic=b"ni1"), r"\.hdr half of a NIfTI"),
        (samples.nifti(magic=b""), "Analyze 7.5"),
        (samples.nrrd(data_file="voxels.raw"), "detached NRRD"),
        (samples.mha(ElementDataFile="voxels.raw"), r"MetaImage header \(\.mhd\)"),
    ],
)
def test_what_is_not_read_is_refused_by_name(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(UnsupportedImage, match=says) as refused:
        identify(written(tmp_path, content))
    assert "DOE" not in refused.value.detail


def test_the_same_refusals_can_be_made_early() -> None:
    for content in (b"%PDF-1.7", b"x,y\n" * 9, samples.nrrd(data_file="a.raw")):
        with pytest.raises(HounsfieldError):
            identify_head(content, len(content))


def test_a_head_that_is_too_short_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="first 65,536 bytes"):
        identify_head(samples.nifti()[:100], 10**6)


def test_reads_are_bounded(tmp_path: Path) -> None:
    """A gigabyte of zeros behind a header costs what its head costs."""
    from shared.formats.head import recognise
    from shared.formats.source import FileSource

    class Counting(FileSource):
        total = 0

        def read(self, offset: int, count: int) -> bytes:
            data = super().read(offset, count)
            self.total += len(data)
            return data

    for name, content in samples.valid().items():
        path = written(tmp_path, content)
        with path.open("r+b") as file:
            file.truncate(2**30)
            source = Counting(io.BufferedReader(file.raw), path)  # type: ignore[attr-defined]
            recognise(source)
            assert source.total < 2**20, name
