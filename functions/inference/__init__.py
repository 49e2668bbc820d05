"""inference: runs a study's pipeline, step by step, calling models over the Open Inference Protocol.

Events in: study.ingested (makes a task), inference.requested (runs it).
Events out: inference.requested, inference.progressed, inference.completed, inference.failed.
"""

from functions.inference.handlers import function

__all__ = ["function"]
