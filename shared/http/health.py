"""Liveness, readiness and metrics."""

import threading
import time
from collections.abc import Callable, Mapping

import structlog
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.http.access import public

log = structlog.get_logger(__name__)

PROBES = "tells of the process, nothing of anybody's data"
Readiness = Mapping[str, Callable[[], object]]
"""Dependency name → a check that raises, or returns False, when the dependency is not there."""
KEPT_SECONDS = 1.0
STALE_SECONDS = 5.0
"""While checks run, others get the answer before; only when it is older than this are they told the worst."""


def health_router(readiness: Readiness) -> APIRouter:
    """The routes that probes, load balancers and Prometheus call."""
    router = APIRouter(tags=["health"])
    checks_now = _Kept(readiness)

    @router.get("/healthz", summary="Is the process alive?")
    @public(PROBES)
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/health", summary="State of each dependency", responses={503: {"description": "Not ready"}})
    @router.get("/readyz", include_in_schema=False)
    @public(PROBES)
    def ready() -> Response:
        checks = checks_now.states()
        good = all(state == "ok" for state in checks.values())
        body = {"status": "ok" if good else "unavailable", "checks": checks}
        return JSONResponse(body, 200 if good else 503)

    @router.get("/metrics", include_in_schema=False)
    @public(PROBES)
    def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


class _Kept:
    """What the checks said, kept for a second: anybody may ask, and the checks cost a connection each."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness
        self._lock = threading.Lock()
        self._states: dict[str, str] = {}
        self._checked = float("-inf")

    def states(self) -> dict[str, str]:
        """Dependency name → "ok" or "unavailable"."""
        age = time.monotonic() - self._checked
        if age >= KEPT_SECONDS and self._lock.acquire(blocking=False):
            try:
                self._states = {name: _state(name, check) for name, check in self._readiness.items()}
                self._checked = time.monotonic()
            finally:
                self._lock.release()
        elif age >= STALE_SECONDS:  # somebody else's checks hang, or are the first ones
            return dict.fromkeys(self._readiness, "unavailable")
        return self._states


def _state(name: str, check: Callable[[], object]) -> str:
    try:
        return "unavailable" if check() is False else "ok"
    except Exception as error:  # whatever a driver raises, the answer is the same: not there
        log.warning("dependency not ready", dependency=name, error=type(error).__name__)
        return "unavailable"
