"""KServe's ModelServer bound to one address, with routes for versions and answers of 400 where FastAPI says 422."""

import asyncio
import logging
import secrets
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from kserve import ModelServer
from kserve import errors as kserve_errors
from kserve.model_server import app
from kserve.protocol.rest.v2_datamodels import InferenceRequest
from kserve.protocol.rest.v2_endpoints import V2Endpoints

from serving.adapters.kserve_model import CatalogueDataPlane, CatalogueModel, CatalogueRepository
from serving.adapters.oip import HostedModel
from serving.adapters.volumes import Volumes
from serving.predictors.catalogue import read_catalogue
from serving.predictors.package import InvalidPackage, ModelPackage
from shared.config import Settings
from shared.imaging.nifti import Limits
from shared.storage.port import Storage

log = structlog.get_logger(__name__)
GRACE_SECONDS = 20
_CALLERS_MISTAKES = (kserve_errors.InvalidInput, kserve_errors.ModelNotFound)


class CatalogueServer(ModelServer):
    """REST only, on one address, with the catalogue's data plane."""

    def __init__(self, repository: CatalogueRepository, host: str, port: int, preload: bool) -> None:
        super().__init__(
            http_port=port,
            registered_models=repository,
            enable_grpc=False,
            workers=1,
            enable_latency_logging=False,
            grace_period=GRACE_SECONDS,
        )
        self.dataplane = CatalogueDataPlane(repository)
        self._host = host
        self._preload = preload
        register_versions(self.dataplane)

    async def _serve(self) -> None:
        # KServe writes 0.0.0.0 into uvicorn's configuration, which is not read before this.
        self._rest_server.config.host = self._host
        preloading = asyncio.create_task(self._load_all()) if self._preload else None
        await super()._serve()
        if preloading:
            preloading.cancel()

    async def _load_all(self) -> None:
        """Load every model once the port is open; a failed one is reported by its readiness and by each request."""
        while not self._rest_server._server.started:
            await asyncio.sleep(0.05)
        loads = [asyncio.wrap_future(model.load_soon()) for model in self.registered_models.all()]
        for outcome in await asyncio.gather(*loads, return_exceptions=True):
            if isinstance(outcome, BaseException):
                log.error("preload failed", reason=str(outcome))


class VersionedEndpoints(V2Endpoints):
    """KServe answers 501 wherever a path names a version; these look the version up."""

    async def model_metadata(self, model_name: str, model_version: str | None = None) -> Any:
        """Metadata of a model or of one version."""
        return await super().model_metadata(self._key(model_name, model_version))

    async def model_ready(self, model_name: str, model_version: str | None = None) -> Any:
        """Readiness of a model or of one version."""
        ready = await super().model_ready(self._key(model_name, model_version))
        return ready.model_copy(update={"name": model_name})

    async def infer(
        self,
        raw_request: Request,
        raw_response: Response,
        model_name: str,
        request_body: InferenceRequest | bytes,
        model_version: str | None = None,
    ) -> Any:
        """Inference by a model's latest version or by the one named."""
        key = self._key(model_name, model_version)
        return await super().infer(raw_request, raw_response, key, request_body)

    def _key(self, name: str, version: str | None) -> str:
        if version is None:
            return name
        if self.dataplane.model_registry.get_model(f"{name}/{version}") is None:
            raise kserve_errors.ModelNotFound(f"{name} in version {version}")
        return f"{name}/{version}"


def register_versions(dataplane: CatalogueDataPlane) -> None:
    """Put our routes on KServe's application before KServe adds its own: the first match answers."""
    endpoints = VersionedEndpoints(dataplane)
    router = APIRouter(prefix="/v2/models/{model_name}/versions/{model_version}", tags=["V2"])
    router.add_api_route("", endpoints.model_metadata, methods=["GET"])
    router.add_api_route("/ready", endpoints.model_ready, methods=["GET"])
    router.add_api_route("/infer", endpoints.infer, methods=["POST"], response_model=None)
    app.include_router(router)
    app.add_exception_handler(RequestValidationError, _bad_request)


async def _bad_request(_: Request, error: Exception) -> JSONResponse:
    """The places that are wrong, without the values, which may be image data."""
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    reasons = [
        f"{_place(fault['loc'])}: {fault['msg']}" for fault in faults if fault["loc"] != ("body", "bytes")
    ]
    return JSONResponse({"error": f"the request is no Open Inference Protocol: {'; '.join(reasons)}"}, 400)


def _place(location: Sequence[str | int]) -> str:
    """`inputs.0.shape` rather than `body.InferenceRequest.inputs.0.shape`."""
    return ".".join(str(part) for part in location if part != "InferenceRequest").removeprefix("body.")


def serve(
    settings: Settings, *, catalogue: Path, host: str, port: int, only: Sequence[str] | None, preload: bool
) -> None:
    """Serve a catalogue's models until a signal. Raises InvalidPackage where there is no catalogue or no such model."""
    _quiet_logs()

    @cache
    def storage() -> Storage:
        from shared.storage.factory import make_storage

        # A model server signs no URLs, so these two are never used.
        return make_storage(settings, base_url="", secret=secrets.token_bytes(32))

    volumes = Volumes(storage, Limits(max_bytes=settings.max_volume_bytes))
    models = [
        CatalogueModel(HostedModel(package, volumes, settings.threads), preload)
        for package in _packages(catalogue, only)
    ]
    log.info("model server starts", models=len(models), host=host, port=port)
    CatalogueServer(CatalogueRepository(models), host, port, preload).start([])


def _packages(catalogue: Path, only: Sequence[str] | None) -> list[ModelPackage]:
    """The packages to serve; one that is invalid is left out and logged, so that the others stay in service."""
    rejected: list[InvalidPackage] = []
    packages = read_catalogue(catalogue, rejected).values()
    for error in rejected:
        log.error("model package left out", reason=error.detail)
    known = {package.manifest.name for package in packages}
    if missing := set(only or ()) - known:
        raise InvalidPackage(f"{catalogue} has no model {', '.join(sorted(missing))}")
    return [package for package in packages if only is None or package.manifest.name in only]


def _quiet_logs() -> None:
    """No access log and no start-up chatter; KServe logs refused requests with a traceback, which help nobody."""

    def worth_logging(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], _CALLERS_MISTAKES))

    for name in ("kserve", "uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("kserve").addFilter(worth_logging)
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    warnings.filterwarnings(
        "ignore", message="ORJSONResponse is deprecated"
    )  # KServe's choice, in every start
