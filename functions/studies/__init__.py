"""studies: what there is and how it stands.

Routes: GET /studies, /studies/{id}, /studies/{id}/artifacts, /studies/{id}/artifacts/{role};
GET /scans, /scans/{id} (brain MRI, with the fields of the older brain-tumour system).
"""

from functions.studies.routes import router
from shared.runtime import Function

function = Function("studies", router)
