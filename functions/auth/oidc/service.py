"""A log-in through the provider, from its end to a session."""

import structlog

from functions.auth.accounts.tenants import default_tenant
from functions.auth.limits import address_subject, limits
from functions.auth.oidc.accounts import account_of, known_account
from functions.auth.oidc.attempt import Attempt, start_again
from functions.auth.oidc.people import identify
from functions.auth.oidc.provider import Provider, provider
from functions.auth.oidc.schemas import Answer
from functions.auth.sessions.service import Session, start_session
from shared.db.models import User
from shared.errors import BadRequest, Conflict, Forbidden, HounsfieldError, Unavailable
from shared.runtime.services import Services
from shared.runtime.unit import unit_of_work
from shared.security.audit import Actor

log = structlog.get_logger(__name__)

_PERSON_REFUSES = {
    "access_denied",
    "account_selection_required",
    "consent_required",
    "interaction_required",
    "login_required",
}
"""Errors that the person or the provider's policy decided (RFC 6749 §4.1.2.1, OpenID Connect Core §3.1.2.6)."""


def finish(
    services: Services, attempt: Attempt, answer: Answer, redirect_uri: str, address: str | None
) -> Session:
    """The session of whoever came back from the provider with this answer.

    Raises BadRequest, Forbidden, Conflict, TooManyRequests, Unavailable.
    """
    elsewhere, found = services.once(provider), None
    try:
        code = _code(elsewhere, attempt, answer)
        tokens = elsewhere.exchange(code, attempt.verifier, redirect_uri)
        person = identify(elsewhere, services.settings, tokens, attempt.nonce)
        found = known_account(services, person)
        user = account_of(services, person, found, address)
    except (BadRequest, Forbidden, Conflict):
        _tell_of_failure(services, found, address)
        raise
    return start_session(services, user, Actor(user.id, "oidc", address))


def _code(elsewhere: Provider, attempt: Attempt, answer: Answer) -> str:
    if not attempt.is_answered_by(answer.state):
        raise start_again("this answer belongs to another log-in than the one that this browser began last")
    if not elsewhere.is_named_by(answer.iss):
        raise start_again("this answer comes from another identity provider")
    if answer.error is not None:
        raise _refusal(answer.error)
    if not answer.code:
        raise start_again("the identity provider sent no code")
    return answer.code


def _tell_of_failure(services: Services, user: User | None, address: str | None) -> None:
    """As of a wrong password: of nobody we know in the default tenant. Raises TooManyRequests, as for wrong passwords: the
    log only grows."""
    guard = services.once(limits)
    guard.charge(guard.rules.login_address, address_subject(address))
    tenant_id = user.tenant_id if user else services.once(default_tenant)
    with unit_of_work(services, tenant_id, Actor(None, "oidc", address)) as unit:
        unit.audit("auth.login", subject=("user", user.id) if user else None, outcome="failure")


def _refusal(error: str) -> HounsfieldError:
    log.info("the identity provider refused a log-in", error=error[:80])
    if error in _PERSON_REFUSES:
        return Forbidden("the log-in was refused at the identity provider")
    return Unavailable(
        "the identity provider cannot log anybody in now; an administrator finds its reason in the log"
    )
