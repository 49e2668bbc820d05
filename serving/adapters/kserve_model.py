"""KServe's Model, repository and data plane over hosted models, with the versions that KServe itself leaves out."""

import asyncio
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelRepository
from kserve import errors as kserve_errors
from kserve.protocol.dataplane import DataPlane
from pydantic import ValidationError

from serving.adapters.oip import HostedModel, LoadFailed, metadata
from serving.predictors.base import Predictor
from serving.predictors.catalogue import latest
from serving.predictors.package import InvalidPackage
from shared.errors import HounsfieldError, Unavailable
from shared.oip.types import InferenceRequest, InferenceResponse, RequestInput
from shared.telemetry.trace import traced


class CatalogueModel(Model):
    """One version of a model. Its single worker thread loads and computes, so the event loop always answers."""

    def __init__(self, hosted: HostedModel, preload: bool) -> None:
        super().__init__(hosted.manifest.name)
        self.hosted = hosted
        self._preload = preload
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=hosted.manifest.name)

    async def healthy(self) -> bool:
        """A lazy model takes requests until loading failed; a preloaded one as soon as it is in memory."""
        return self.hosted.loaded or (not self._preload and self.hosted.failure is None)

    def load(self) -> bool:
        """KServe calls this on the event loop when a model is not healthy; the worker loads at the next request."""
        return True

    def load_soon(self) -> "Future[Predictor]":
        """Load in the worker thread."""
        return self._worker.submit(self.hosted.load)

    def stop(self) -> None:
        """Free the memory, after the request at hand."""
        self._worker.submit(self.hosted.unload)

    async def predict(self, payload: InferRequest, headers: Mapping[str, str] | None = None) -> InferResponse:
        """KServe request to KServe response, computed in the worker thread."""
        request = _from_kserve(payload)
        traceparent = (headers or {}).get("traceparent")
        response = await asyncio.wrap_future(self._worker.submit(self._infer, request, traceparent))
        return _to_kserve(response, payload)

    def _infer(self, request: InferenceRequest, traceparent: str | None) -> InferenceResponse:
        try:
            with traced(traceparent):
                return self.hosted.infer(request)
        except (LoadFailed, InvalidPackage) as error:
            raise kserve_errors.InferenceError(error.detail) from error
        except Unavailable as error:
            raise kserve_errors.ModelNotReady(self.name, error.detail) from error
        except HounsfieldError as error:
            if error.status >= 500:
                raise kserve_errors.InferenceError(error.detail) from error
            raise kserve_errors.InvalidInput(error.detail) from error


class CatalogueRepository(ModelRepository):
    """Models by name (its latest version) and by name and version."""

    def __init__(self, models: Iterable[CatalogueModel]) -> None:
        super().__init__()
        self._versions: dict[str, dict[str, CatalogueModel]] = {}
        for model in models:
            self._versions.setdefault(model.name, {})[model.hosted.manifest.version] = model
        for name, versions in self._versions.items():
            self.update(versions[latest(versions)], name)

    def all(self) -> list[CatalogueModel]:
        """Every version of every model."""
        return [model for versions in self._versions.values() for model in versions.values()]

    def versions(self, name: str) -> list[str]:
        """Versions of a model in the catalogue's order."""
        return list(self._versions.get(name, ()))

    def get_model(self, name: str) -> CatalogueModel | None:
        """Look up `name` or `name/version`; a slash cannot occur in a name, nor in one segment of a path."""
        name, _, version = name.partition("/")
        if not version:
            found: CatalogueModel | None = self.models.get(name)
            return found
        return self._versions.get(name, {}).get(version)

    async def load(self, name: str) -> None:
        """Load now rather than at first use. Raises LoadFailed, which KServe answers as 503 with the reason."""
        model = self.get_model(name)
        if model is None:
            raise kserve_errors.ModelNotFound(name)
        await asyncio.wrap_future(model.load_soon())

    def unload(self, name: str) -> None:
        """Free the memory of all versions; the model stays in the catalogue and its next request loads it again."""
        for model in self._versions[name].values():
            model.stop()


class CatalogueDataPlane(DataPlane):
    """KServe's data plane with metadata from model.yaml and requests that load their model."""

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        """Name, versions, platform, inputs and outputs. Raises ModelNotFound."""
        model = self.get_model_from_registry(model_name)
        return metadata(model.hosted.manifest, self.model_registry.versions(model.name)).model_dump()

    async def model_ready(self, model_name: str, disable_predictor_health_check: bool = False) -> bool:
        """KServe asks with `disable_predictor_health_check` before an inference, which needs no loaded model."""
        if self.model_registry.get_model(model_name) is None:
            raise kserve_errors.ModelNotFound(model_name)
        return disable_predictor_health_check or await self.model_registry.is_model_ready(model_name)

    def decode_inference_request(self, body: Any, headers: Any, model_name: str) -> InferRequest:
        """KServe's own, with an answer of 400 where it trips over a binary request that is not well formed."""
        try:
            return super().decode_inference_request(body, headers, model_name)
        except (KeyError, TypeError, ValueError, kserve_errors.InferenceError) as error:
            raise kserve_errors.InvalidInput(f"the request is no Open Inference Protocol: {error}") from error


def _from_kserve(payload: InferRequest) -> InferenceRequest:
    """KServe's request as ours. Outputs are left to KServe, which picks and encodes the requested ones."""
    try:
        inputs = [
            RequestInput(name=item.name, datatype=item.datatype, shape=item.shape, data=item.data)
            for item in payload.inputs
        ]
        return InferenceRequest(id=payload.id, parameters=payload.parameters, inputs=inputs)
    except ValidationError as error:
        places = ", ".join(".".join(map(str, fault["loc"])) for fault in error.errors())
        raise kserve_errors.InvalidInput(
            f"the request is no Open Inference Protocol; look at {places}"
        ) from error


def _to_kserve(response: InferenceResponse, payload: InferRequest) -> InferResponse:
    return InferResponse(
        response_id=response.id,
        model_name=response.model_name,
        model_version=response.model_version,
        infer_outputs=[
            InferOutput(name=item.name, shape=item.shape, datatype=item.datatype, data=item.data)
            for item in response.outputs
        ],
        use_binary_outputs=payload.use_binary_outputs,
        requested_outputs=payload.request_outputs,
    )
