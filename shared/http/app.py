"""Builds the ASGI application of a process from the functions it hosts."""

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Lifespan

from shared.http.access import describe_access
from shared.http.bodies import BodyLimit, HeadLimit
from shared.http.cors import Cors
from shared.http.docs import docs_router
from shared.http.events import events_router
from shared.http.headers import SecurityHeaders
from shared.http.health import Readiness, health_router
from shared.http.idempotency import install_replays
from shared.http.middleware import HeadAsGet, Observed, PathForms, TokenFirst, TrustedProxies
from shared.http.older_routes import OlderRoute, OlderRoutes
from shared.http.openapi import describe_problems
from shared.http.problems import install_problem_handlers
from shared.runtime.function import Function
from shared.runtime.services import Services


def create_api(
    functions: Sequence[Function],
    services: Services,
    readiness: Readiness,
    lifespan: Lifespan[FastAPI] | None = None,
) -> FastAPI:
    """The functions' routes, `POST /events` and the health routes, as one OpenAPI application."""
    api = FastAPI(
        title="Hounsfield",
        version="0.1.0",
        description="Medical images from upload to clinical result. Demo models: not for clinical use.",
        servers=[{"url": "/api"}],
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # FastAPI's own pages fetch their scripts from elsewhere
        redoc_url=None,
    )
    api.state.services = services
    api.add_middleware(TokenFirst, services=services)
    install_problem_handlers(api)
    install_replays(api)
    routers: list[APIRouter] = [function.router for function in functions if function.router is not None]
    for router in [*routers, events_router(), health_router(readiness), docs_router()]:
        api.include_router(router)
    describe_access(api)
    describe_problems(api)
    return api


def harden(api: FastAPI, services: Services, older_routes: Sequence[OlderRoute] = ()) -> ASGIApp:
    """The application behind the middleware that every deployment has."""
    settings = services.settings
    limited = BodyLimit(api, settings.max_upload_bytes, settings.body_seconds)
    observed = Observed(HeadLimit(limited, settings.max_head_bytes))
    app: ASGIApp = PathForms(HeadAsGet(OlderRoutes(observed, older_routes)))
    if settings.cors_origins:
        app = Cors(app, settings.cors_origins)
    return TrustedProxies(SecurityHeaders(app, settings), settings.trusted_proxies)
