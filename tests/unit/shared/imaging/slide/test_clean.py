"""Cleaned slides: the same levels, scale and pixels, and nothing that names the patient, anywhere in the file."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openslide import OpenSlide

from shared.errors import HounsfieldError, UnsupportedImage
from shared.formats.source import FileSource
from shared.formats.tiff import read_pages
from shared.imaging.slide import BrokenSlide, CleanedSlide, clean_slide, describe_slide
from tests.unit.shared.imaging.slide import samples
from tests.unit.shared.imaging.slide.samples import SUBSAMPLED, Image, Written, label, tiff

IN_PLACE = {
    "aperio": (samples.aperio, ("label", "macro", "thumbnail"), {1, 3, 4}),
    "aperio, BigTIFF, uncompressed": (
        lambda: samples.aperio(True, False),
        ("label", "macro", "thumbnail"),
        {1, 3, 4},
    ),
    "generic, BigTIFF": (samples.generic, (), {2}),
    "generic": (lambda: samples.generic(False), (), {2}),
    "hamamatsu": (samples.ndpi, ("macro",), {2, 3}),
    "leica": (samples.leica, ("macro",), {0}),
    "philips": (samples.philips, ("label", "macro"), {2, 3}),
    "philips, label in the XML only": (
        lambda: _without_directories(samples.philips(), 2),
        ("label", "macro"),
        {2, 3},
    ),
    "ventana": (samples.ventana, ("macro", "thumbnail"), {0, 1}),
    "ventana, no BIF": (lambda: samples.ventana(False), ("macro", "thumbnail"), {0, 1}),
}
"""Slide, the associated images that OpenSlide names, and which directories hold them."""


def _without_directories(written: Written, count: int) -> Written:
    """The chain ends after `count` directories; what came after lies in the file still."""
    data = bytearray(written.data)
    last = written.directories[count - 1]
    link = last + 2 + 12 * int.from_bytes(data[last : last + 2], "little")
    data[link : link + 4] = bytes(4)
    return Written(bytes(data), written.pieces, written.directories)


def cleaned(folder: Path, data: bytes) -> tuple[CleanedSlide, Path]:
    source, target = folder / "source", folder / "target"
    source.write_bytes(data)
    return clean_slide(source, target), target


def names_left(data: bytes) -> list[bytes]:
    return [secret for secret in samples.SECRETS if secret in data]


@pytest.mark.parametrize("name", IN_PLACE)
def test_nothing_of_label_and_names_is_left_in_the_file(name: str, tmp_path: Path) -> None:
    build, images, dropped = IN_PLACE[name]
    written = build()
    assert names_left(written.data) == list(samples.SECRETS)
    result, target = cleaned(tmp_path, written.data)
    assert result == CleanedSlide(name.split(",")[0].replace("generic", "generic-tiff"), images, False)
    data = target.read_bytes()
    assert names_left(data) == []
    for number in dropped:
        for piece in written.pixels_of(number):
            parts = [piece[at : at + 32] for at in range(len(piece) // 3, len(piece) - 32, 16)]
            assert not any(part in data for part in parts if any(part))


@pytest.mark.parametrize("name", IN_PLACE)
def test_levels_scale_and_pixels_stay(name: str, tmp_path: Path) -> None:
    build, *_ = IN_PLACE[name]
    _, target = cleaned(tmp_path, build().data)
    with OpenSlide(tmp_path / "source") as before, OpenSlide(target) as after:
        assert dict(after.associated_images) == {}
        assert after.level_dimensions == before.level_dimensions
        for said in ("openslide.vendor", "openslide.mpp-x", "openslide.mpp-y", "openslide.objective-power"):
            assert after.properties.get(said) == before.properties.get(said)
        for level, size in enumerate(before.level_dimensions):
            regions = [np.asarray(slide.read_region((0, 0), level, size)) for slide in (before, after)]
            np.testing.assert_array_equal(*regions)


@pytest.mark.parametrize("name", IN_PLACE)
def test_the_cleaned_file_passes_the_walk_and_is_cleaned_again_to_the_same(name: str, tmp_path: Path) -> None:
    build, *_ = IN_PLACE[name]
    _, target = cleaned(tmp_path, build().data)
    with target.open("rb") as file:
        assert read_pages(FileSource(file, target))
    again = tmp_path / "again"
    assert clean_slide(target, again) == CleanedSlide(describe_slide(target).vendor, (), False)
    assert names_left(again.read_bytes()) == []
    assert describe_slide(again) == describe_slide(target)


def test_the_real_slide(hounsfield_data: Path, tmp_path: Path) -> None:
    """CMU-1-Small-Region.svs has label, macro and thumbnail."""
    source, target = hounsfield_data / "wsi" / "CMU-1-Small-Region.svs", tmp_path / "target"
    assert clean_slide(source, target) == CleanedSlide("aperio", ("label", "macro", "thumbnail"), False)
    data = target.read_bytes()
    for said in (b"Filename", b"CMU-1", b"CPAPERIOCS", b"12/29/09", b"09:59:15", b"b414003d", b"1004486"):
        assert said not in data
        assert said in source.read_bytes()
    with OpenSlide(source) as before, OpenSlide(target) as after:
        regions = [np.asarray(slide.read_region((0, 0), 0, (2220, 2967))) for slide in (before, after)]
        np.testing.assert_array_equal(*regions)
        assert after.properties["aperio.MPP"] == "0.4990"
        assert after.properties["aperio.AppMag"] == "20"


def test_of_properties_only_numbers_and_known_words_stay(tmp_path: Path) -> None:
    for name, (build, *_) in IN_PLACE.items():
        folder = tmp_path / name
        folder.mkdir()
        _, target = cleaned(folder, build().data)
        with OpenSlide(target) as slide:
            said = {
                key
                for key in slide.properties
                if not key.startswith("openslide.") and not _is_number(slide.properties[key])
            }
        assert said <= {
            "tiff.ImageDescription",
            "tiff.ResolutionUnit",
            "tiff.Software",
            "leica.illumination-source",
        } | {
            "philips.DICOM_DERIVATION_DESCRIPTION",
            "philips.DICOM_PIXEL_SPACING",
            "philips.PIM_DP_IMAGE_TYPE",
            "philips.PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE[0].DICOM_PIXEL_SPACING",
            "philips.PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE[1].DICOM_PIXEL_SPACING",
        }


def _is_number(value: str | None) -> bool:
    try:
        float(value or "")
    except ValueError:
        return False
    return True


def test_an_ome_tiff_keeps_sizes_and_scale_of_its_xml(tmp_path: Path) -> None:
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1" '
        f'Creator="{samples.SECRET.decode()}"><Experimenter ID="E:0" LastName="{samples.NAME.decode()}"/>'
        f'<Image ID="Image:0" Name="{samples.SECRET.decode()}"><AcquisitionDate>1954-03-12</AcquisitionDate>'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="200" SizeY="150" PhysicalSizeX="0.25" '
        'PhysicalSizeXUnit="µm"/></Image></OME>'
    )
    _, target = cleaned(tmp_path, samples.generic(description=xml).data)
    data = target.read_bytes()
    assert b'PhysicalSizeX="0.25"' in data
    assert b"http://www.openmicroscopy.org/Schemas/OME/2016-06" in data
    assert b"AcquisitionDate" not in data
    assert names_left(data) == []


def test_a_colour_profile_keeps_its_curves_and_loses_its_texts(hounsfield_data: Path, tmp_path: Path) -> None:
    source, target = hounsfield_data / "wsi" / "boxes.tiff", tmp_path / "target"
    clean_slide(source, target)
    with OpenSlide(source) as before, OpenSlide(target) as after:
        profiles = [slide.color_profile for slide in (before, after)]
    assert all(profile is not None for profile in profiles)
    assert b"desc" in source.read_bytes()
    assert b"desc" not in target.read_bytes()


REENCODED: dict[str, Callable[[Path], Path]] = {
    "trestle": lambda folder: _written(folder, samples.trestle().data),
    "hamamatsu": samples.write_vms,
    "leica": lambda folder: _written(folder, samples.leica(parts=2).data),
}
"""Of several files, or not to be opened without its macro image."""


def _written(folder: Path, data: bytes) -> Path:
    path = folder / "source"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", REENCODED)
def test_what_cannot_be_cleaned_as_it_is_is_written_anew(name: str, tmp_path: Path) -> None:
    source, target = REENCODED[name](tmp_path), tmp_path / "target"
    result = clean_slide(source, target)
    assert (result.format, result.reencoded) == (name, True)
    assert names_left(target.read_bytes()) == []
    before, after = describe_slide(source), describe_slide(target)
    assert after.vendor == "generic-tiff"
    assert after.levels == before.levels
    assert after.mpp == pytest.approx(before.mpp, rel=1e-4)
    with OpenSlide(source) as old, OpenSlide(target) as new:
        assert dict(new.associated_images) == {}
        size = old.level_dimensions[0]
        regions = [np.asarray(slide.read_region((0, 0), 0, size), dtype=float) for slide in (old, new)]
        seen = regions[0][..., 3] > 0
        assert np.abs(regions[0] - regions[1])[seen][:, :3].mean() < 6


def test_a_dicom_slide_loses_the_instances_that_show_the_label(hounsfield_data: Path, tmp_path: Path) -> None:
    from pydicom import dcmread

    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    slide = dcmread(hounsfield_data / "dicom_odd" / "rse_panimg" / "wsi" / "full_with_bot.dcm")
    for number, kind in enumerate(("VOLUME", "LABEL", "OVERVIEW", "THUMBNAIL", "SOMETHING")):
        slide.ImageType = ["ORIGINAL", "PRIMARY", kind, "NONE"]
        slide.SOPInstanceUID = slide.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        slide.save_as(source / f"{samples.NAME.decode()}-{number}.dcm")
    (source / "readme.txt").write_bytes(samples.SECRET)
    result = clean_slide(source, target)
    assert result == CleanedSlide("dicom", ("label", "other", "overview", "thumbnail"), False)
    assert [path.name for path in target.iterdir()] == ["000001.dcm"]
    assert dcmread(target / "000001.dcm").ImageType[2] == "VOLUME"


def test_a_dicom_slide_of_labels_only_is_refused(hounsfield_data: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "a.txt").write_bytes(b"no DICOM")
    with pytest.raises(BrokenSlide, match="no image of a slide"):
        clean_slide(source, target)
    assert not target.exists()


def test_a_target_that_is_there_is_left_alone(tmp_path: Path) -> None:
    source, target = _written(tmp_path, samples.generic().data), tmp_path / "target"
    target.write_bytes(b"somebody's")
    with pytest.raises(FileExistsError):
        clean_slide(source, target)
    assert target.read_bytes() == b"somebody's"


def test_what_is_no_slide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedImage):
        cleaned(tmp_path, b"GIF89a" + bytes(1000))
    assert not (tmp_path / "target").exists()


@given(
    label_height=st.integers(8, 64),
    label_width=st.integers(8, 64),
    secret=st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ^", min_size=8, max_size=30),
    called=st.sampled_from(["label", "macro", "Label", "something", ""]),
    big=st.booleans(),
    jpeg=st.booleans(),
)
def test_of_no_label_and_no_name_a_byte_is_left(
    label_height: int, label_width: int, secret: str, called: str, big: bool, jpeg: bool
) -> None:
    """Whatever the label is called."""
    picture = label(label_height, label_width)
    of_label = {
        270: samples.text(f"Aperio Image Library v12\r\n{called} {secret}"),
        315: samples.text(secret),
    }
    of_level = {
        270: samples.text(f"Aperio {secret}\r\n{secret}|{secret} = 1|AppMag = {secret}|MPP = 0.5"),
        **SUBSAMPLED,
    }
    pages = {
        "label": Image(picture, None, of_label),
        "level 1": Image(samples.tissue(75, 100), 64, of_level, jpeg, comment=secret.encode()),
    }
    with TemporaryDirectory() as folder:
        written = samples.aperio(big, jpeg, **pages)
        assert secret.encode() in written.data
        _, target = cleaned(Path(folder), written.data)
        data = target.read_bytes()
    assert secret.encode() not in data
    raw = picture.tobytes()
    assert not any(raw[at : at + 24] in data for at in range(0, len(raw) - 24, 24))


def test_an_empty_tile_stays_empty(tmp_path: Path) -> None:
    """Some Aperio scanners write tiles of no bytes."""
    whole = samples.tissue(128, 128)
    description = {270: samples.text("Aperio Image Library v12\r\n128x128|MPP = 0.5")}
    first = tiff([Image(whole, 64, description)])
    pieces = [(0, 0), *first.pieces[0][1:]]
    _, target = cleaned(tmp_path, tiff([Image(whole, 64, description, pieces=pieces)]).data)
    with OpenSlide(target) as slide:
        assert (
            np.asarray(slide.read_region((64, 64), 0, (64, 64)))[..., :3].tolist() == whole[64:, 64:].tolist()
        )


def test_errors_name_nobody(tmp_path: Path) -> None:
    data = samples.aperio().data
    with pytest.raises(HounsfieldError) as caught:
        cleaned(tmp_path, data[: len(data) // 2])
    assert not any(secret.decode() in caught.value.detail for secret in samples.SECRETS)
