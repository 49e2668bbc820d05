"""Writes the report of a finished task, and serves it.

Events in: `inference.completed`. Events out: `report.created`.
Routes: `GET /reports`, `GET /reports/{id}`, `GET /reports/{id}/pdf`, `GET /reports/{id}/html`.
Files: `report.json`, `report.html` and `report.pdf` under the task's results, as artifacts of the task.
"""

from functions.reporting.handlers import write_report
from functions.reporting.routes import router
from shared.events import InferenceCompleted
from shared.runtime import Function

function = Function("reporting", router)
function.on(InferenceCompleted)(write_report)
