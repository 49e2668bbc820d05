"""HTTP routes of accounts."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request

from functions.auth.accounts import service
from functions.auth.accounts.schemas import Account, ProfileChange, Registration
from shared.errors import Conflict, Forbidden, Invalid, TooManyRequests, Unauthenticated
from shared.http.access import AccountReader, AccountWriter, public
from shared.http.deps import MaybeUser, ServicesDep, Unit, address_of
from shared.http.problems import problem_responses

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


@router.post(
    "/auth/register",
    status_code=201,
    summary="Register an account",
    responses=problem_responses(Unauthenticated, Forbidden, Conflict, Invalid, TooManyRequests),
    openapi_extra=_ANONYMOUS_TOO,
)
@public("open to everybody unless registration is closed; limited by address")
def register(
    request: Request,
    services: ServicesDep,
    caller: MaybeUser,
    registration: Annotated[Registration, Body(openapi_examples={"account": {"value": _REGISTRATION}})],
) -> Account:
    """Open to everybody unless registration is closed. Administrators register others, in any role."""
    return Account.model_validate(service.register(services, registration, caller, address_of(request)))


@router.get(
    "/user/settings", summary="Your settings", responses=problem_responses(Unauthenticated, Forbidden)
)
@router.get("/auth/me", summary="Your account", responses=problem_responses(Unauthenticated, Forbidden))
def me(unit: Unit, caller: AccountReader) -> Account:
    """The account that the access token belongs to."""
    return Account.model_validate(service.own_account(unit.session, caller))


@router.put("/auth/me", summary="Change your profile (PUT)", responses=_CHANGE_PROBLEMS)
@router.patch("/auth/me", summary="Change your profile", responses=_CHANGE_PROBLEMS)
@router.put("/user/settings", summary="Change your settings", responses=_CHANGE_PROBLEMS)
def change_me(
    unit: Unit,
    caller: AccountWriter,
    profile: Annotated[ProfileChange, Body(openapi_examples={"profile": {"value": _PROFILE}})],
) -> Account:
    """Set the fields that are sent and leave the others, by PUT as by PATCH, as the older systems did."""
    return Account.model_validate(service.change_profile(unit, caller, profile))
