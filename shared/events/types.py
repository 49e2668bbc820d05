"""The event types of DESIGN.md §4 that exist so far."""

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from annotated_types import MinLen

from shared.events.base import Event

Kind = Literal["ct", "brain-mri", "oct", "slide"]
Pipeline = Literal["brain-mri"]
PIPELINES: tuple[Pipeline, ...] = ("brain-mri",)


class _OfStudy(Event):
    """An event whose order matters per study."""

    study_id: UUID

    @property
    def key(self) -> str:
        return str(self.study_id)


class ObjectCreated(Event):
    """Somebody put an object into the bucket `incoming`. Its key may name a patient, so it is told by our row's id."""

    type = "object.created"
    topics = ("hounsfield.objects",)
    object_id: UUID
    key_hash: Annotated[str, MinLen(1)]
    """SHA-256 of bucket and key, hex."""

    @property
    def key(self) -> str:
        return self.key_hash


class UploadCompleted(Event):
    """All files of a study are stored."""

    type = "upload.completed"
    topics = ("hounsfield.uploads",)
    upload_id: UUID
    study_id: UUID
    kind: Kind | None
    """None where the sender did not say; ingest finds out."""

    @property
    def key(self) -> str:
        return str(self.upload_id)


class StudyIngested(_OfStudy):
    """The study's files were read, checked and described."""

    type = "study.ingested"
    topics = ("hounsfield.studies",)
    kind: Kind


class StudyRejected(_OfStudy):
    """The study's files cannot be used; nothing of them is kept."""

    type = "study.rejected"
    topics = ("hounsfield.studies",)
    kind: Kind | None
    reason: str


class StudyDeleted(_OfStudy):
    """Somebody deleted the study; its objects go too."""

    type = "study.deleted"
    topics = ("hounsfield.studies",)


class InferenceRequested(Event):
    """A task waits for a worker. One topic per pipeline, so that each scales by its own lag."""

    type = "inference.requested"
    topics: ClassVar[tuple[str, ...]] = tuple(f"hounsfield.inference.{name}" for name in PIPELINES)
    task_id: UUID
    study_id: UUID
    pipeline: Pipeline

    @property
    def key(self) -> str:
        return str(self.task_id)

    @property
    def topic(self) -> str:
        return f"hounsfield.inference.{self.pipeline}"


class _OfTask(_OfStudy):
    topics = ("hounsfield.results",)
    task_id: UUID


class InferenceProgressed(_OfTask):
    """A step of a task began."""

    type = "inference.progressed"
    step: str
    progress: int


class InferenceCompleted(_OfTask):
    """A task ended with results."""

    type = "inference.completed"


class InferenceFailed(_OfTask):
    """A task ended without results."""

    type = "inference.failed"
    reason: str


class InferenceCancelled(_OfTask):
    """A task was cancelled before its end."""

    type = "inference.cancelled"


class ReportCreated(_OfStudy):
    """A report was written for a finished task."""

    type = "report.created"
    topics = ("hounsfield.reports",)
    report_id: UUID
    task_id: UUID
