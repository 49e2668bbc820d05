"""Who somebody is, by what the provider says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from functions.auth.accounts.schemas import Email, Line
from functions.auth.oidc.id_token import verified_claims
from functions.auth.oidc.provider import Provider, Tokens
from shared.config import Settings
from shared.db.models import Role
from shared.errors import Forbidden, Unavailable

T = TypeVar("T")
_EMAIL: TypeAdapter[str] = TypeAdapter(Email)
_LINE: TypeAdapter[str] = TypeAdapter(Line)


@dataclass(frozen=True)
class Person:
    """Somebody who has logged in at the provider."""

    issuer: str
    subject: str
    email: str | None
    email_verified: bool | None
    """None where the provider does not say."""
    name: str | None
    role: Role | None
    """None where roles are none of the provider's business."""


def identify(provider: Provider, settings: Settings, tokens: Tokens, nonce: str) -> Person:
    """Who these tokens were given for. Raises Forbidden, Unavailable."""
    claims = verified_claims(provider, tokens, nonce)
    wanted = {"email"} | ({settings.oidc_role_claim} if settings.oidc_role_claim else set())
    if not wanted <= claims.keys():
        claims = _completed(claims, provider.userinfo(tokens))
    return Person(
        issuer=provider.issuer,
        subject=_subject(claims["sub"]),
        email=_valid(_EMAIL, claims.get("email")),
        email_verified=_truth(claims.get("email_verified")),
        name=_valid(_LINE, claims.get("name")),
        role=role_of(claims, settings.oidc_role_claim, settings.oidc_roles),
    )


def role_of(claims: Mapping[str, Any], claim: str | None, roles: Mapping[str, str]) -> Role | None:
    """The role that the claim gives: the most powerful, if several; `user`, if none; None where no claim is asked for.

    Raises Unavailable for a configured role that does not exist.
    """
    if claim is None:
        return None
    unknown = set(roles.values()) - set(Role)
    if unknown:
        raise Unavailable(
            f"HOUNSFIELD_OIDC_ROLES names {', '.join(sorted(unknown))}; the roles are {', '.join(Role)}"
        )
    value = claims.get(claim)
    groups = value if isinstance(value, list) else [value]
    given = {roles[group] for group in groups if isinstance(group, str) and group in roles}
    return next((role for role in Role if role in given), Role.USER)


def _completed(claims: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Claims of the ID token with those of the UserInfo endpoint, which must be of the same person (§5.3.2). An address
    and whether it is verified come from the same place."""
    if not more:
        return claims
    if more.get("sub") != claims["sub"]:
        raise Forbidden("the identity provider's answers are about two different people")
    address = claims if "email" in claims else more
    return {**more, **claims, **{name: address.get(name) for name in ("email", "email_verified")}}


def _subject(value: object) -> str:
    """`sub` is at most 255 ASCII characters (OpenID Connect Core §2)."""
    if not isinstance(value, str) or not 0 < len(value) <= 255 or not value.isprintable():
        raise Forbidden("the identity provider names you in a way that is not to the standard")
    return value


def _truth(value: object) -> bool | None:
    """Some providers write booleans as text; what is neither says nothing."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value) if isinstance(value, str) else None


def _valid(adapter: TypeAdapter[T], value: object) -> T | None:
    try:
        return adapter.validate_python(value)
    except ValidationError:
        return None
