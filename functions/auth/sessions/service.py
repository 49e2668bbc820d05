"""Who is let in."""

from functions.auth.accounts import repository
from functions.auth.passwords.rules import password_hasher
from shared.db.models import Role, User
from shared.errors import Unauthenticated
from shared.runtime.services import Services
from shared.security.principal import Principal


def authenticate(services: Services, name: str, password: str) -> User:
    """Who this e-mail address or username, with this password, is.

    Raises Unauthenticated with the same words after the same time, whether the account is unknown or inactive
    or the password is wrong.
    """
    with services.database.system() as session:
        find = repository.by_email if "@" in name else repository.by_username
        user = find(session, name)
    same = services.once(password_hasher).matches(password, user.password_hash if user else None)
    if user is None or not same or not user.is_active:
        raise Unauthenticated("no active account has this name and password")
    return user


def principal_of(user: User) -> Principal:
    """What an access token says of an account."""
    return Principal(user.id, user.tenant_id, Role(user.role))
