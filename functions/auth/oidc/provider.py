"""The identity provider, over HTTP: its discovery document, its keys, its tokens."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import httpx
import structlog
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from pydantic import AfterValidator, BaseModel, ValidationError

from functions.auth.oidc.attempt import Attempt, start_again
from functions.auth.oidc.kept import Kept
from shared.config import Settings
from shared.errors import NotFound, Unavailable
from shared.runtime.services import Services

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 5.0
DISCOVERY = "/.well-known/openid-configuration"


def _guarded(url: str) -> str:
    """Tokens travel by TLS, except within one machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (
        parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    ):
        return url
    raise ValueError("must be an https:// URL")


Endpoint = Annotated[str, AfterValidator(_guarded)]


class Metadata(BaseModel):
    """The parts of a discovery document that are used here (OpenID Connect Discovery §3)."""

    issuer: Endpoint
    authorization_endpoint: Endpoint
    token_endpoint: Endpoint
    jwks_uri: Endpoint
    userinfo_endpoint: Endpoint | None = None
    token_endpoint_auth_methods_supported: list[str] = ["client_secret_basic"]
    authorization_response_iss_parameter_supported: bool = False


class Tokens(BaseModel):
    """What a code is exchanged for."""

    id_token: str
    access_token: str


@dataclass(frozen=True)
class Client:
    """Who we are to the provider."""

    id: str
    secret: str | None
    scopes: str


class Provider:
    """The configured provider."""

    def __init__(self, issuer: str, client: Client, ca_file: Path | None = None) -> None:
        self.issuer = issuer
        self._client = client
        self._http = httpx.Client(timeout=TIMEOUT_SECONDS, verify=_trusted(ca_file))
        self._metadata = Kept(self._discover)
        self._keys = Kept(self._fetch_keys)

    @property
    def client_id(self) -> str:
        """Our id there."""
        return self._client.id

    def authorization_url(self, attempt: Attempt, redirect_uri: str) -> str:
        """Where the browser goes to log in. Raises Unavailable."""
        url: str = prepare_grant_uri(
            self._metadata.get().authorization_endpoint,
            self._client.id,
            "code",
            redirect_uri=redirect_uri,
            scope=self._client.scopes,
            state=attempt.state,
            nonce=attempt.nonce,
            code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
        )
        return url

    def is_named_by(self, iss: str | None) -> bool:
        """Whether an answer with this `iss` can be the provider's (RFC 9207 §2.4). Raises Unavailable."""
        if iss is None:
            return not self._metadata.get().authorization_response_iss_parameter_supported
        return iss == self.issuer

    def exchange(self, code: str, verifier: str, redirect_uri: str) -> Tokens:
        """The tokens that a code stands for. Raises BadRequest for a code that is used or expired, Unavailable."""
        body = prepare_token_request(
            "authorization_code", code=code, redirect_uri=redirect_uri, code_verifier=verifier
        )
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        metadata = self._metadata.get()
        url, headers, body = self._authentication(metadata).prepare(
            "POST", metadata.token_endpoint, headers, body
        )
        answer = self._json("POST", url, headers, body)
        if answer.get("error") == "invalid_grant":
            raise start_again("the identity provider does not accept the code, which is good for one use")
        try:
            return Tokens.model_validate(answer)
        except ValidationError:
            log.error("the identity provider gave no tokens", error=str(answer.get("error"))[:80])
            raise Unavailable(
                "the identity provider refuses to tell who you are; an administrator finds its reason in the log"
            ) from None

    def userinfo(self, tokens: Tokens) -> dict[str, Any]:
        """What the provider tells beside the ID token; nothing where it has no such endpoint. Raises Unavailable."""
        endpoint = self._metadata.get().userinfo_endpoint
        if endpoint is None:
            return {}
        return self._json("GET", endpoint, {"Authorization": f"Bearer {tokens.access_token}"})

    def keys(self, *, renew: bool = False) -> KeySet:
        """The keys that sign its ID tokens. Raises Unavailable."""
        return self._keys.renew() if renew else self._keys.get()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def _discover(self) -> Metadata:
        try:
            _guarded(self.issuer)
        except ValueError as error:
            raise self._wrong(f"HOUNSFIELD_OIDC_ISSUER {error}") from None
        document = self._json("GET", self.issuer.rstrip("/") + DISCOVERY, {})
        try:
            metadata = Metadata.model_validate(document)
        except ValidationError as error:
            wrong = ", ".join(sorted({str(item["loc"][0]) for item in error.errors()}))
            raise self._wrong(f"its discovery document lacks or misstates {wrong}") from None
        if metadata.issuer != self.issuer:
            raise self._wrong("it calls itself another issuer than HOUNSFIELD_OIDC_ISSUER, to the letter")
        return metadata

    def _fetch_keys(self) -> KeySet:
        document: Any = self._json("GET", self._metadata.get().jwks_uri, {})
        try:
            return KeySet.import_key_set(document)
        except (JoseError, ValueError, KeyError, TypeError):
            raise self._wrong("its key set cannot be read") from None

    def _authentication(self, metadata: Metadata) -> ClientAuth:
        """How we show the token endpoint who we are (RFC 6749 §2.3.1: in Basic, both parts are form-encoded)."""
        identity, secret = self._client.id, self._client.secret
        if secret is None:
            return ClientAuth(identity, None, "none")
        if "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            return ClientAuth(quote(identity, safe=""), quote(secret, safe=""), "client_secret_basic")
        return ClientAuth(identity, secret, "client_secret_post")

    def _json(
        self, method: str, url: str, headers: dict[str, str], body: str | None = None
    ) -> dict[str, Any]:
        """The answer's object; of the token endpoint also one that names an error (RFC 6749 §5.2)."""
        try:
            response = self._http.request(method, url, headers=headers, content=body)
            answer = response.json()
            refused = method == "POST" and response.status_code < 500
            if not (refused and isinstance(answer, dict) and "error" in answer):
                response.raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise self._wrong(f"it does not answer as it should ({type(error).__name__})") from None
        if not isinstance(answer, dict):
            raise self._wrong("it answers with something else than a JSON object")
        return answer

    def _wrong(self, what: str) -> Unavailable:
        log.warning("the identity provider cannot be used", issuer=self.issuer, reason=what)
        return Unavailable(f"the identity provider {self.issuer} cannot be used now: {what}")


def _trusted(ca_file: Path | None) -> ssl.SSLContext:
    """The usual authorities, and those in the file. Raises Unavailable."""
    trusted = httpx.create_ssl_context()
    if ca_file is not None:
        try:
            trusted.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError too
            log.error("no certificates in this file", file=str(ca_file), error=type(error).__name__)
            raise Unavailable("the file of HOUNSFIELD_OIDC_CA_FILE does not hold certificates") from None
    return trusted


def is_configured(settings: Settings) -> bool:
    """Whether people may log in through a provider."""
    return bool(settings.oidc_issuer and settings.oidc_client_id)


def provider(services: Services) -> Provider:
    """The process's (`services.once(provider)`). Raises NotFound where none is configured, Unavailable."""
    settings = services.settings
    if not settings.oidc_issuer or not settings.oidc_client_id:
        raise NotFound(
            "log-in through an identity provider is off here; HOUNSFIELD_OIDC_ISSUER and "
            "HOUNSFIELD_OIDC_CLIENT_ID turn it on"
        )
    secret = settings.oidc_client_secret
    client = Client(
        settings.oidc_client_id, None if secret is None else secret.get_secret_value(), settings.oidc_scopes
    )
    return Provider(settings.oidc_issuer, client, settings.oidc_ca_file)
