"""ingest: opens whatever was sent, says what it is, frees it of its patient, and makes of it what is analysed.

Events in: upload.completed, object.created, study.ingested, study.rejected, study.deleted.
Events out: study.ingested, study.rejected, upload.completed.

`handlers.py` says what happens on which event, `service.py` in which order; `received.py` opens files and archives,
`kinds.py` decides which kind of study it is, and `ct.py`, `brain_mri.py`, `oct.py` and `slide.py` make of each kind what is
kept. `objects/` takes up what others put into the drop-box.
"""

from functions.ingest.handlers import function
from functions.ingest.objects import declare

declare(function)

__all__ = ["function"]
