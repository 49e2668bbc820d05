"""ingest: opens what was uploaded, checks every voxel, and says what it is.

Events in: upload.completed, study.rejected. Events out: study.ingested, study.rejected.
"""

from functions.ingest.handlers import function

__all__ = ["function"]
