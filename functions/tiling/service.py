"""Which slide is meant, whether the caller may look at it, and the pictures of it."""

import io
from uuid import UUID

from PIL import Image

from functions.tiling.open_slides import StoredSlide, open_slides
from functions.tiling.repository import SlideRepository
from shared.db.models import Study, StudyFile, StudyStatus
from shared.errors import NotFound
from shared.runtime.services import Services
from shared.runtime.unit import unit_of_work
from shared.security.audit import Actor
from shared.security.principal import Principal

QUALITY = 80
"""Of JPEG tiles."""
RENDERING = "1"
"""Changes with how pixels become tiles, so that browsers fetch them anew."""
VISIBLE = {StudyStatus.INGESTED, StudyStatus.PROCESSING, StudyStatus.COMPLETED}


def find_slide(services: Services, viewer: Principal, actor: Actor, id: UUID, audited: bool) -> StoredSlide:
    """Where the slide lies. Raises NotFound also where the viewer may not see it.

    Its transaction ends here: no connection waits for pixels, and the audit log has the access before anybody sees one.
    """
    with unit_of_work(services, viewer.tenant_id, actor) as unit:
        slides = SlideRepository(unit.session, viewer)
        study = slides.get(id)
        if study is None:
            raise NotFound(f"no slide {id}")
        image = slides.image(study.id)
        stored = _stored(study, image)
        # One record says that a slide was looked at: its description or thumbnail, without which no viewer shows it.
        # A record for each of thousands of tiles would bury the rest of the log and make every tile wait for the
        # tenant's chain; that a tile alone was fetched is in the access log.
        if audited:
            unit.audit("slide.view", subject=("study", study.id), patient_id=study.patient_id)
    return stored


def describe(services: Services, slide: StoredSlide) -> str:
    """Its Deep Zoom XML."""
    with services.once(open_slides).use(slide) as zoom:
        return zoom.description()


def tile(services: Services, slide: StoredSlide, level: int, column: int, row: int) -> bytes:
    """A tile as JPEG. Raises NotFound for one that is not there."""
    with services.once(open_slides).use(slide) as zoom:
        return _jpeg(zoom.tile(level, column, row))


def thumbnail(services: Services, slide: StoredSlide, width: int) -> bytes:
    """The whole slide as JPEG."""
    with services.once(open_slides).use(slide) as zoom:
        return _jpeg(zoom.thumbnail(width))


def etag_of(slide: StoredSlide, *picture: int) -> str:
    """The state of one picture of a slide: each has a name of its own, so that none stands for one that is not there."""
    return f'"{"-".join([slide.sha256, RENDERING, *map(str, picture)])}"'


def _stored(study: Study, image: StudyFile | None) -> StoredSlide:
    if study.status not in VISIBLE or image is None or image.sha256 is None:
        raise NotFound(f"slide {study.id} cannot be looked at: it is {study.status}")
    return StoredSlide(image.bucket, image.key, image.size, image.sha256)


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
