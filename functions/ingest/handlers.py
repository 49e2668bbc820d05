"""Events of the ingest function."""

from functions.ingest.repository import IngestRepository
from functions.ingest.service import describe, forget, reject
from shared.errors import HounsfieldError
from shared.events import StudyIngested, StudyRejected, UploadCompleted
from shared.runtime import Function, LongWork, UnitOfWork

function = Function("ingest")


def give_up(event: UploadCompleted, unit: UnitOfWork, _error: str) -> None:
    """Ingest itself failed for good: the sender learns that no result will come."""
    study = IngestRepository(unit.session).study(event.study_id)
    if study is not None:
        reject(unit, study, "the files could not be processed; they may be sent again")


@function.on_long(UploadCompleted, on_dead=give_up)
def ingest(event: UploadCompleted, work: LongWork) -> None:
    """Describe the study's files, or reject the study with the reason."""
    with work.unit() as unit:
        study = IngestRepository(unit.session).study(event.study_id)
    if study is None:
        return  # deleted meanwhile
    try:
        files = describe(work.services, study)
    except HounsfieldError as error:
        if error.status >= 500:
            raise  # not the files' fault
        with work.final_unit() as unit:
            reject(unit, unit.session.merge(study), error.detail)
        return
    with work.final_unit() as unit:
        IngestRepository(unit.session).mark_ingested(study.id, files)
        unit.emit(StudyIngested(study_id=study.id, kind=event.kind))


@function.on(StudyRejected)
def clean_up(event: StudyRejected, unit: UnitOfWork) -> None:
    """Leave nothing of a rejected study's files. An event of its own, so that a crash cannot skip it."""
    forget(unit, event.study_id)
