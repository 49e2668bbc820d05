"""What an ID token says, once it is shown to be the provider's, for us, of now and for this log-in."""

from typing import Any

import structlog
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from functions.auth.oidc.provider import Provider, Tokens
from shared.errors import Forbidden

log = structlog.get_logger(__name__)

ALGORITHMS = [f"{family}{size}" for family in ("RS", "PS", "ES") for size in (256, 384, 512)]
"""Public-key signatures only: with `none` or HS256 anybody could sign who knows what is public."""
LEEWAY_SECONDS = 60
"""Clocks differ."""


def verified_claims(provider: Provider, tokens: Tokens, nonce: str) -> dict[str, Any]:
    """The claims of the ID token (OpenID Connect Core §3.1.3.7). Raises Forbidden, Unavailable."""
    try:
        signed = _signed(provider, tokens.id_token)
        claims = CodeIDToken(
            signed.claims,
            signed.header,
            options={
                "iss": {"essential": True, "value": provider.issuer},
                "aud": {"essential": True, "value": provider.client_id},
                "sub": {"essential": True},
            },
            params={"nonce": nonce, "client_id": provider.client_id, "access_token": tokens.access_token},
        )
        claims.validate(leeway=LEEWAY_SECONDS)
    except (JoseError, ValueError) as error:
        log.warning("an ID token was refused", reason=str(error))
        raise Forbidden(
            "the identity provider's ID token does not hold; try again, or ask an administrator"
        ) from None
    return dict(claims)


def _signed(provider: Provider, id_token: str) -> jwt.Token:
    """The token, if one of the provider's keys signed it; the keys may have changed since they were fetched."""
    try:
        return _decoded(id_token, provider.keys())
    except (InvalidKeyIdError, BadSignatureError):
        return _decoded(id_token, provider.keys(renew=True))


def _decoded(id_token: str, keys: KeySet) -> jwt.Token:
    return jwt.decode(id_token, keys, registry=JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False))
