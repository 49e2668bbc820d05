"""The cookies of a browser's session, and the token that shows a request came from our own page.

`…access` and `…refresh` are HttpOnly: no script reads them. `…csrf` is for scripts: each request that changes something
sends it back as `X-CSRF-Token` (signed double submit: the token is an HMAC of the session id, so that a cookie planted by
another host of the domain does not fit; OWASP Cross-Site Request Forgery Prevention Cheat Sheet). Under TLS the names
have the prefix `__Host-`, which browsers let no other host and no plain connection set (RFC 6265bis §4.1.3.2).
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from starlette.requests import cookie_parser
from starlette.types import Scope

from shared.config import Settings
from shared.errors import Forbidden
from shared.runtime.services import Services
from shared.security.keys import key_store

CSRF_HEADER = "x-csrf-token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class CookieNames:
    """What the three cookies are called."""

    access: str
    refresh: str
    csrf: str


_PLAIN = CookieNames("hounsfield_access", "hounsfield_refresh", "hounsfield_csrf")
_TLS = CookieNames(*(f"__Host-{name}" for name in vars(_PLAIN).values()))


def is_tls(scope: Scope, settings: Settings) -> bool:
    """Whether the browser talks TLS: to us, to a trusted proxy, or by what `public_url` says."""
    return scope["scheme"] == "https" or (settings.public_url or "").startswith("https://")


def cookie_names(scope: Scope, settings: Settings) -> CookieNames:
    """The names on this connection."""
    return _TLS if is_tls(scope, settings) else _PLAIN


def cookies_of(scope: Scope) -> dict[str, str]:
    """The request's cookies."""
    lines = [value.decode("latin-1") for name, value in scope["headers"] if name == b"cookie"]
    return cookie_parser("; ".join(lines)) if lines else {}


class CsrfTokens:
    """Makes and checks the tokens of one deployment."""

    def __init__(self, secrets: Callable[[], Sequence[bytes]]) -> None:
        """`secrets()`: the newest first; tokens of the older ones are good too."""
        self._secrets = secrets

    def token(self, session_id: UUID) -> str:
        """The token of a session."""
        return _token(self._secrets()[0], session_id)

    def check(self, session_id: UUID, cookie: str | None, header: str | None) -> None:
        """Raise Forbidden unless cookie and header both hold the session's token."""
        given = (cookie or "").encode(), (header or "").encode()
        good = [_token(secret, session_id).encode() for secret in self._secrets()]
        if not any(all(hmac.compare_digest(one, other) for other in given) for one in good):
            raise Forbidden(
                "a request by cookie that changes something must send the value of the csrf cookie "
                "in the header X-CSRF-Token"
            )


def csrf_tokens(services: Services) -> CsrfTokens:
    """The process's (`services.once(csrf_tokens)`)."""
    keys = services.once(key_store)
    return CsrfTokens(lambda: keys.secrets("csrf"))


def _token(secret: bytes, session_id: UUID) -> str:
    return hmac.new(secret, session_id.bytes, hashlib.sha256).hexdigest()
