"""studies: what there is, how it stands, and what people change of it.

Routes: GET /studies, GET, PATCH, DELETE /studies/{id}, POST /studies/{id}/release (`changes/`);
GET /studies/{id}/files/{file_id}, /studies/{id}/series, /studies/{id}/artifacts, /studies/{id}/artifacts/{role} (`files/`);
GET /scans, /scans/{id} (brain MRI, with the fields of the older brain-tumour system);
GET /slides, GET, PATCH, DELETE /slides/{id}, POST /slides/bulk-delete (`slides/`);
GET, POST /cases, GET, PATCH, DELETE /cases/{id}, GET /cases/{id}/images (`cases/`);
GET /audit (`audit/`).
Events out: study.deleted, study.rejected, upload.completed (of what was held and is released).
"""

from fastapi import APIRouter

from functions.studies.audit.routes import router as audit
from functions.studies.cases.routes import router as cases
from functions.studies.changes.routes import router as changes
from functions.studies.files.routes import router as files
from functions.studies.routes import router as studies
from functions.studies.slides.routes import router as slides
from shared.runtime import Function

router = APIRouter()
for part in (studies, changes, files, slides, cases, audit):
    router.include_router(part)
function = Function("studies", router)
