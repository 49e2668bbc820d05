"""Wire types of the Open Inference Protocol v2 (REST), as the specification names them."""

from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, StrictBool, StrictFloat, StrictInt

Parameters: TypeAlias = dict[str, StrictBool | StrictInt | StrictFloat | str]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())


class Tensor(_Wire):
    """A named tensor with its values: flat in row-major order, or nested lists of the same shape."""

    name: str
    datatype: str
    shape: list[NonNegativeInt]
    parameters: Parameters | None = None
    data: list[Any]


class RequestInput(Tensor):
    """One input of an inference request."""


class ResponseOutput(Tensor):
    """One output of an inference response."""


class RequestOutput(_Wire):
    """An output that the caller wants; without any, all are sent."""

    name: str
    parameters: Parameters | None = None


class InferenceRequest(_Wire):
    """Body of `POST /v2/models/{model}[/versions/{version}]/infer`."""

    id: str | None = None
    parameters: Parameters | None = None
    inputs: list[RequestInput] = Field(min_length=1)
    outputs: list[RequestOutput] | None = None


class InferenceResponse(_Wire):
    """Answer to an inference request."""

    model_name: str
    model_version: str | None = None
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[ResponseOutput]


class TensorMetadata(_Wire):
    """What a model takes or gives; -1 in the shape stands for any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(_Wire):
    """Answer of `GET /v2/models/{model}[/versions/{version}]`."""

    name: str
    versions: list[str] | None = None
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ErrorResponse(_Wire):
    """Body of every answer that is not 200."""

    error: str
