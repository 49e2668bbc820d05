"""What becomes of an object in the drop-box: a study by itself, or a piece of one that is open under its name."""

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from functions.ingest.objects.repository import ObjectsRepository
from functions.ingest.objects.writers import is_being_written
from shared import intake
from shared.db.models import Study
from shared.db.models.intake import IncomingObject
from shared.db.tenants import tenant_ids
from shared.events.types import Kind
from shared.formats.names import ARCHIVES, ONLY_OCT, ONLY_SLIDES, SUFFIXES
from shared.formats.types import Format
from shared.incoming import BUCKET, NotForUs, Place, add_rows, key_hash, place_of, remove_versions, version_of
from shared.intake import (
    announce,
    close,
    join,
    new_study,
    open_study,
    owner_of_incoming,
    received_file,
    storable,
)
from shared.quota import QuotaExceeded, require_room
from shared.runtime import Services, UnitOfWork
from shared.runtime.unit import unit_of_work
from shared.security.sealing import name_ring
from shared.storage.port import ObjectNotFound, ObjectRef

log = structlog.get_logger(__name__)

WHOLE: dict[Kind, tuple[str, ...]] = {"oct": ONLY_OCT, "slide": (*ONLY_SLIDES, *SUFFIXES[Format.TIFF])}
"""Files that are a study by themselves, by what they are called. A MIRAX or DICOM slide comes in several files."""
AT_ONCE = (*ONLY_OCT, *ONLY_SLIDES)
"""Those of a study whose kind is not given."""


def is_whole(place: Place) -> bool:
    """Whether the object is a study by itself. Where its name does not tell, the study just waits to settle."""
    if place.study is None:
        return True
    endings = WHOLE.get(place.kind, ()) if place.kind else AT_ONCE
    return place.file.lower().endswith((*ARCHIVES, *endings))


def take_up(unit: UnitOfWork, object_id: UUID) -> None:
    """Make the object part of a study, or leave it alone and note why. Done twice, it changes nothing."""
    repository = ObjectsRepository(unit.session)
    found = repository.waiting(object_id)
    if found is None or found.key is None:
        return
    place = place_of(found.key)
    if place.is_marker:
        _take_pieces(unit, _waiting_of(unit, place), place)  # its notice may have come before the last files'
    found = repository.lock_waiting(object_id)
    if found is None:
        return
    if not _is_present(unit, found):
        found.key = None
        log.info("an object in the drop-box went before it was taken up", object_id=str(found.id))
    elif place.is_marker:
        _complete(unit, found, place)
    elif is_whole(place):
        _take_whole(unit, found, place)
    else:
        _take_pieces(unit, [found], place)


def close_settled(services: Services) -> int:
    """Close what has been quiet for long enough, and has all that lies in its folder; returns how many studies.

    A notice may have been lost, or come while we were away: without a look the study would be torn in two.
    Raises Unavailable.
    """
    for tenant_id in tenant_ids(services.database):
        with services.database.tenant(tenant_id) as session:
            keys = ObjectsRepository(session).of_settled()
        for place in map(place_of, keys):
            with unit_of_work(services, tenant_id) as unit:
                _take_pieces(unit, _waiting_of(unit, place), place)
    return intake.close_settled(services)


def _is_present(unit: UnitOfWork, found: IncomingObject) -> bool:
    """Whether the store has the object in the version that we were told of."""
    assert found.key is not None
    try:
        return version_of(unit.storage.head(BUCKET, found.key)) == found.version
    except ObjectNotFound:
        return False


def _complete(unit: UnitOfWork, marker: IncomingObject, place: Place) -> None:
    study = open_study(unit, _intake_key(place))
    if study is None:
        log.warning("a study was said to be complete that is not open", object_id=str(marker.id))
    else:
        close(unit, study.id)
    marker.key = None
    unit.storage.delete(BUCKET, f"{place.prefix}{place.file}")


def _waiting_of(unit: UnitOfWork, place: Place) -> Sequence[IncomingObject]:
    """The study's pieces in the store that nobody took up, whether or not we were told of them. Locked."""
    there = [
        ref
        for ref in unit.storage.list_objects(BUCKET, place.prefix)
        if _is_piece(ref.key) and not is_being_written(unit.storage, ref)
    ]
    add_rows(unit.session, unit.tenant_id, there)
    return ObjectsRepository(unit.session).waiting_among(
        [(key_hash(ref.key), version_of(ref)) for ref in there]
    )


def _is_piece(key: str) -> bool:
    try:
        place = place_of(key)
    except NotForUs:
        return False
    return not place.is_marker and not is_whole(place)


def _take_whole(unit: UnitOfWork, found: IncomingObject, place: Place) -> None:
    if not _admitted(unit, [found], place):
        return
    study = _new_study(unit, place)
    unit.session.add(study)
    unit.session.flush()
    _add_files(unit, study, [found])
    announce(unit, study)
    _note_made(unit, study)


def _take_pieces(unit: UnitOfWork, found: Sequence[IncomingObject], place: Place) -> None:
    """Let pieces join the study that is open under their folder's name, or open it."""
    found = _admitted(unit, found, place)
    if not found:
        return
    made: list[Study] = []

    def make() -> Study:
        made.append(_new_study(unit, place))
        return made[-1]

    study = join(unit, _intake_key(place), timedelta(seconds=unit.services.settings.settle_seconds), make)
    _add_files(unit, study, found)
    if study in made:
        _note_made(unit, study)


def _admitted(unit: UnitOfWork, found: Sequence[IncomingObject], place: Place) -> Sequence[IncomingObject]:
    """Those for which there is room; the others stay where they are, and their rows say why."""
    settings = unit.services.settings
    limit = settings.max_slide_bytes if place.kind in ("slide", None) else settings.max_upload_bytes
    for one in found:
        if one.size > limit:
            _leave(one, f"larger than the limit of {limit} bytes")
    small = [one for one in found if one.size <= limit]
    if not small:
        return []
    try:
        require_room(unit, sum(one.size for one in small))
    except QuotaExceeded:
        for one in small:
            _leave(one, "the tenant has no room for it")
        return []
    return small


def _new_study(unit: UnitOfWork, place: Place) -> Study:
    owner = owner_of_incoming(unit.session, unit.services.settings)
    study = new_study(unit, owner.id, place.kind)
    name = storable(place.study or place.file)
    study.name_sealed = unit.services.once(name_ring).seal(name, study.id)
    return study


def _add_files(unit: UnitOfWork, study: Study, found: Sequence[IncomingObject]) -> None:
    """Add what was found to the study's files; where it was sent before under the same key, it takes that place."""
    keys = [one.key for one in found if one.key is not None]
    before = ObjectsRepository(unit.session).received(study.id, keys)
    for one in found:
        assert one.key is not None
        if one.key in before:
            before[one.key].size, before[one.key].sha256 = one.size, None
        else:
            ref = ObjectRef(bucket=one.bucket, key=one.key, size=one.size)
            unit.session.add(received_file(unit, study.id, ref, place_of(one.key).file))
        _mark_taken(one, study)


def _mark_taken(found: IncomingObject, study: Study) -> None:
    found.study_id, found.key = study.id, None


def _leave(found: IncomingObject, why: str) -> None:
    found.ignored, found.key = why, None
    log.warning("an object in the drop-box is left alone", object_id=str(found.id), why=why)


def _note_made(unit: UnitOfWork, study: Study) -> None:
    unit.audit(
        "study.create", subject=("study", study.id), patient_id=study.patient_id, details={"by": "bucket"}
    )


def _intake_key(place: Place) -> str:
    """One per tenant, kind and name, without the name."""
    name = hashlib.sha256((place.study or "").encode()).hexdigest()
    return f"bucket:{place.folder}/{name}"


def remove_taken(services: Services, tenant_id: UUID, study_id: UUID, keys: Sequence[str]) -> int:
    """Remove from the bucket `incoming` what a study was made of; returns how many objects.

    An object of the drop-box that was replaced meanwhile stays: what lies there now belongs to another study.
    """
    with services.database.tenant(tenant_id) as session:
        taken = ObjectsRepository(session).versions_of(study_id)
    removed = remove_versions(services.storage, keys, taken)
    with services.database.tenant(tenant_id) as session:
        ObjectsRepository(session).spend(study_id)
    return removed
