"""Slides made to harm, or to keep what must go: refused with the reason, and no target is left."""

import struct
from pathlib import Path

import pytest
from openslide import OpenSlide

from shared.errors import Invalid
from shared.imaging.slide import BrokenSlide, CleanedSlide, clean_slide, describe_slide
from tests.unit.shared.imaging.slide import samples
from tests.unit.shared.imaging.slide.samples import Image, Written, label, tiff, tissue

SAID = {270: samples.text("Aperio Image Library v12\r\n128x128|MPP = 0.5")}
LABEL = {270: samples.text("Aperio Image Library v12\r\nlabel 60x40")}


def refused(folder: Path, data: bytes, says: str, error: type[Invalid] = BrokenSlide) -> None:
    source, target = folder / "source", folder / "target"
    source.write_bytes(data)
    with pytest.raises(error, match=says):
        clean_slide(source, target)
    assert not target.exists()


def slide_and_label(pieces_of_slide: samples.Pieces | None = None, **of_label: object) -> Written:
    """A level of 2 × 2 tiles, a thumbnail and a label."""
    whole = tissue(128, 128)
    images = [Image(whole, 64, SAID, pieces=pieces_of_slide), Image(tissue(16, 16), None, LABEL)]
    return tiff([*images, Image(label(), None, LABEL, **of_label)])  # type: ignore[arg-type]


def test_directories_in_a_loop_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, tiff([Image(tissue(64, 64), 64, SAID)], loop=True).data, "loop", Invalid)


def test_a_label_whose_strips_are_the_slide_s_own_is_refused(tmp_path: Path) -> None:
    """Zeroing them would spoil the slide; keeping them would keep the label."""
    plain = slide_and_label()
    refused(tmp_path, slide_and_label(pieces=plain.pieces[0][:1]).data, "share bytes with its label")


def test_a_label_that_reaches_into_the_slide_by_a_byte_is_refused(tmp_path: Path) -> None:
    plain = slide_and_label()
    start, length = plain.pieces[0][3]
    refused(tmp_path, slide_and_label(pieces=[(start + length - 1, 50)]).data, "share bytes with its label")


@pytest.mark.parametrize("structure", ["header", "directory", "values"])
def test_tiles_that_lie_on_headers_are_refused(structure: str, tmp_path: Path) -> None:
    """They would carry along what the headers said."""
    plain = slide_and_label()
    at = {
        "header": 0,
        "directory": plain.directories[2] - 12288 + 4,
        "values": plain.data.rindex(b"label 60x40"),
    }
    pieces = [(at[structure], 12288), *plain.pieces[0][1:]]
    data = slide_and_label(pieces_of_slide=pieces).data
    refused(tmp_path, data + bytes(12288), "share bytes with its label or headers")


def test_a_label_outside_the_file_does_no_harm(tmp_path: Path) -> None:
    """It is not copied, so where it lies does not matter."""
    source, target = tmp_path / "source", tmp_path / "target"
    whole = tissue(128, 128)
    images = [Image(whole, 64, SAID), Image(label(), None, {254: (4, 1)}, pieces=[(2**31, 2**31)])]
    source.write_bytes(tiff([*images, Image(label(), None, {254: (4, 1)}, pieces=[(9, 2**32 - 1)])]).data)
    with pytest.raises(BrokenSlide, match="share bytes"):
        clean_slide(source, target)  # the second claims the whole file
    source.write_bytes(tiff(images).data)
    assert not clean_slide(source, target).reencoded


def test_tiles_outside_the_file_are_refused(tmp_path: Path) -> None:
    whole = tissue(128, 128)
    own = tiff([Image(whole, 64, SAID)]).pieces[0]
    data = tiff([Image(whole, 64, SAID, pieces=[*own[:3], (500_000, 12288)])]).data
    refused(tmp_path, data, "damaged")


def test_more_tiles_than_sizes_are_refused(tmp_path: Path) -> None:
    tags = {**SAID, 325: (samples.LONG, [12288, 12288, 12288])}
    refused(tmp_path, tiff([Image(tissue(128, 128), 64, tags)]).data, "damaged")


def test_tiles_that_many_share_stay_shared(tmp_path: Path) -> None:
    """Some writers store an empty tile once."""
    source, target = tmp_path / "source", tmp_path / "target"
    whole = tissue(128, 128)
    own = tiff([Image(whole, 64, SAID)]).pieces[0]
    source.write_bytes(tiff([Image(whole, 64, SAID, pieces=[own[0]] * 4)]).data)
    clean_slide(source, target)
    assert target.stat().st_size <= source.stat().st_size
    assert describe_slide(target) == describe_slide(source)


def test_a_label_without_strips_is_refused(tmp_path: Path) -> None:
    data = bytearray(slide_and_label().data)
    at = data.index(struct.pack("<HHI", 273, 4, 1), data.rindex(b"label 60x40"))
    data[at : at + 2] = struct.pack("<H", 272)
    refused(tmp_path, bytes(data), "neither strips nor tiles", Invalid)


def test_a_tag_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    """Readers differ in which of them they believe."""
    written = tiff([Image(tissue(64, 64), 64, {**SAID, 65001: (4, 1), 65002: (4, 1)})])
    data = written.data.replace(struct.pack("<HHI", 65002, 4, 1), struct.pack("<HHI", 65001, 4, 1))
    refused(tmp_path, data, "twice")


def test_a_slide_of_labels_only_is_refused(tmp_path: Path) -> None:
    said = {270: samples.text("Aperio Image Library v12\r\nlabel 128x128|MPP = 0.5")}
    refused(tmp_path, tiff([Image(tissue(128, 128), 64, said)]).data, "no image of the slide")


def test_a_tiled_label_is_no_level(tmp_path: Path) -> None:
    """OpenSlide takes it for one; such a slide is not served with a level less either."""
    refused(
        tmp_path, tiff([Image(tissue(128, 128), 64, SAID), Image(label(), 16, LABEL)]).data, "losing levels"
    )


def test_tags_that_hold_too_much_are_refused(tmp_path: Path) -> None:
    flood = {**SAID, 301: (samples.SHORT, [0] * 600_000)}
    refused(tmp_path, tiff([Image(tissue(64, 64), 64, flood)]).data, "holds too much")


def test_a_leica_slide_that_ends_openslide_s_process_is_refused(tmp_path: Path) -> None:
    """OpenSlide 4.0.1 dies of an image without objective (strcmp of NULL)."""
    data = samples.leica().data.replace(b"<objective>20</objective>", b"<objectife>20</objectife>")
    refused(tmp_path, data, "objective")
    with pytest.raises(BrokenSlide, match="objective"):
        describe_slide(tmp_path / "source")


@pytest.mark.parametrize(
    ("found", "put", "says"),
    [(b"</scn>", b"</scm>", "cannot be read"), (b'ifd="2"', b'ifd="9"', "damaged|not there")],
)
def test_damaged_xml_of_leica_is_refused(found: bytes, put: bytes, says: str, tmp_path: Path) -> None:
    refused(tmp_path, samples.leica().data.replace(found, put), says)


def test_damaged_xml_of_philips_is_dropped_whole(tmp_path: Path) -> None:
    """Without it the slide is a plain TIFF to OpenSlide, and is cleaned as one."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(samples.philips().data.replace(b"</DataObject>", b"</DataObjekt>"))
    assert clean_slide(source, target) == CleanedSlide("generic-tiff", (), False)
    assert not any(secret in target.read_bytes() for secret in samples.SECRETS)


def test_an_ndpi_beyond_4_gib_is_cleaned_in_place(tmp_path: Path) -> None:
    """The upper halves of its places follow each directory."""
    source, target = tmp_path / "source", tmp_path / "target"
    far = 2**32 + 4096
    written = samples.ndpi(far=far)
    with source.open("wb") as file:
        file.write(written.data[:12])
        file.seek(far)
        file.write(written.data[12:])
    with OpenSlide(source) as slide:
        assert list(slide.associated_images) == ["macro"]
    assert clean_slide(source, target) == CleanedSlide("hamamatsu", ("macro",), False)
    with target.open("rb") as file:
        file.seek(far)
        data = file.read()
    assert not any(secret in data for secret in samples.SECRETS)
    assert describe_slide(target) == describe_slide(source)
    assert target.stat().st_blocks * 512 < 2**20


@pytest.mark.parametrize(
    ("found", "put", "says"),
    [
        (b'NumRows="2" NumCols="2"', b'NumRows="9999999" NumCols="9999999"', "more tiles"),
        (b'NumRows="2" NumCols="2"', b'NumRows="-2" NumCols="2"', "more tiles"),
        (b'Confidence="99"', b'Confidence="0"', "levels must have"),
        (b'AOIScanned="1"', b'AOIScanned="0"', "levels must have"),
        (b"</EncodeInfo>", b"</EncodeInfa>", "cannot be read"),
    ],
)
def test_a_ventana_slide_that_openslide_would_not_survive_is_refused(
    found: bytes, put: bytes, says: str, tmp_path: Path
) -> None:
    """It aborts where there is no memory for the tiles that the XML describes, and reads for ever where their places
    cannot be computed."""
    refused(tmp_path, samples.ventana(change=(found, put)).data, says)
    with pytest.raises(BrokenSlide, match=says):
        describe_slide(tmp_path / "source")


def test_a_trestle_slide_s_macro_image_beside_it_is_left_behind(tmp_path: Path) -> None:
    source, target = tmp_path / "slide.tif", tmp_path / "target"
    source.write_bytes(samples.trestle().data)
    (tmp_path / "slide.Full").write_bytes(samples.jpeg(label()))
    assert clean_slide(source, target) == CleanedSlide("trestle", ("macro",), True)
