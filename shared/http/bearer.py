"""Who calls, by the Authorization header."""

from fastapi.security.utils import get_authorization_scheme_param

from shared.errors import Unauthenticated
from shared.runtime.services import Services
from shared.security.keys import token_verifier
from shared.security.principal import Principal


def bearer_token(authorization: str | None) -> str | None:
    """The token of an `Authorization: Bearer <token>` header; None without one (RFC 6750 §2.1)."""
    scheme, token = get_authorization_scheme_param(authorization)
    return token if scheme.lower() == "bearer" and token else None


def caller(services: Services, token: str | None) -> Principal:
    """Whose token this is; costs no database query. Raises Unauthenticated, Unavailable."""
    if token is None:
        raise Unauthenticated(
            "send the access token of POST /api/auth/login as: Authorization: Bearer <token>"
        )
    return services.once(token_verifier).verify(token)
