"""upload: takes files in and stores them; looks at no pixel.

Events in: none. Events out: upload.completed. One folder per way in, each read in the order routes → service →
repository: `parts/` (uploads in parts to signed URLs), `forms/` (any study, or a CT, in one request), `brain_mri/`,
`cases/`, `slides/`, `oct/`; `receiving.py` is what they have in common. `storage_routes.py` serves the folder store's
signed URLs on one machine.
"""

from fastapi import APIRouter

from functions.upload.brain_mri.routes import router as brain_mri
from functions.upload.cases.routes import router as cases
from functions.upload.expiry import expire_uploads
from functions.upload.forms.routes import router as forms
from functions.upload.oct.routes import router as oct_
from functions.upload.parts.routes import router as parts
from functions.upload.parts.sweep import sweep_unfinished
from functions.upload.slides.routes import router as slides
from functions.upload.storage_routes import router as storage
from functions.upload.sweep import sweep_incoming, sweep_orphans
from shared.http.idempotency import clean_idempotency_keys
from shared.runtime import Function

HOUR = 3600.0

router = APIRouter()
for way_in in (parts, forms, brain_mri, cases, slides, oct_, storage):
    router.include_router(way_in)
function = Function("upload", router)
function.every(HOUR, "uploads")(expire_uploads)
function.every(HOUR, "unfinished-uploads")(sweep_unfinished)
function.every(HOUR, "objects")(sweep_orphans)
function.every(HOUR, "received-files")(sweep_incoming)
function.every(HOUR, "scratch-files")(lambda services: services.storage.sweep())
function.every(HOUR, "idempotency-keys")(clean_idempotency_keys)
