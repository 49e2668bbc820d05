"""Damaged files all the way to a volume: a volume or a refusal, and never anything else."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import JPEGLSLossless

from shared.errors import HounsfieldError
from shared.imaging.dicom.choice import choose
from shared.imaging.dicom.headers import read_header
from shared.imaging.dicom.instance import Instance
from shared.imaging.dicom.series import group_series
from shared.imaging.dicom.volume import build_volume
from tests.unit.shared.imaging.dicom.builders import make_enhanced, save, write_stack

KINDS = ("classic", "enhanced", "compressed")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    """The files of one sound series of each kind."""
    folder = tmp_path_factory.mktemp("sound")
    write_stack(folder / "classic", 3)
    image = make_enhanced([(0, 0, 2.0 * k) for k in range(3)])
    save(image, folder / "enhanced" / "a")
    image.compress(JPEGLSLossless, generate_instance_uid=False)
    save(image, folder / "compressed" / "a")
    return {kind: [path.read_bytes() for path in sorted((folder / kind).iterdir())] for kind in KINDS}


@settings(max_examples=60)
@given(data=st.data())
def test_damage_anywhere_ends_in_a_volume_or_a_refusal(
    data: st.DataObject, sound: dict[str, list[bytes]]
) -> None:
    files = sound[data.draw(st.sampled_from(KINDS))]
    with TemporaryDirectory() as folder:
        headers: list[Instance] = []
        for number, whole in enumerate(files):
            content = bytearray(whole)
            for at in data.draw(st.lists(st.integers(132, len(whole) - 1), max_size=3)):
                content[at] = data.draw(st.integers(0, 255))
            path = Path(folder) / str(number)
            path.write_bytes(content)
            with suppress(HounsfieldError):
                headers.append(read_header(path))
        for series in group_series(headers):
            with suppress(HounsfieldError):
                assert build_volume(series).data.ndim == 3
        with suppress(HounsfieldError):
            assert choose(group_series(headers), "ct").chosen
