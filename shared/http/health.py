"""Liveness, readiness and metrics."""

from collections.abc import Callable, Mapping

import structlog
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

log = structlog.get_logger(__name__)

Readiness = Mapping[str, Callable[[], object]]
"""Dependency name → a check that raises, or returns False, when the dependency is not there."""


def health_router(readiness: Readiness) -> APIRouter:
    """The routes that probes, load balancers and Prometheus call."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz", summary="Is the process alive?")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/health", summary="State of each dependency", responses={503: {"description": "Not ready"}})
    @router.get("/readyz", include_in_schema=False)
    def ready() -> Response:
        checks = {name: _state(name, check) for name, check in readiness.items()}
        good = all(state == "ok" for state in checks.values())
        body = {"status": "ok" if good else "unavailable", "checks": checks}
        return JSONResponse(body, 200 if good else 503)

    @router.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


def _state(name: str, check: Callable[[], object]) -> str:
    try:
        return "unavailable" if check() is False else "ok"
    except Exception as error:  # whatever a driver raises, the answer is the same: not there
        log.warning("dependency not ready", dependency=name, error=type(error).__name__)
        return "unavailable"
