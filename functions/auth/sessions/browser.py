"""A session in a browser: its cookies, and whether a request comes from a page that may log people in or out."""

from typing import Literal
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import Request, Response

from functions.auth.sessions.service import Session
from shared.errors import Forbidden
from shared.http.cookies import CSRF_HEADER, cookie_names, csrf_tokens, is_tls
from shared.runtime.services import Services


def set_session_cookies(response: Response, request: Request, services: Services, session: Session) -> None:
    """Give the browser its session. The access cookie goes along when a link from elsewhere is followed (Lax); the
    refresh cookie goes with our own pages' requests only (Strict)."""
    names = cookie_names(request.scope, services.settings)
    secure = is_tls(request.scope, services.settings)
    csrf = services.once(csrf_tokens).token(session.id)
    cookies: list[tuple[str, str, int, Literal["lax", "strict"], bool]] = [
        (names.access, session.access_token, session.access_seconds, "lax", True),
        (names.refresh, session.refresh_token, session.refresh_seconds, "strict", True),
        (names.csrf, csrf, session.refresh_seconds, "lax", False),
    ]
    for name, value, seconds, same_site, hidden in cookies:
        response.set_cookie(
            name, value, max_age=seconds, path="/", secure=secure, httponly=hidden, samesite=same_site
        )


def clear_session_cookies(response: Response, request: Request, services: Services) -> None:
    """Have the browser forget its session, where it has one."""
    secure = is_tls(request.scope, services.settings)
    for name in vars(cookie_names(request.scope, services.settings)).values():
        if name in request.cookies:
            response.delete_cookie(name, path="/", secure=secure, samesite="lax")


def refresh_cookie(request: Request, services: Services) -> str | None:
    """The refresh token of the browser's session."""
    return request.cookies.get(cookie_names(request.scope, services.settings).refresh)


def require_csrf(request: Request, services: Services, session_id: UUID) -> None:
    """Raise Forbidden unless the request carries the session's CSRF token twice."""
    cookie = request.cookies.get(cookie_names(request.scope, services.settings).csrf)
    services.once(csrf_tokens).check(session_id, cookie, request.headers.get(CSRF_HEADER))


def require_own_origin(request: Request, services: Services) -> None:
    """Raise Forbidden for a page of another site: it must not log its visitor in as somebody else (login CSRF).

    Programs send neither header and are let through.
    """
    origin = request.headers.get("origin")
    if origin is None:
        foreign = request.headers.get("sec-fetch-site") == "cross-site"
    else:
        settings, public = services.settings, urlsplit(services.settings.public_url or "")
        here = f"{request.url.scheme}://{request.headers.get('host')}"
        foreign = origin not in (here, f"{public.scheme}://{public.netloc}", *settings.cors_origins)
    if foreign:
        raise Forbidden(
            "this page's origin is not among those that may log in here: our own (behind a proxy that speaks TLS, set "
            "HOUNSFIELD_PUBLIC_URL or HOUNSFIELD_TRUSTED_PROXIES) and HOUNSFIELD_CORS_ORIGINS"
        )
