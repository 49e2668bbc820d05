"""HTTP routes of accounts and log-ins."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request

from functions.auth.accounts import service
from functions.auth.accounts.schemas import Account, Profile, Registration
from shared.errors import Conflict, Forbidden, Invalid, Unauthenticated
from shared.http.access import AccountReader, AccountWriter, public
from shared.http.authentication import API_KEY_HEADER, authenticate
from shared.http.cookies import cookie_names
from shared.http.deps import ServicesDep, Unit
from shared.http.problems import problem_responses
from shared.security.principal import Principal

router = APIRouter(tags=["auth"])
_ANONYMOUS_TOO: dict[str, Any] = {"security": [{}]}
_CHANGE_PROBLEMS = problem_responses(Unauthenticated, Forbidden, Invalid)
_REGISTRATION = {
    "email": "clinician@hospital.example",
    "username": "clinician",
    "password": "a long passphrase",
    "full_name": "A Clinician",
    "title": "Neurologist",
    "department": "Neurology",
}
_PROFILE = {"department": "Neuroradiology", "phone": "+44 20 7946 0000"}


async def maybe_user(request: Request, services: ServicesDep) -> Principal | None:
    """Who is calling, when any credential came with the request. Raises Unauthenticated for a bad one."""
    presented = {"authorization", API_KEY_HEADER} & set(request.headers)
    named = cookie_names(request.scope, services.settings).access in request.cookies
    return await authenticate(services, request.scope) if presented or named else None


@router.post(
    "/auth/register",
    status_code=201,
    summary="Register an account",
    responses=problem_responses(Unauthenticated, Forbidden, Conflict, Invalid),
    openapi_extra=_ANONYMOUS_TOO,
)
@public("open to everybody unless registration is closed; limited by address")
def register(
    services: ServicesDep,
    caller: Annotated[Principal | None, Depends(maybe_user)],
    registration: Annotated[Registration, Body(openapi_examples={"account": {"value": _REGISTRATION}})],
) -> Account:
    """Open to everybody unless registration is closed. Administrators register others, in any role."""
    return Account.model_validate(service.register(services, registration, caller))


@router.get("/auth/me", summary="Your account", responses=problem_responses(Unauthenticated, Forbidden))
def me(unit: Unit, caller: AccountReader) -> Account:
    """The account that the access token belongs to."""
    return Account.model_validate(service.own_account(unit.session, caller))


@router.put("/auth/me", summary="Change your profile (PUT)", responses=_CHANGE_PROBLEMS)
@router.patch("/auth/me", summary="Change your profile", responses=_CHANGE_PROBLEMS)
def change_me(
    unit: Unit,
    caller: AccountWriter,
    profile: Annotated[Profile, Body(openapi_examples={"profile": {"value": _PROFILE}})],
) -> Account:
    """Set the fields that are sent and leave the others, by PUT as by PATCH, as the older systems did."""
    changes = profile.model_dump(exclude_unset=True)
    return Account.model_validate(service.change_profile(unit.session, caller, changes))
