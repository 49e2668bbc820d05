"""The tables, one module per area. Importing this package registers them all."""

from shared.db.models.accounts import Role, Tenant, User
from shared.db.models.audit import AuditEntry, AuditHead
from shared.db.models.credentials import ApiKey, Identity, LoginAttempt, PasswordReset, RefreshToken
from shared.db.models.events import DeadLetter, InboxEntry, OutboxEntry, Subscription
from shared.db.models.inference import Artifact, Finding, InferenceTask, StepResult, TaskState
from shared.db.models.reports import Report
from shared.db.models.studies import Study, StudyFile, StudyStatus

__all__ = [
    "ApiKey",
    "Artifact",
    "AuditEntry",
    "AuditHead",
    "DeadLetter",
    "Finding",
    "Identity",
    "InboxEntry",
    "InferenceTask",
    "LoginAttempt",
    "OutboxEntry",
    "PasswordReset",
    "RefreshToken",
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
