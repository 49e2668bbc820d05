"""The tables, one module per area. Importing this package registers them all."""

from shared.db.models.accounts import Role, Tenant, User
from shared.db.models.audit import AuditEntry, AuditHead
from shared.db.models.cases import Case, CaseStatus
from shared.db.models.credentials import ApiKey, Identity, LoginAttempt, PasswordReset, RefreshToken
from shared.db.models.dicom import DicomInstance, DicomSeries
from shared.db.models.events import DeadLetter, InboxEntry, OutboxEntry, Subscription
from shared.db.models.inference import Artifact, Finding, InferenceTask, StepResult, TaskState
from shared.db.models.intake import IdempotencyKey, IncomingObject, Upload, UploadStatus
from shared.db.models.reports import Report
from shared.db.models.studies import FileRole, Study, StudyFile, StudyStatus

__all__ = [
    "ApiKey",
    "Artifact",
    "AuditEntry",
    "AuditHead",
    "Case",
    "CaseStatus",
    "DeadLetter",
    "DicomInstance",
    "DicomSeries",
    "FileRole",
    "Finding",
    "IdempotencyKey",
    "Identity",
    "InboxEntry",
    "IncomingObject",
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
    "Upload",
    "UploadStatus",
    "User",
]
