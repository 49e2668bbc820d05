"""upload: takes files in and stores them; looks at no pixel.

Routes: POST /process-mri; GET and PUT /storage/… (the folder store's signed URLs, on one machine).
Events out: upload.completed.
"""

from functions.upload.routes import router
from functions.upload.storage_routes import router as storage_router
from shared.runtime import Function

router.include_router(storage_router)
function = Function("upload", router)
