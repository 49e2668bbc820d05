"""How often something may be tried. Counts are in the database, so that replicas share them.

A try is counted before the work that it asks for, and taken back when it turns out well: guesses that come all at once
are counted as well as those that come one after another.

Log-ins are counted by address, by the name that was typed, and by account. A caller is told of the first two only: an
account that is locked by guesses at its other name answers like a wrong password, or else names could be tried for
whether they belong to one account, or to any.
"""

import hashlib
import hmac
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog

from functions.auth import limits_repository as repository
from shared.config import Settings
from shared.db.models import User
from shared.db.session import Database
from shared.errors import TooManyRequests
from shared.http.addresses import network_of
from shared.runtime.services import Services
from shared.security.keys import key_store

log = structlog.get_logger(__name__)

HOUR = timedelta(hours=1)
ADDRESS_FACTOR = 10
"""An address may ask for as many resets as this many accounts: a hospital is often one address."""
_LOGIN = "too many log-ins failed under this name or from this address"


@dataclass(frozen=True)
class Rule:
    """At most `most` tries in `window`; the last of them blocks further ones for `block`."""

    name: str
    most: int
    window: timedelta
    block: timedelta
    said: str
    """What a blocked caller is told. It must be the same whether or not the account exists."""


@dataclass(frozen=True)
class Rules:
    """Every limit there is."""

    login_account: Rule
    login_name: Rule
    login_address: Rule
    register_address: Rule
    reset_account: Rule
    reset_address: Rule

    @classmethod
    def of(cls, settings: Settings) -> "Rules":
        """The limits that the settings ask for."""
        lock = timedelta(minutes=settings.lock_minutes)
        resets = settings.resets_per_hour
        return cls(
            Rule("login-account", settings.account_failures, lock, lock, "the password was wrong too often"),
            Rule("login-name", settings.account_failures, lock, lock, _LOGIN),
            Rule("login-address", settings.address_failures, lock, lock, _LOGIN),
            _hourly("register-address", settings.registrations_per_hour, "accounts were registered"),
            _hourly("reset-account", resets, "password resets were asked for"),
            _hourly("reset-address", ADDRESS_FACTOR * resets, "password resets were asked for"),
        )

    @property
    def longest(self) -> timedelta:
        """After this long, a row says nothing any more."""
        rules: list[Rule] = list(vars(self).values())
        return max(rule.window + rule.block for rule in rules)


class Limits:
    """Counts tries. A subject is stored as an HMAC: the table names nobody, and nobody can look a name up in it."""

    def __init__(self, database: Database, secret: Callable[[], bytes], rules: Rules) -> None:
        self.rules = rules
        self._database = database
        self._secret = secret

    def charge(self, rule: Rule, subject: str) -> int:
        """Count a try and return how many are left. Raises TooManyRequests when none was."""
        key = self._key(rule, subject)
        with self._database.system() as session:
            count = repository.count_try(session, key, rule.most, rule.window, rule.block)
            seconds = 0.0 if count is not None else repository.seconds_left(session, key, rule.window)
        if count is None:
            raise _refusal(rule, seconds)
        if count >= rule.most:
            log.warning("limit reached", rule=rule.name, key=key)
        return max(0, rule.most - count)

    def refund(self, rule: Rule, subject: str) -> None:
        """Take one try back: it was a good one."""
        with self._database.system() as session:
            repository.take_back(session, self._key(rule, subject), rule.most)

    def clear(self, rule: Rule, subject: str) -> None:
        """Forget all tries, and lift the block."""
        with self._database.system() as session:
            repository.forget(session, self._key(rule, subject))

    def forgive(self, user: User) -> None:
        """Unlock an account, under all of its names."""
        self.clear(self.rules.login_account, account_subject(user.id))
        for name in (user.email, user.username):
            self.clear(self.rules.login_name, name_subject(name))

    def clean(self) -> int:
        """Delete counts that say nothing any more; returns how many."""
        with self._database.system() as session:
            return repository.delete_old(session, self.rules.longest)

    def _key(self, rule: Rule, subject: str) -> str:
        text = subject.encode(errors="surrogatepass")
        return f"{rule.name}:{hmac.new(self._secret(), text, hashlib.sha256).hexdigest()}"


def limits(services: Services) -> Limits:
    """The process's (`services.once(limits)`)."""
    keys = services.once(key_store)
    return Limits(services.database, lambda: keys.secret("limits"), Rules.of(services.settings))


def account_subject(user_id: UUID) -> str:
    """An account, by whichever of its names it was called."""
    return f"user:{user_id}"


def name_subject(name: str) -> str:
    """A name as somebody typed it, in any case, whether or not it is an account's."""
    return f"name:{name.casefold()}"


def address_subject(address: str | None) -> str:
    """Where somebody calls from."""
    return network_of(address) if address else "unknown"


def _hourly(name: str, most: int, what: str) -> Rule:
    return Rule(name, most, HOUR, HOUR, f"too many {what} lately")


def _refusal(rule: Rule, seconds: float) -> TooManyRequests:
    minutes = max(1, math.ceil(seconds / 60))
    wait = "a minute" if minutes == 1 else f"{minutes} minutes"
    return TooManyRequests(
        f"{rule.said}; try again in {wait}", headers={"Retry-After": str(max(1, math.ceil(seconds)))}
    )
