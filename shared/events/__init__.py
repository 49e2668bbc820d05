"""Events: typed data, their registry, and CloudEvents 1.0 as the wire form."""

from shared.events.base import Envelope, Event
from shared.events.registry import EVENTS, UnknownEvent, event_class
from shared.events.types import (
    InferenceCancelled,
    InferenceCompleted,
    InferenceFailed,
    InferenceProgressed,
    InferenceRequested,
    ObjectCreated,
    ReportCreated,
    StudyDeleted,
    StudyIngested,
    StudyRejected,
    UploadCompleted,
)

__all__ = [
    "EVENTS",
    "Envelope",
    "Event",
    "InferenceCancelled",
    "InferenceCompleted",
    "InferenceFailed",
    "InferenceProgressed",
    "InferenceRequested",
    "ObjectCreated",
    "ReportCreated",
    "StudyDeleted",
    "StudyIngested",
    "StudyRejected",
    "UnknownEvent",
    "UploadCompleted",
    "event_class",
]
