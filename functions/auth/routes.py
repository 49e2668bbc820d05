"""HTTP routes of accounts and log-ins."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from functions.auth import service
from functions.auth.forms import CredentialsDep, body_schema
from functions.auth.schemas import AccessToken, Account, KeySet, Profile, Registration
from shared.errors import BadRequest, Conflict, Forbidden, Invalid, TooLarge, Unauthenticated
from shared.http.deps import CurrentUser, ServicesDep, Unit, current_user
from shared.http.problems import problem_responses
from shared.security.keys import key_store, token_issuer
from shared.security.principal import Principal

router = APIRouter(tags=["auth"])
_maybe_bearer = HTTPBearer(
    auto_error=False, bearerFormat="JWT", description="Access token of POST /auth/login"
)
_ANONYMOUS_TOO: dict[str, Any] = {"security": [{}]}
_CHANGE_PROBLEMS = problem_responses(Unauthenticated, Invalid)
_REGISTRATION = {
    "email": "clinician@hospital.example",
    "username": "clinician",
    "password": "a long passphrase",
    "full_name": "A Clinician",
    "title": "Neurologist",
    "department": "Neurology",
}
_PROFILE = {"department": "Neuroradiology", "phone": "+44 20 7946 0000"}


def maybe_user(
    services: ServicesDep, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_maybe_bearer)]
) -> Principal | None:
    """Who is calling, when a token came with the request. Raises Unauthenticated for a bad one."""
    return None if credentials is None else current_user(services, credentials)


@router.post(
    "/auth/register",
    status_code=201,
    summary="Register an account",
    responses=problem_responses(Unauthenticated, Forbidden, Conflict, Invalid),
    openapi_extra=_ANONYMOUS_TOO,
)
def register(
    services: ServicesDep,
    caller: Annotated[Principal | None, Depends(maybe_user)],
    registration: Annotated[Registration, Body(openapi_examples={"account": {"value": _REGISTRATION}})],
) -> Account:
    """Open to everybody unless registration is closed. Administrators register others, in any role."""
    return Account.model_validate(service.register(services, registration, caller))


@router.post(
    "/auth/login",
    summary="Log in",
    responses=problem_responses(BadRequest, Unauthenticated, TooLarge, Invalid),
    openapi_extra=body_schema(),
)
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


@router.get("/auth/me", summary="Your account", responses=problem_responses(Unauthenticated))
def me(unit: Unit, caller: CurrentUser) -> Account:
    """The account that the access token belongs to."""
    return Account.model_validate(service.own_account(unit.session, caller))


@router.put("/auth/me", summary="Change your profile (PUT)", responses=_CHANGE_PROBLEMS)
@router.patch("/auth/me", summary="Change your profile", responses=_CHANGE_PROBLEMS)
def change_me(
    unit: Unit,
    caller: CurrentUser,
    profile: Annotated[Profile, Body(openapi_examples={"profile": {"value": _PROFILE}})],
) -> Account:
    """Set the fields that are sent and leave the others, by PUT as by PATCH, as the older systems did."""
    changes = profile.model_dump(exclude_unset=True)
    return Account.model_validate(service.change_profile(unit.session, caller, changes))


@router.get("/auth/jwks.json", summary="Public keys that access tokens are checked with")
def jwks(services: ServicesDep, response: Response) -> KeySet:
    """A JSON Web Key Set."""
    response.headers["Cache-Control"] = "public, max-age=300"
    return KeySet.model_validate(services.once(key_store).jwks())
