"""A slide in OpenSeadragon, in a real browser: what is on the screen is the slide."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import httpx
import numpy as np
import pytest
from openslide import OpenSlide
from playwright.sync_api import BrowserContext, Page

from functions import auth, tiling
from shared.config import Settings
from shared.db.models import FileRole, Study, StudyFile, User
from shared.db.session import Database
from shared.http.app import create_api, harden
from shared.ids import uuid7
from shared.security.sealing import name_ring
from tests.integration.installation import free_port
from tests.integration.product import make_services, served

pytestmark = pytest.mark.e2e
SLIDE = Path("wsi") / "CMU-1-Small-Region.svs"
PASSWORD = "correct horse battery"
PAGE = """
<!doctype html><body style="margin:0"><div id="slide" style="width:900px;height:700px"></div>
<script src="/openseadragon.js"></script>
"""
CALL = """
async ([path, body]) => {
  const answer = await fetch(path, {method: 'POST', headers: {'Content-Type': 'application/json'},
                                    body: JSON.stringify(body)});
  if (!answer.ok) throw new Error(await answer.text());
}
"""
SHOW = """
(url) => new Promise((done, fail) => {
  const viewer = OpenSeadragon({id: 'slide', tileSources: url, drawer: 'canvas', showNavigator: false,
                                showNavigationControl: false, animationTime: 0, immediateRender: false});
  window.viewer = viewer;
  viewer.addHandler('open-failed', (event) => fail(new Error(event.message)));
  viewer.addHandler('tile-load-failed', (event) => fail(new Error(event.message)));
  viewer.addHandler('open', () => done(Object.values(viewer.world.getItemAt(0).getContentSize())));
})
"""
GO = """
([x, y, zoom]) => {
  const view = viewer.viewport, image = viewer.world.getItemAt(0);
  view.zoomTo(zoom ? image.imageToViewportZoom(zoom) : view.getHomeZoom(), null, true);
  view.panTo(image.imageToViewportCoordinates(x, y), true);
}
"""
LOADED = "viewer.world.getItemAt(0).getFullyLoaded()"
COLOURS = """
(points) => {
  const canvas = document.querySelector('.openseadragon-canvas canvas'), context = canvas.getContext('2d');
  const density = canvas.width / 900, image = viewer.world.getItemAt(0);
  return points.map(([x, y]) => {
    const at = image.imageToViewerElementCoordinates(new OpenSeadragon.Point(x, y));
    const box = context.getImageData(Math.round(at.x * density) - 5, Math.round(at.y * density) - 5, 11, 11).data;
    return [0, 1, 2].map((band) => {
      let sum = 0;
      for (let i = band; i < box.length; i += 4) sum += box[i];
      return sum / 121;
    });
  });
}
"""


@pytest.fixture(scope="session")
def openseadragon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The minified script, from the npm registry, or a loud skip."""
    folder = tmp_path_factory.mktemp("npm")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("NPM MISSING: install Debian's npm")
    fetched = subprocess.run(
        [npm, "pack", "--silent", "openseadragon@6"], cwd=folder, capture_output=True, timeout=120
    )
    if fetched.returncode:
        pytest.skip("NPM REGISTRY OUT OF REACH: OpenSeadragon cannot be fetched")
    shutil.unpack_archive(next(folder.glob("*.tgz")), folder)
    return folder / "package" / "build" / "openseadragon" / "openseadragon.min.js"


@pytest.fixture
def site(settings: Settings, database: Database, tenant_id: UUID) -> Iterator[tuple[str, UUID]]:
    """Log-in and viewer, and a study of a slide that nobody owns yet."""
    port = free_port()
    services = make_services(settings.model_copy(update={"bcrypt_cost": 4}), database, port)
    with served(harden(create_api([auth.function, tiling.function], services, {}), services), port) as url:
        yield url.removesuffix("/api/"), uuid7()
    services.close()


@pytest.fixture
def page(browser: BrowserContext, site: tuple[str, UUID], openseadragon: Path) -> Page:
    """A page of the same origin as the API, which someone is logged in to."""
    url, _ = site
    page = browser.new_page()
    page.route(f"{url}/look", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
    page.route(f"{url}/openseadragon.js", lambda route: route.fulfill(path=openseadragon))
    page.goto(f"{url}/look")
    account = {"email": "anna@hospital.example", "username": "anna", "password": PASSWORD}
    httpx.post(f"{url}/api/auth/register", json=account, trust_env=False).raise_for_status()
    page.evaluate(CALL, ["/api/auth/login", {"login": "anna", "password": PASSWORD}])
    return page


def test_what_is_on_the_screen_is_the_slide(
    page: Page, site: tuple[str, UUID], settings: Settings, database: Database, hounsfield_data: Path
) -> None:
    _store(settings, database, site[1], (hounsfield_data / SLIDE).read_bytes())
    assert page.evaluate(SHOW, f"/api/viewer/{site[1]}.dzi") == [2220, 2967]
    with OpenSlide(hounsfield_data / SLIDE) as slide:
        whole = np.asarray(slide.read_region((0, 0), 0, (2220, 2967)).convert("RGB"), dtype=float)
    for centre, zoom, spread, half in (
        ((1110, 1483), 0, 900, 22),
        ((600, 2400), 1, 300, 5),
        ((1700, 700), 2, 150, 3),
    ):
        page.evaluate(GO, [*centre, zoom])
        page.wait_for_function(LOADED)
        page.wait_for_timeout(300)  # a frame is drawn after the last tile has come
        offsets = [-spread, -spread // 2, 0, spread // 2, spread]
        points = [(centre[0] + dx, centre[1] + dy) for dx in offsets for dy in offsets]
        seen = np.array(page.evaluate(COLOURS, points))
        there = np.array([_mean(whole, point, half) for point in points])
        assert np.abs(seen - there).mean() < 6, f"zoom {zoom}"
        assert there.std(axis=0).min() > 4  # they differ from each other by more


def _mean(whole: np.ndarray, point: tuple[int, int], half: int) -> np.ndarray:
    x, y = point
    return np.asarray(whole[y - half : y + half + 1, x - half : x + half + 1].mean(axis=(0, 1)))


def _store(settings: Settings, database: Database, slide: UUID, data: bytes) -> None:
    """A slide of Anna's, as ingest leaves it."""
    services = make_services(settings, database, 0)
    with database.system() as session:
        anna = session.query(User).one()
        session.expunge(anna)
    ref = services.storage.put("studies", f"{anna.tenant_id}/{slide}/slide/1.svs", data)
    file_id = uuid7()
    owned = {"tenant_id": anna.tenant_id}
    with database.tenant(anna.tenant_id) as session:
        session.add(
            Study(
                id=slide,
                owner_id=anna.id,
                kind="slide",
                patient_id="P-1",
                status="ingested",
                digest="d",
                **owned,
            )
        )
        session.flush()
        session.add(
            StudyFile(
                id=file_id,
                study_id=slide,
                filename_sealed=services.once(name_ring).seal("a.svs", file_id),
                role=FileRole.SLIDE,
                **ref.model_dump(include={"bucket", "key", "size", "sha256"}),
                **owned,
            )
        )
