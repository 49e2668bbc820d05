"""One model behind the Open Inference Protocol, whatever the server: decode the request, predict, encode the answer."""

import threading
import time
import uuid
from collections.abc import Mapping

import numpy as np
import structlog
from numpy.typing import NDArray

from serving.adapters.process import limit_torch_threads
from serving.adapters.volumes import Volumes
from serving.predictors.base import InvalidInput, Predictor, Value
from serving.predictors.package import InvalidPackage, ModelManifest, ModelPackage, TensorSpec, load_package
from serving.predictors.registry import load
from shared.errors import HounsfieldError
from shared.imaging.volume import Volume
from shared.oip.errors import InvalidTensor
from shared.oip.objects import OUTPUT_PREFIX, object_output, parse_output_prefix
from shared.oip.tensors import response_output, to_array
from shared.oip.types import (
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    RequestInput,
    ResponseOutput,
    TensorMetadata,
)

log = structlog.get_logger(__name__)
_LOADING = threading.Lock()
"""One model loads at a time: frameworks do not bear being imported by two threads at once."""


class LoadFailed(HounsfieldError):
    """The model's package was altered since it was read, or its weights do not load."""

    slug, title = "model-load-failed", "Model did not load"


class BrokenOutput(HounsfieldError):
    """The predictor gave something else than its manifest promises."""

    slug, title = "broken-model-output", "Broken model output"


class HostedModel:
    """A package, and its predictor once it is needed.

    `load` and `infer` block and are not thread-safe: an adapter calls them from one thread per model.
    """

    def __init__(self, package: ModelPackage, volumes: Volumes, threads: int = 1) -> None:
        self._package = package
        self._volumes = volumes
        self._threads = threads
        self._predictor: Predictor | None = None
        self.failure: str | None = None
        """Why the last attempt to load failed; None before the first and after a good one."""

    @property
    def manifest(self) -> ModelManifest:
        """The package's model.yaml."""
        return self._package.manifest

    @property
    def loaded(self) -> bool:
        """Whether the next request finds the predictor in memory."""
        return self._predictor is not None

    def load(self) -> Predictor:
        """The predictor, loaded if need be, its files checked anew just before. Raises LoadFailed."""
        if self._predictor is None:
            started = time.monotonic()
            try:
                with _LOADING:
                    limit_torch_threads(self._threads)
                    self._predictor = load(load_package(self._package.folder))
            except (InvalidPackage, OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
                self.failure = f"{type(error).__name__}: {error}"
                raise LoadFailed(f"{self.manifest.name} {self.manifest.version}: {self.failure}") from error
            self.failure = None
            seconds = round(time.monotonic() - started, 3)
            log.info("model loaded", model=self.manifest.name, version=self.manifest.version, seconds=seconds)
        return self._predictor

    def unload(self) -> None:
        """Free the predictor; the next request loads it again."""
        self._predictor = None

    def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Answer one request. Raises InvalidInput, InvalidTensor, LoadFailed or what storage and readers raise."""
        started = time.monotonic()
        parameters = request.parameters or {}
        prefix = parameters.get(OUTPUT_PREFIX)
        if prefix is not None or any(spec.content == "volume" for spec in self.manifest.outputs):
            parse_output_prefix(prefix)  # before minutes of work, not after
        inputs = decode_inputs(self.manifest, request, self._volumes)
        outputs = self.load().predict(inputs)
        response = InferenceResponse(
            model_name=self.manifest.name,
            model_version=self.manifest.version,
            id=request.id or str(uuid.uuid4()),
            outputs=encode_outputs(self.manifest, outputs, self._volumes, prefix),
        )
        seconds = round(time.monotonic() - started, 3)
        log.info("inference done", model=self.manifest.name, version=self.manifest.version, seconds=seconds)
        return response


def metadata(manifest: ModelManifest, versions: list[str] | None = None) -> ModelMetadata:
    """The answer to a metadata request; the platform is the framework."""
    return ModelMetadata(
        name=manifest.name,
        versions=versions or [manifest.version],
        platform=manifest.framework,
        inputs=[_tensor_metadata(spec) for spec in manifest.inputs],
        outputs=[_tensor_metadata(spec) for spec in manifest.outputs],
    )


def decode_inputs(manifest: ModelManifest, request: InferenceRequest, volumes: Volumes) -> dict[str, Value]:
    """The request's inputs by name, as the manifest lists them. Raises InvalidInput, InvalidTensor or a reader's error."""
    given = {tensor.name: tensor for tensor in request.inputs}
    wanted = {spec.name: spec for spec in manifest.inputs}
    if len(given) != len(request.inputs) or given.keys() != wanted.keys():
        names = ", ".join(tensor.name for tensor in request.inputs)
        raise InvalidInput(f"{manifest.name} takes the inputs {', '.join(wanted)}, each once; got {names}")
    for name, tensor in given.items():
        _check(wanted[name], tensor)
    return {name: _decode(wanted[name], tensor, volumes) for name, tensor in given.items()}


def encode_outputs(
    manifest: ModelManifest, outputs: Mapping[str, Value], volumes: Volumes, prefix: object
) -> list[ResponseOutput]:
    """The manifest's outputs in its order: arrays as tensors, volumes written under `prefix` and named.

    Raises BrokenOutput where the predictor did not keep to the manifest.
    """
    encoded = []
    for spec in manifest.outputs:
        value = outputs.get(spec.name)
        if value is None or isinstance(value, Volume) != (spec.content == "volume"):
            raise BrokenOutput(f"{manifest.name} gave no {spec.content} {spec.name}")
        if isinstance(value, Volume):
            encoded.append(object_output(spec.name, volumes.write(value, prefix, spec.name)))
        else:
            encoded.append(_encode_array(manifest, spec, value))
    return encoded


def _encode_array(manifest: ModelManifest, spec: TensorSpec, value: NDArray[np.generic]) -> ResponseOutput:
    try:
        return response_output(spec.name, value)
    except InvalidTensor as error:  # not the caller's mistake, as an InvalidTensor would say
        raise BrokenOutput(f"{manifest.name} gave {error.detail}") from error


def _check(spec: TensorSpec, tensor: RequestInput) -> None:
    if tensor.datatype != spec.datatype:
        raise InvalidInput(f"{spec.name}: datatype is {tensor.datatype!r}, the model takes {spec.datatype}")
    fits = len(tensor.shape) == len(spec.shape) and all(
        want in (-1, got) for want, got in zip(spec.shape, tensor.shape, strict=True)
    )
    if not fits:
        raise InvalidInput(
            f"{spec.name}: shape is {tensor.shape}, the model takes {spec.shape} (-1: any size)"
        )


def _decode(spec: TensorSpec, tensor: RequestInput, volumes: Volumes) -> Value:
    return volumes.read(tensor) if spec.content == "volume" else to_array(tensor)


def _tensor_metadata(spec: TensorSpec) -> TensorMetadata:
    return TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)
