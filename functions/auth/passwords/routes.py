"""HTTP of passwords."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Body, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import SecretStr

from functions.auth.mail.postman import postman
from functions.auth.passwords import service
from functions.auth.passwords.letters import PAGE
from functions.auth.passwords.page import CONTENT_SECURITY_POLICY, reset_page
from functions.auth.passwords.schemas import PasswordChange, Reset, ResetConfirmation, ResetRequested
from functions.auth.sessions.browser import set_session_cookies
from functions.auth.sessions.routes import logged_in
from functions.auth.sessions.schemas import LoggedIn
from shared.db.models import User
from shared.errors import Conflict, Forbidden, Invalid, TooManyRequests, Unauthenticated
from shared.http.access import AccountWriter, public
from shared.http.deps import ServicesDep, address_of
from shared.http.problems import problem_responses
from shared.runtime.services import Services
from shared.security.principal import CredentialKind

router = APIRouter(tags=["auth"])
_CHANGE = {"current_password": "a long passphrase", "new_password": "another long passphrase"}
_CONFIRMATION = {"token": "hpr_…", "password": "another long passphrase"}
_RESETS: dict[str, Any] = {
    "forgotten": {"value": {"email": "clinician@hospital.example"}},
    "token from the mail": {"value": _CONFIRMATION},
}


@router.post(
    "/auth/me/password",
    summary="Change your password",
    responses=problem_responses(Unauthenticated, Forbidden, Conflict, Invalid, TooManyRequests),
)
def change_password(
    request: Request,
    response: Response,
    tasks: BackgroundTasks,
    services: ServicesDep,
    caller: AccountWriter,
    body: Annotated[PasswordChange, Body(openapi_examples={"change": {"value": _CHANGE}})],
) -> LoggedIn:
    """Ends every session of the account and answers with a new one, as a log-in does. API keys stay."""
    current, new = body.current_password.get_secret_value(), body.new_password.get_secret_value()
    session = service.change_password(services, caller, current, new, address_of(request))
    if caller.credential is not None and caller.credential.kind is CredentialKind.SESSION:
        set_session_cookies(response, request, services, session)
    _tell_afterwards(tasks, services, session.user)
    return logged_in(services, session)


@router.post(
    "/auth/reset-password",
    status_code=202,
    summary="Ask for a password reset",
    response_model=ResetRequested,
    responses={
        204: {"description": "With a token and a password: the password is set"},
        **problem_responses(Invalid, TooManyRequests),
    },
)
@public(
    "for whoever forgot the password; limited by address and account, and silent about which accounts exist"
)
def reset_password(
    request: Request,
    tasks: BackgroundTasks,
    services: ServicesDep,
    body: Annotated[Reset, Body(openapi_examples=_RESETS)],
) -> ResetRequested | Response:
    """Mails a token to the account with this e-mail address. The answer is the same, and as quick, where there is none.

    With a token and a password this is `POST /auth/reset-password/confirm`, as an older system had it.
    """
    if body.token is not None and body.password is not None:
        _confirm(request, tasks, services, body.token, body.password)
        return Response(status_code=204)
    address = address_of(request)
    service.charge_address(services, address)
    work = partial(service.request_reset, services, body.email or "", address)
    tasks.add_task(services.once(postman).after, work)
    minutes = services.settings.reset_minutes
    return ResetRequested(
        detail="if an account has this e-mail address, a mail with a reset token is on its way there; "
        f"the token is good for {minutes:g} minutes"
    )


@router.post(
    "/auth/reset-password/confirm",
    status_code=204,
    summary="Set a password by reset token",
    responses=problem_responses(Invalid),
)
@public("asks for a single-use token that came by mail")
def confirm_reset(
    request: Request,
    tasks: BackgroundTasks,
    services: ServicesDep,
    body: Annotated[ResetConfirmation, Body(openapi_examples={"token": {"value": _CONFIRMATION}})],
) -> None:
    """Sets the password, ends every session of the account and lifts its log-in lock. The token works once."""
    _confirm(request, tasks, services, body.token, body.password)


@router.get(PAGE, summary="The page that reset mails link to", response_class=HTMLResponse)
@public("a form; the token is behind # in the link and stays in the browser")
def page() -> HTMLResponse:
    """Asks for a new password, or for the e-mail address of an account where the link has no token."""
    return HTMLResponse(reset_page(), headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})


def _confirm(
    request: Request, tasks: BackgroundTasks, services: Services, token: str, password: SecretStr
) -> None:
    user = service.confirm_reset(services, token, password.get_secret_value(), address_of(request))
    _tell_afterwards(tasks, services, user)


def _tell_afterwards(tasks: BackgroundTasks, services: Services, user: User) -> None:
    tasks.add_task(services.once(postman).after, partial(service.tell_of_change, services, user))
