"""dicom: talks to PACS and viewers as they do, over DICOM's own network and over DICOMweb.

Routes, under /dicom-web: POST /studies (STOW-RS); GET /studies, /series, /instances and below (QIDO-RS, WADO-RS).
The node (`node/`, started by `hounsfield up` where HOUNSFIELD_DICOM_PORT is set, or alone by `hounsfield dicom`):
C-ECHO, C-STORE, C-FIND.
Events out: upload.completed, once a study has settled (`shared.intake`).
"""

from contextlib import AbstractContextManager, nullcontext

from fastapi import APIRouter
from pydicom import config

from functions.dicom.sweep import sweep_instances
from functions.dicom.web.retrieve_routes import router as retrieve
from functions.dicom.web.search_routes import router as search
from functions.dicom.web.store_routes import router as store
from shared.runtime import Function, Services

# pydicom tells of values that break the rules by warnings that quote them: in our logs they would name patients.
config.settings.reading_validation_mode = config.IGNORE

router = APIRouter(tags=["dicomweb"])
for part in (store, search, retrieve):
    router.include_router(part)
function = Function("dicom", router)
function.every(3600, "dicom-objects")(sweep_instances)


@function.beside
def node(services: Services) -> AbstractContextManager[object]:
    """The DICOM node, where it has a port."""
    if services.settings.dicom_port is None:
        return nullcontext()
    from functions.dicom.node.node import Node  # here, because the routes do without pynetdicom

    return Node(services)
