"""Events of the ingest function."""

import gc
from uuid import UUID

from functions.ingest.faults import Held, NotWanted, UnusableFiles
from functions.ingest.repository import IngestRepository
from functions.ingest.service import (
    accept,
    forget,
    forget_received,
    hold,
    known_to,
    progress_of,
    reject,
    take_in,
)
from shared.db.models import Study
from shared.events import StudyDeleted, StudyIngested, StudyRejected, UploadCompleted
from shared.runtime import Function, LongWork, UnitOfWork
from shared.storage.port import ObjectNotFound

function = Function("ingest")
GIVEN_UP = "the files could not be processed; an operator can replay it"


def give_up(event: UploadCompleted, unit: UnitOfWork, _error: str) -> None:
    """No more tries, for reasons that lie with us: the sender learns of it, and the files are kept for a replay."""
    IngestRepository(unit.session).note(event.study_id, GIVEN_UP)


@function.on_long(UploadCompleted, on_dead=give_up)
def ingest(event: UploadCompleted, work: LongWork) -> None:
    """Take the study's files in, or reject the study with the reason, or hold it for a person to look.

    Only a fault of the files themselves rejects, or of who took them out of the drop-box. Whatever else goes wrong (an
    object of ours that is missing, a store that is away, a full disk) is tried again and never costs anybody a file.
    """
    study = _receiving(work, event.study_id)
    if study is None:
        return  # deleted meanwhile, or ingested already
    try:
        _ingest(work, study)
    except NotWanted:
        return
    except ObjectNotFound:
        if _receiving(work, event.study_id) is not None:
            raise
    finally:
        gc.collect()  # tracebacks may hold all that was read; now nobody waits for this study any more


def _receiving(work: LongWork, study_id: UUID) -> Study | None:
    with work.unit() as unit:
        return IngestRepository(unit.session).receiving(study_id)


def _ingest(work: LongWork, study: Study) -> None:
    try:
        outcome = take_in(work.services, study, progress_of(work, study.id), known_to(work, study))
    except UnusableFiles as fault:
        with work.final_unit() as unit:
            reject(unit, study, fault.detail)
        return
    except Held as held:
        with work.final_unit() as unit:
            hold(unit, study, held)
        return
    with work.final_unit() as unit:
        accept(unit, study.id, outcome)


# Events of their own, so that a crash cannot skip what they do.


@function.on(StudyIngested)
def drop_received(event: StudyIngested, unit: UnitOfWork) -> None:
    """What was received is of no use once ingest has made of it what is kept; it may name the patient."""
    forget_received(unit, event.study_id)


@function.on(StudyRejected)
def clean_up(event: StudyRejected, unit: UnitOfWork) -> None:
    """Leave nothing of a rejected study's files."""
    forget(unit, event.study_id)


@function.on(StudyDeleted)
def remove(event: StudyDeleted, unit: UnitOfWork) -> None:
    """Leave nothing of a deleted study's files."""
    forget(unit, event.study_id)
