"""Events of the ingest function."""

from functions.ingest.repository import IngestRepository
from functions.ingest.service import UnusableFiles, accept, describe, forget, reject
from shared.events import StudyRejected, UploadCompleted
from shared.runtime import Function, LongWork, UnitOfWork

function = Function("ingest")
GIVEN_UP = "the files could not be processed; an operator can replay it"


def give_up(event: UploadCompleted, unit: UnitOfWork, _error: str) -> None:
    """No more tries, for reasons that lie with us: the sender learns of it, and the files are kept for a replay."""
    IngestRepository(unit.session).note(event.study_id, GIVEN_UP)


@function.on_long(UploadCompleted, on_dead=give_up)
def ingest(event: UploadCompleted, work: LongWork) -> None:
    """Describe the study's files, or reject the study with the reason.

    Only a fault of the files themselves rejects. Whatever else goes wrong (an object that is missing, a store that
    is away, a full disk) is tried again and never costs anybody a file.
    """
    with work.unit() as unit:
        study = IngestRepository(unit.session).receiving(event.study_id)
    if study is None:
        return  # deleted meanwhile, or ingested already
    try:
        files = describe(work.services, study)
    except UnusableFiles as fault:
        with work.final_unit() as unit:
            reject(unit, study, fault.detail)
        return
    with work.final_unit() as unit:
        accept(unit, study, files)


@function.on(StudyRejected)
def clean_up(event: StudyRejected, unit: UnitOfWork) -> None:
    """Leave nothing of a rejected study's files. An event of its own, so that a crash cannot skip it."""
    forget(unit, event.study_id)
