"""HTTP of sessions."""

from fastapi import APIRouter, Response

from functions.auth.accounts.schemas import Account
from functions.auth.sessions import service
from functions.auth.sessions.forms import CredentialsDep, body_schema
from functions.auth.sessions.schemas import AccessToken, KeySet
from shared.errors import BadRequest, Invalid, TooLarge, Unauthenticated
from shared.http.access import public
from shared.http.deps import ServicesDep
from shared.http.problems import problem_responses
from shared.security.keys import key_store, token_issuer

router = APIRouter(tags=["auth"])


@router.post(
    "/auth/login",
    summary="Log in",
    responses=problem_responses(BadRequest, Unauthenticated, TooLarge, Invalid),
    openapi_extra=body_schema(),
)
@public("this is the way in; locked after failures")
def login(services: ServicesDep, credentials: CredentialsDep) -> AccessToken:
    """An access token for an e-mail address or username with its password, as JSON or an OAuth 2 form."""
    user = service.authenticate(services, credentials.name, credentials.password.get_secret_value())
    issuer = services.once(token_issuer)
    token = issuer.issue(service.principal_of(user))
    return AccessToken(
        access_token=token,
        access=token,
        expires_in=int(issuer.lifetime.total_seconds()),
        user=Account.model_validate(user),
    )


@router.get("/auth/jwks.json", summary="Public keys that access tokens are checked with")
@public("public keys")
def jwks(services: ServicesDep, response: Response) -> KeySet:
    """A JSON Web Key Set."""
    response.headers["Cache-Control"] = "public, max-age=300"
    return KeySet.model_validate(services.once(key_store).jwks())
