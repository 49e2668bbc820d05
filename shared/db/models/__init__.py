"""The tables, one module per area. Importing this package registers them all."""

from shared.db.models.accounts import Role, Tenant, User
from shared.db.models.events import DeadLetter, InboxEntry, OutboxEntry, Subscription
from shared.db.models.inference import Artifact, Finding, InferenceTask, StepResult, TaskState
from shared.db.models.reports import Report
from shared.db.models.studies import Study, StudyFile, StudyStatus

__all__ = [
    "Artifact",
    "DeadLetter",
    "Finding",
    "InboxEntry",
    "InferenceTask",
    "OutboxEntry",
    "Report",
    "Role",
    "StepResult",
    "Study",
    "StudyFile",
    "StudyStatus",
    "Subscription",
    "TaskState",
    "Tenant",
    "User",
]
