"""A client of Hounsfield that needs nothing of the server: `pip install hounsfield[client]`.

with Client("https://hounsfield.hospital.example", token="hsk_…") as client:
    study = client.wait(client.submit("series/", kind="ct"))
"""

from shared.client.client import AsyncClient, Client
from shared.client.errors import CallFailed, FileChanged, NoAnswer
from shared.client.results import Artifact, Finding, Page, Results, Study, StudyFile, Task, Upload
from shared.client.retries import Patience
from shared.client.sending import Progress, Sending, StudyFields

__all__ = [
    "Artifact",
    "AsyncClient",
    "CallFailed",
    "Client",
    "FileChanged",
    "Finding",
    "NoAnswer",
    "Page",
    "Patience",
    "Progress",
    "Results",
    "Sending",
    "Study",
    "StudyFields",
    "StudyFile",
    "Task",
    "Upload",
]
