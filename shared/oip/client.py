"""A client of model servers that speak the Open Inference Protocol v2. Blocking; safe to share between threads."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeAlias, TypeVar

import httpx
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_before_delay,
    wait_exponential_jitter,
)

from shared.config import Settings
from shared.oip.errors import ModelFailed, ModelInterrupted, ModelRefused, ModelUnavailable
from shared.oip.objects import read_object_output
from shared.oip.tensors import to_array
from shared.oip.types import ErrorResponse, InferenceResponse, ModelMetadata
from shared.oip.wire import Body, encode
from shared.storage.port import ObjectRef
from shared.telemetry.trace import current_traceparent

Value: TypeAlias = NDArray[Any] | ObjectRef
Answer = TypeVar("Answer", bound=BaseModel)

PROBE_SECONDS = 5.0
CONNECT_SECONDS = 5.0
_BACKOFF = wait_exponential_jitter(multiplier=0.1, max=5.0, jitter=0.1)


@dataclass(frozen=True)
class InferResult:
    """What a model answered, and exactly which one did."""

    model_name: str
    model_version: str
    outputs: dict[str, Value]


class _Busy(ModelUnavailable):
    """Nothing was computed, so the same call may be sent again: refused connection, 429, 503."""

    retry_after: float | None = None


class OipClient:
    """Calls models by name; each model may have a server of its own.

    default_url: server of every model that `urls` (model name → server URL) does not list.
    timeout: seconds for a call that gives no deadline.
    """

    def __init__(
        self,
        default_url: str | None,
        urls: Mapping[str, str] | None = None,
        *,
        timeout: float = 600.0,
        http: httpx.Client | None = None,
    ) -> None:
        self._default_url = default_url
        self._urls = dict(urls or {})
        self._timeout = timeout
        # Model servers are inside the installation: a proxy meant for the way out must not see volumes' names.
        self._http = http or httpx.Client(trust_env=False)

    @classmethod
    def from_settings(cls, settings: Settings, default_url: str | None = None) -> Self:
        """Endpoints of MODEL_URLS and MODEL_URL; `default_url` is the local server's where MODEL_URL is unset."""
        return cls(
            settings.model_url or default_url, settings.model_urls, timeout=settings.model_timeout_seconds
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def endpoint(self, model: str) -> str:
        """Base URL of the model's server. Raises ModelUnavailable where none is configured."""
        url = self._urls.get(model, self._default_url)
        if url is None:
            raise ModelUnavailable(f"no model server is configured for {model}")
        return url.rstrip("/")

    def ready(self) -> bool:
        """Whether every configured server takes requests."""
        servers = {url for url in (self._default_url, *self._urls.values()) if url}
        return bool(servers) and all(self._probe(f"{url.rstrip('/')}/v2/health/ready") for url in servers)

    def model_ready(self, model: str, version: str | None = None) -> bool:
        """Whether the model takes requests; False also where it, or its server, is not there."""
        return self._probe(f"{self._url(model, version)}/ready")

    def metadata(
        self, model: str, version: str | None = None, *, deadline: float = PROBE_SECONDS
    ) -> ModelMetadata:
        """Inputs, outputs and versions. Raises ModelRefused for an unknown model, ModelUnavailable, ModelFailed."""
        return self._call(model, "GET", self._url(model, version), None, deadline, ModelMetadata)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Value],
        *,
        version: str | None = None,
        output_prefix: str | None = None,
        deadline: float | None = None,
        request_id: str | None = None,
    ) -> InferResult:
        """One inference. Arrays travel as tensors, ObjectRefs as claim checks.

        output_prefix: `object://studies/…/` under which the server writes volumes. deadline: seconds from now.
        Raises InvalidTensor, ModelRefused, ModelFailed, ModelInterrupted when the call broke or outlasted its
        deadline, ModelUnavailable when no server took it.
        """
        body = encode(inputs, output_prefix, request_id)
        url = f"{self._url(model, version)}/infer"
        response = self._call(model, "POST", url, body, deadline or self._timeout, InferenceResponse)
        if version is not None and response.model_version != version:
            raise ModelFailed(
                f"{model}: version {response.model_version} answered where {version} was asked for"
            )
        outputs: dict[str, Value] = {}
        for output in response.outputs:
            ref = read_object_output(output)
            outputs[output.name] = to_array(output) if ref is None else ref
        return InferResult(response.model_name, response.model_version or "", outputs)

    def _url(self, model: str, version: str | None) -> str:
        base = f"{self.endpoint(model)}/v2/models/{model}"
        return base if version is None else f"{base}/versions/{version}"

    def _probe(self, url: str) -> bool:
        try:
            return self._http.get(url, timeout=PROBE_SECONDS).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _call(
        self, model: str, method: str, url: str, body: Body | None, seconds: float, answer: type[Answer]
    ) -> Answer:
        """Send until it is answered or `seconds` are over; sends again only what certainly did not run."""
        end = time.monotonic() + seconds
        attempts = Retrying(
            retry=retry_if_exception_type(_Busy), stop=stop_before_delay(seconds), wait=_wait, reraise=True
        )
        response = attempts(self._send, model, method, url, body, end)
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            raise ModelFailed(
                f"{model}: the answer is no Open Inference Protocol: {error.error_count()} faults"
            ) from error

    def _send(self, model: str, method: str, url: str, body: Body | None, end: float) -> httpx.Response:
        left = max(end - time.monotonic(), 0.001)
        headers = dict(body.headers) if body else {}
        if traceparent := current_traceparent():
            headers["traceparent"] = traceparent
        try:
            timeout = httpx.Timeout(left, connect=min(left, CONNECT_SECONDS))
            content = body.content if body else None
            response = self._http.request(method, url, content=content, headers=headers, timeout=timeout)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _Busy(f"{model}: no connection to its server") from error
        except httpx.TimeoutException as error:
            raise ModelInterrupted(f"{model}: no answer before the deadline") from error
        except httpx.TransportError as error:
            # An inference may have run for minutes: whether to start anew is the caller's decision.
            broken = ModelInterrupted if method == "POST" else _Busy
            raise broken(f"{model}: the connection broke while waiting for the answer") from error
        _raise_for_status(model, response)
        return response


def _wait(state: RetryCallState) -> float:
    """The server's Retry-After where it gave one, else growing pauses."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, _Busy) and error.retry_after is not None:
        return error.retry_after
    return _BACKOFF(state)


def _raise_for_status(model: str, response: httpx.Response) -> None:
    status = response.status_code
    if status == httpx.codes.OK:
        return
    detail = f"{model}: {_reason(response)}"
    if status in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
        busy = _Busy(detail)
        busy.retry_after = _retry_after(response)
        raise busy
    if status in (httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT):
        raise ModelUnavailable(detail)
    if response.is_client_error:
        raise ModelRefused(detail)
    raise ModelFailed(detail)


def _reason(response: httpx.Response) -> str:
    try:
        return ErrorResponse.model_validate_json(response.content).error
    except ValidationError:
        return f"HTTP {response.status_code}"


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds of a Retry-After header; its date form counts as absent."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else None
