"""A log-in that has begun. It travels in a signed cookie, so that any replica can finish it and none remembers it."""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from fastapi import Request, Response

from shared.errors import BadRequest
from shared.http.cookies import is_tls
from shared.runtime.services import Services
from shared.security.keys import key_store

PATH = r"^/(?:[!-.0-\[\]-~][!-\[\]-~]*)?$"
"""A path on our own host: no second slash, which would start a host, and no backslash, which browsers take for one."""
LIFE_SECONDS = 600
LOGIN = "/api/auth/oidc/login"
_NAME = "hounsfield_oidc"


@dataclass(frozen=True)
class Attempt:
    """What the callback must find again: `state` ties it to this browser, `nonce` to this ID token, `verifier` to this
    code."""

    state: str
    nonce: str
    verifier: str
    next: str

    @classmethod
    def begin(cls, next_path: str) -> "Attempt":
        """A new one, unlike any other."""
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48), next_path)

    def is_answered_by(self, state: str | None) -> bool:
        """Whether an answer with this state belongs to it; takes as long for any state."""
        return hmac.compare_digest(self.state.encode(), (state or "").encode(errors="surrogatepass"))


class Seal:
    """Signs attempts, and opens those that are genuine and not older than ten minutes."""

    def __init__(
        self, secrets: Callable[[], Sequence[bytes]], clock: Callable[[], float] = time.time
    ) -> None:
        """`secrets()`: the newest first, which signs; the others still open."""
        self._secrets = secrets
        self._clock = clock

    def close(self, attempt: Attempt) -> str:
        """The attempt as the value of a cookie."""
        fields = asdict(attempt) | {"until": int(self._clock()) + LIFE_SECONDS}
        content = base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()
        return f"{content}.{_signature(self._secrets()[0], content)}"

    def open(self, sealed: str | None) -> Attempt:
        """The attempt in the cookie. Raises BadRequest."""
        content, _, signature = (sealed or "").partition(".")
        given = signature.encode(errors="surrogatepass")
        good = [_signature(secret, content).encode() for secret in self._secrets()]
        if not any(hmac.compare_digest(one, given) for one in good):
            raise start_again("this browser has not begun a log-in, or it has ended")
        fields = json.loads(base64.urlsafe_b64decode(content))
        if fields.pop("until") < self._clock():
            raise start_again("this log-in was begun more than ten minutes ago")
        return Attempt(**fields)


def start_again(why: str) -> BadRequest:
    """The error of a log-in that cannot be finished."""
    return BadRequest(f"{why}; start again at {LOGIN}")


def seal(services: Services) -> Seal:
    """The process's (`services.once(seal)`)."""
    keys = services.once(key_store)
    return Seal(lambda: keys.secrets("oidc-state"))


def remember(response: Response, request: Request, services: Services, attempt: Attempt) -> None:
    """Give the browser its attempt. Lax, since the provider's page sends the browser back from another site."""
    secure = is_tls(request.scope, services.settings)
    response.set_cookie(
        _name(secure),
        services.once(seal).close(attempt),
        max_age=LIFE_SECONDS,
        path="/",
        secure=secure,
        httponly=True,
        samesite="lax",
    )


def recall(request: Request, services: Services) -> Attempt:
    """The browser's attempt. Raises BadRequest."""
    cookie = request.cookies.get(_name(is_tls(request.scope, services.settings)))
    return services.once(seal).open(cookie)


def forget(response: Response, request: Request, services: Services) -> None:
    """Have the browser drop its attempt, so that it is used once."""
    secure = is_tls(request.scope, services.settings)
    response.delete_cookie(_name(secure), path="/", secure=secure, httponly=True, samesite="lax")


def _signature(secret: bytes, content: str) -> str:
    return hmac.new(secret, content.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()


def _name(secure: bool) -> str:
    return f"__Host-{_NAME}" if secure else _NAME
