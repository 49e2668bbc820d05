"""Slides in a Deep Zoom viewer: the tiles are the slide's own pixels, for those only who may see them."""

import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray
from openslide import OpenSlide
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image
from sqlalchemy import select

from functions import tiling
from functions.tiling.open_slides import open_slides
from shared.db.models import Role, StudyFile
from shared.errors import UnsupportedImage
from shared.ids import uuid7
from shared.imaging.slide import BrokenSlide
from shared.runtime.services import Services
from tests.builders import make_tenant, make_user
from tests.contract.clinic import PATIENT, MakePerson, Person
from tests.contract.conftest import ClientFor
from tests.unit.shared.imaging.slide import samples

TILE = 512
PROBLEM = "application/problem+json"


@pytest.fixture
def make_person(client_for: ClientFor, services: Services) -> Iterator[MakePerson]:
    """`make_person(tenant, role)`: somebody who looks at slides."""
    client = client_for(tiling.function)

    def make(tenant: UUID, role: Role = Role.USER) -> Person:
        return Person(client, services, make_user(services.database, tenant, role))

    yield make
    services.once(open_slides).close()


def slide_of(
    person: Person, data: bytes, status: str = "ingested", kind: str = "slide", role: str = "slide"
) -> UUID:
    """A study of `person`'s with this slide, as ingest leaves it."""
    study_id, file_id = person.add_study(kind, status=status), uuid7()
    key = f"{person.principal.tenant_id}/{study_id}/slide/{file_id}"
    ref = person.services.storage.put("studies", key, data, "image/tiff")
    with person.services.database.tenant(person.principal.tenant_id) as session:
        session.add(
            StudyFile(
                id=file_id,
                tenant_id=person.principal.tenant_id,
                study_id=study_id,
                filename_sealed=b"sealed",
                bucket=ref.bucket,
                key=ref.key,
                size=ref.size,
                sha256=ref.sha256,
                role=role,
            )
        )
    return study_id


def as_jpeg(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What a JPEG of quality 80 makes of them."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    return np.asarray(Image.open(buffer))


def stitched(person: Person, slide: UUID, level: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3): all tiles of a level, put together."""
    whole = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    for row in range(-(-size[1] // TILE)):
        for col in range(-(-size[0] // TILE)):
            answer = person.get(f"viewer/{slide}_files/{level}/{col}_{row}.jpg")
            assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg"), answer.text
            tile = np.asarray(Image.open(io.BytesIO(answer.content)))
            part = whole[row * TILE : (row + 1) * TILE, col * TILE : (col + 1) * TILE]
            assert tile.shape == part.shape
            part[:] = tile
    return whole


@pytest.fixture
def real(hounsfield_data: Path) -> Path:
    return hounsfield_data / "wsi" / "CMU-1-Small-Region.svs"


def test_the_tiles_of_the_real_slide_are_its_pixels(doctor: Person, real: Path) -> None:
    slide = slide_of(doctor, real.read_bytes())
    described = doctor.get(f"viewer/{slide}.dzi")
    assert (described.status_code, described.headers["content-type"]) == (200, "application/xml")
    said = dict(re.findall(r'(\w+)="([^"]*)"', described.text))
    assert {name: said[name] for name in ("TileSize", "Overlap", "Format", "Width", "Height")} == {
        "TileSize": "512",
        "Overlap": "0",
        "Format": "jpg",
        "Width": "2220",
        "Height": "2967",
    }
    with OpenSlide(real) as opened:
        pixels = np.asarray(opened.read_region((0, 0), 0, (2220, 2967)).convert("RGB"))
    whole = stitched(doctor, slide, 12, (2220, 2967))
    for top in range(0, 2967, TILE):
        for left in range(0, 2220, TILE):
            window = (slice(top, top + TILE), slice(left, left + TILE))
            np.testing.assert_array_equal(whole[window], as_jpeg(pixels[window]))


def test_every_level_is_there_and_shows_the_same(doctor: Person, real: Path) -> None:
    slide = slide_of(doctor, real.read_bytes())
    with OpenSlide(real) as opened:
        expected = DeepZoomGenerator(opened, TILE, 0)
        for level, size in enumerate(expected.level_dimensions[:-1]):
            whole = stitched(doctor, slide, level, size)
            tile = expected.get_tile(level, (0, 0))
            if tile.size == expected.get_tile_dimensions(level, (0, 0)):  # not where it is a pixel too small
                np.testing.assert_array_equal(whole[:TILE, :TILE], as_jpeg(np.asarray(tile)))


def test_parts_that_were_never_scanned_are_white(doctor: Person) -> None:
    slide = slide_of(doctor, samples.leica().data)
    tile = Image.open(io.BytesIO(doctor.get(f"viewer/{slide}_files/10/0_0.jpg").content))
    assert tile.getpixel((500, 390)) == (255, 255, 255)


@pytest.mark.parametrize(
    "path",
    [
        "_files/99/0_0.jpg",
        "_files/-1/0_0.jpg",
        "_files/8/1_0.jpg",
        "_files/8/0_-1.jpg",
        f"_files/8/{10**30}_0.jpg",
    ],
)
def test_a_tile_that_is_not_there_is_404(path: str, doctor: Person) -> None:
    slide = slide_of(doctor, samples.aperio().data)
    answer = doctor.get(f"viewer/{slide}{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM)
    assert "counted from 0" in answer.json()["detail"] or "levels 0 to 8" in answer.json()["detail"]


def test_a_thumbnail_has_the_width_that_is_asked_for(doctor: Person, real: Path) -> None:
    slide = slide_of(doctor, real.read_bytes())
    sizes = {}
    for width in ("", "?width=16", "?width=1024"):
        answer = doctor.get(f"viewer/{slide}/thumbnail{width}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
        sizes[width] = Image.open(io.BytesIO(answer.content)).size
    assert sizes == {"": (256, 342), "?width=16": (16, 21), "?width=1024": (1024, 1369)}
    assert [doctor.get(f"viewer/{slide}/thumbnail?width={width}").status_code for width in (15, 1025)] == [
        422,
        422,
    ]


def test_a_copy_that_is_current_is_not_sent_again(doctor: Person) -> None:
    slide = slide_of(doctor, samples.aperio().data)
    for path in (".dzi", "_files/8/0_0.jpg", "/thumbnail"):
        answer = doctor.get(f"viewer/{slide}{path}")
        assert answer.headers["cache-control"] == "private, no-cache"
        again = doctor.get(f"viewer/{slide}{path}", If_None_Match=f'"other", W/{answer.headers["etag"]}')
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == answer.headers["etag"]
        assert doctor.get(f"viewer/{slide}{path}", If_None_Match='"other"').status_code == 200
        assert doctor.get(f"viewer/{slide}{path}", If_None_Match="*").status_code == 304


def test_no_copy_is_current_of_what_is_not_there(doctor: Person, colleague: Person) -> None:
    slide = slide_of(doctor, samples.aperio().data)
    tags = ["*"]
    for path in (".dzi", "_files/8/0_0.jpg", "/thumbnail", "/thumbnail?width=64"):
        tags.append(doctor.get(f"viewer/{slide}{path}").headers["etag"])
        assert colleague.get(f"viewer/{slide}{path}", If_None_Match=tags[-1]).status_code == 404
    assert len(set(tags)) == len(tags), "each picture has a tag of its own"
    for path in ("99/0_0", "-1/0_0", "8/99_0", "8/0_99", "8/-1_0"):
        for tag in tags:
            answer = doctor.get(f"viewer/{slide}_files/{path}.jpg", If_None_Match=tag)
            assert answer.status_code == 404, (path, tag)


def test_nobody_sees_what_is_not_theirs_also_while_it_is_open(
    doctor: Person, colleague: Person, admin: Person, make_person: MakePerson, services: Services
) -> None:
    slide = slide_of(doctor, samples.aperio().data)
    stranger = make_person(make_tenant(services.database), Role.ADMIN)
    for path in (".dzi", "_files/8/0_0.jpg", "/thumbnail"):
        assert doctor.get(f"viewer/{slide}{path}").status_code == 200
        assert [person.get(f"viewer/{slide}{path}").status_code for person in (colleague, stranger)] == [
            404,
            404,
        ]
        assert admin.get(f"viewer/{slide}{path}").status_code == 200  # of the tenant
        assert doctor.client.get(f"/api/viewer/{slide}{path}").status_code == 401
    assert len(services.once(open_slides)) == 1


def test_a_slide_that_is_deleted_is_gone_though_it_is_open(doctor: Person, services: Services) -> None:
    slide = slide_of(doctor, samples.aperio().data)
    assert doctor.get(f"viewer/{slide}_files/8/0_0.jpg").status_code == 200
    with services.database.tenant(doctor.principal.tenant_id) as session:
        session.delete(session.scalars(select(StudyFile).where(StudyFile.study_id == slide)).one())
    assert doctor.get(f"viewer/{slide}_files/8/0_0.jpg").status_code == 404


def test_looking_is_recorded_once_and_not_for_each_tile(doctor: Person, colleague: Person) -> None:
    slide = slide_of(doctor, samples.aperio().data)
    doctor.get(f"viewer/{slide}.dzi")
    doctor.get(f"viewer/{slide}_files/8/0_0.jpg")
    doctor.get(f"viewer/{slide}_files/0/0_0.jpg")
    colleague.get(f"viewer/{slide}.dzi")
    (entry,) = doctor.audited("slide.view")
    assert (entry.actor_id, entry.subject_id, entry.patient_id) == (doctor.principal.user_id, slide, PATIENT)
    doctor.get(f"viewer/{slide}/thumbnail")
    assert len(doctor.audited("slide.view")) == 2


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"status": "receiving"}, "cannot be looked at: it is receiving"),
        ({"status": "rejected"}, "cannot be looked at: it is rejected"),
        ({"role": "received"}, "cannot be looked at"),
        ({"role": "original"}, "cannot be looked at"),
        ({"kind": "ct"}, "no slide"),
    ],
)
def test_what_ingest_has_not_cleaned_is_never_shown(
    fields: dict[str, str], says: str, doctor: Person
) -> None:
    slide = slide_of(doctor, samples.aperio().data, **fields)
    for path in (".dzi", "_files/8/0_0.jpg", "/thumbnail"):
        answer = doctor.get(f"viewer/{slide}{path}")
        assert answer.status_code == 404
        assert says in answer.json()["detail"]


def test_a_slide_that_is_not_there_is_404(doctor: Person) -> None:
    assert doctor.get(f"viewer/{uuid7()}.dzi").status_code == 404
    assert doctor.get("viewer/slide.dzi").status_code == 422


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda data: data[: len(data) // 2], BrokenSlide),
        (lambda data: b"GIF89a" + data, UnsupportedImage),
        (lambda data: data.replace(b"\xff\xd8\xff", b"\x00\x00\x00"), BrokenSlide),
    ],
)
def test_a_broken_slide_is_a_clear_problem(damage: object, error: type[BrokenSlide], doctor: Person) -> None:
    slide = slide_of(doctor, damage(samples.aperio().data))  # type: ignore[operator]
    for _ in range(2):
        answer = doctor.get(f"viewer/{slide}_files/8/0_0.jpg")
        assert (answer.status_code, answer.json()["type"].rsplit("/")[-1]) in {
            (error.status, error.slug),
            (422, "invalid"),
        }
    assert len(doctor.services.once(open_slides)) == 0


def test_a_slide_whose_object_is_gone_is_404(doctor: Person) -> None:
    slide = slide_of(doctor, samples.aperio().data)
    doctor.services.storage.delete_prefix("studies", f"{doctor.principal.tenant_id}/{slide}")
    answer = doctor.get(f"viewer/{slide}.dzi")
    assert (answer.status_code, answer.json()["type"].rsplit("/")[-1]) == (404, "object-not-found")


def test_many_at_once_get_what_each_asked_for(doctor: Person, real: Path) -> None:
    """Threads share the handles of the same and of other slides."""
    slides = [slide_of(doctor, real.read_bytes()), slide_of(doctor, samples.generic().data)]
    jobs = [(slides[0], 12, col, row) for col in range(5) for row in range(6)] + [(slides[1], 8, 0, 0)] * 30
    one_by_one = {job: _tile(doctor, *job) for job in set(jobs)}
    doctor.services.once(open_slides).close_idle(0)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda job: _tile(doctor, *job), jobs))
    assert answers == [one_by_one[job] for job in jobs]


def _tile(person: Person, slide: UUID, level: int, col: int, row: int) -> bytes:
    answer = person.get(f"viewer/{slide}_files/{level}/{col}_{row}.jpg")
    assert answer.status_code == 200, answer.text
    content: bytes = answer.content
    return content
