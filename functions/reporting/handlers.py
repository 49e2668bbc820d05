"""What reporting does on events."""

from functions.reporting.service import create_report
from shared.events import InferenceCompleted
from shared.runtime import UnitOfWork


def write_report(event: InferenceCompleted, unit: UnitOfWork) -> None:
    """Write the report of the task that ended."""
    create_report(unit, event.task_id)
