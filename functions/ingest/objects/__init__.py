"""Objects that others put into the bucket `incoming`, or into the watched folder, become studies.

Event in: object.created. Events out: upload.completed, by `shared.intake`. `handlers.py` says what is done on which
event and how often, `service.py` decides, `sweep.py` finds what no notice told of, `folder.py` watches a folder.
"""

from functions.ingest.objects.handlers import declare
from functions.ingest.objects.service import remove_taken

__all__ = ["declare", "remove_taken"]
