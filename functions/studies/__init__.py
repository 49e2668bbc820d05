"""studies: what there is and how it stands.

Routes: GET /studies, /studies/{id}, /studies/{id}/artifacts, /studies/{id}/artifacts/{role};
GET /scans, /scans/{id} (brain MRI, with the fields of the older brain-tumour system);
GET /audit (`audit/`).
"""

from fastapi import APIRouter

from functions.studies.audit.routes import router as audit
from functions.studies.routes import router as studies
from shared.runtime import Function

router = APIRouter()
for part in (studies, audit):
    router.include_router(part)
function = Function("studies", router)
