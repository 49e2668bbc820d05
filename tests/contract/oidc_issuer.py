"""An OpenID Connect provider in miniature, which signs whatever a test asks for. A real provider, with its log-in form,
is in tests/e2e: that one cannot be made to lie."""

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID, CLIENT_SECRET = "hounsfield", "s3cret+and:more"
ANNA: dict[str, Any] = {
    "sub": "anna-1",
    "email": "anna@hospital.example",
    "email_verified": True,
    "name": "Anna Radiologist",
}


@dataclass
class Grant:
    """A code that was given out."""

    query: dict[str, str]
    claims: dict[str, Any]


@dataclass
class Issuer:
    """What it says; tests change what they are about."""

    url: str
    key: RSAKey
    published: list[RSAKey]
    algorithm: str = "RS256"
    document: dict[str, Any] = field(default_factory=dict)
    """Put over the discovery document."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Put over the ID token's claims; None leaves one out."""
    userinfo: dict[str, Any] = field(default_factory=dict)
    token_error: str | None = None
    clients: tuple[tuple[str, ...], ...] = (("basic", f"{CLIENT_ID}:s3cret%2Band%3Amore"),)
    """How a client may show who it is; within Basic it is form-encoded (RFC 6749 §2.3.1)."""
    requests: list[str] = field(default_factory=list)
    grants: dict[str, Grant] = field(default_factory=dict)

    def grant(self, location: str, claims: dict[str, Any] = ANNA) -> dict[str, str]:
        """What a browser that was sent to `location` comes back with, once somebody has logged in there."""
        assert location.startswith(f"{self.url}/authorize?"), location
        query = dict(parse_qsl(urlsplit(location).query))
        code = secrets.token_urlsafe(16)
        self.grants[code] = Grant(query, claims)
        return {"code": code, "state": query["state"], "session_state": "of the provider's own"}

    def answer(self, method: str, path: str, headers: Any, body: str) -> tuple[int, Any]:
        """Status and JSON of a request."""
        self.requests.append(f"{method} {path}")
        if path == "/.well-known/openid-configuration":
            return 200, self._discovery()
        if path == "/jwks":
            return 200, {"keys": [key.as_dict(private=False) for key in self.published]}
        if path == "/userinfo":
            return (200, self.userinfo) if self.userinfo else (401, {"error": "invalid_token"})
        if path == "/token":
            return self._token(headers, {name: values[0] for name, values in parse_qs(body).items()})
        return 404, {}

    def _discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "jwks_uri": f"{self.url}/jwks",
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
            **self.document,
        }

    def _token(self, headers: Any, form: dict[str, str]) -> tuple[int, Any]:
        if self.token_error:
            return 400, {"error": self.token_error}
        if _client(headers.get("Authorization"), form) not in self.clients:
            return 401, {"error": "invalid_client"}
        grant = self.grants.pop(form["code"], None)
        if grant is None or form["redirect_uri"] != grant.query["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        if _base64(digest) != grant.query["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        return 200, {
            "access_token": "the-access-token",
            "token_type": "Bearer",
            "id_token": self._id_token(grant),
        }

    def _id_token(self, grant: Grant) -> str:
        now = int(time.time())
        standard = {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 60}
        claims = {**standard, "nonce": grant.query["nonce"], **grant.claims, **self.overrides}
        claims = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": self.algorithm, "kid": self.key.kid}
        if self.algorithm == "RS256":
            return jwt.encode(header, claims, self.key)
        signed = f"{_base64(json.dumps(header).encode())}.{_base64(json.dumps(claims).encode())}"
        signature = b""
        if self.algorithm == "HS256":  # the trick: the public key, as everybody knows it, taken for a secret
            signature = hmac.digest(self.key.as_pem(private=False), signed.encode(), "sha256")
        return f"{signed}.{_base64(signature)}"


@contextmanager
def running_issuer() -> Iterator[Issuer]:
    """One that answers on loopback until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    key = _usual_key()
    issuer = Issuer(f"http://127.0.0.1:{server.server_port}", key, [key])
    vars(server)["issuer"] = issuer
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def new_key() -> RSAKey:
    """A key pair with an id of its own."""
    return RSAKey.generate_key(2048, auto_kid=True)


def _client(authorization: str | None, form: dict[str, str]) -> tuple[str, ...]:
    if authorization is not None:
        return "basic", base64.b64decode(authorization.removeprefix("Basic ")).decode()
    return ("post", form["client_id"], form.get("client_secret", ""))


@cache
def _usual_key() -> RSAKey:
    return new_key()


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        issuer: Issuer = vars(self.server)["issuer"]
        status, content = issuer.answer(self.command, self.path, self.headers, body)
        sent = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""
