"""Which passwords are accepted, and how they are kept."""

import secrets
import unicodedata
from functools import cache
from importlib.resources import files

import bcrypt

from functions.auth.passwords import repository
from shared.runtime.services import Services
from shared.text import has_utf8

MIN_CHARACTERS = 8
MAX_BYTES = 72
"""bcrypt reads no further, so that a longer password would be weaker than it looks."""
_MAX_CHARACTERS = 4 * MAX_BYTES
"""NFKC makes at most 4 characters into one, so whatever has more is over MAX_BYTES. It is not normalised: that takes
time in the square of the length of a run of accents."""


def password_problem(password: str, *own_names: str) -> str | None:
    """Why a password is refused, or None. `own_names`, such as the e-mail address, are guessed first."""
    folded = password.casefold()
    if not has_utf8(password):
        return "the password holds half of a character, which no keyboard types; choose others"
    if len(password) < MIN_CHARACTERS:
        return f"the password needs at least {MIN_CHARACTERS} characters"
    if len(_encoded(password[:_MAX_CHARACTERS])) > MAX_BYTES:
        return f"the password is longer than {MAX_BYTES} bytes in UTF-8, the most that bcrypt can tell apart"
    if folded in _common():
        return "this password is among the most common ones; choose another"
    if any(folded == name.casefold() for name in own_names):
        return "the password must not be the account's own e-mail address or username"
    return None


class PasswordHasher:
    """bcrypt at one cost: each step of the cost doubles the time."""

    def __init__(self, cost: int, highest: int | None = None) -> None:
        """`highest`: the cost of the dearest hash that may be compared with, where that is not `cost`."""
        self._cost = cost
        self._highest = max(cost, highest or cost)
        self._nobody = self.hash(secrets.token_urlsafe())

    def hash(self, password: str) -> str:
        """A salted hash. Raises ValueError over 72 bytes."""
        return bcrypt.hashpw(_encoded(password), bcrypt.gensalt(self._cost)).decode()

    def matches(self, password: str, hashed: str | None) -> bool:
        """Whether this is the password. It takes as long without a hash (nobody by that name), and with one of whatever
        cost up to the highest."""
        encoded = _encoded(password[:_MAX_CHARACTERS])
        kept = hashed or self._nobody
        same = bcrypt.checkpw(encoded[:MAX_BYTES], kept.encode())
        self._highest = max(self._highest, _cost_of(kept))
        for cost in range(_cost_of(kept), self._highest):  # 2^c and 2^c, 2^(c+1), … 2^(n-1) make 2^n
            bcrypt.hashpw(encoded[:MAX_BYTES], bcrypt.gensalt(cost))
        return same and hashed is not None and len(encoded) <= MAX_BYTES

    def is_outdated(self, hashed: str) -> bool:
        """Whether a hash was made at another cost."""
        return _cost_of(hashed) != self._cost


def password_hasher(services: Services) -> PasswordHasher:
    """The process's hasher (`services.once(password_hasher)`)."""
    with services.database.system() as session:
        highest = repository.highest_cost(session)
    return PasswordHasher(services.settings.bcrypt_cost, highest)


def _encoded(password: str) -> bytes:
    """UTF-8 after NFKC: typed on another keyboard, the password is the same (NIST SP 800-63B §5.1.1.2).

    A lone surrogate is let through: no account has such a password, and asking for one must take as long.
    """
    return unicodedata.normalize("NFKC", password).encode(errors="surrogatepass")


def _cost_of(hashed: str) -> int:
    """`$2b$<cost>$<salt and hash>`."""
    return int(hashed.split("$")[2])


@cache
def _common() -> frozenset[str]:
    text = (files("functions.auth.passwords") / "common_passwords.txt").read_text("utf-8")
    return frozenset(text.split())
