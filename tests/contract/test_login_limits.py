"""Limits count tries before their work is done, for all replicas, and name nobody."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from functions import auth
from functions.auth.limits import Limits, Rule, Rules, address_subject, limits, name_subject
from shared.config import Settings
from shared.db.session import Database
from shared.errors import TooManyRequests
from shared.runtime.services import Services
from tests.contract.conftest import PASSWORD
from tests.serving import serving

RULE = Rule("login-account", 5, timedelta(minutes=15), timedelta(minutes=15), "too many log-ins failed")
Past = Callable[[timedelta], None]


@pytest.fixture
def guard(services: Services) -> Limits:
    return services.once(limits)


@pytest.fixture
def past(database: Database) -> Past:
    """`past(time)`: make all that was counted older by that much."""

    def shift(by: timedelta) -> None:
        with database.system() as session:
            session.execute(
                text(
                    "update login_attempts set since = since - :by, blocked_until = blocked_until - :by, "
                    "updated_at = updated_at - :by"
                ),
                {"by": by},
            )

    return shift


def tries(guard: Limits, subject: str, number: int, rule: Rule = RULE) -> int:
    """How many of so many tries are let through."""
    let_through = 0
    for _ in range(number):
        try:
            guard.charge(rule, subject)
            let_through += 1
        except TooManyRequests:
            pass
    return let_through


def test_each_try_says_how_many_are_left_and_the_one_after_the_last_is_refused(guard: Limits) -> None:
    assert [guard.charge(RULE, "ada") for _ in range(5)] == [4, 3, 2, 1, 0]
    with pytest.raises(TooManyRequests) as refused:
        guard.charge(RULE, "ada")
    assert refused.value.detail == "too many log-ins failed; try again in 15 minutes"
    assert 895 <= int(refused.value.headers["Retry-After"]) <= 900


def test_one_who_is_blocked_blocks_nobody_else_and_nothing_else(guard: Limits) -> None:
    tries(guard, "ada", 9)
    assert guard.charge(RULE, "bob") == 4
    assert guard.charge(replace(RULE, name="reset-account"), "ada") == 4


def test_a_block_lasts_as_long_as_it_says_however_often_it_is_run_against(guard: Limits, past: Past) -> None:
    tries(guard, "ada", 5)
    past(timedelta(minutes=10))
    assert tries(guard, "ada", 20) == 0
    past(timedelta(minutes=6))
    assert guard.charge(RULE, "ada") == 4


def test_tries_in_an_earlier_window_do_not_count(guard: Limits, past: Past) -> None:
    tries(guard, "ada", 4)
    past(timedelta(minutes=16))
    assert guard.charge(RULE, "ada") == 4


def test_a_single_try_may_be_all_there_is(guard: Limits) -> None:
    once = replace(RULE, most=1)
    assert guard.charge(once, "ada") == 0
    assert tries(guard, "ada", 3, once) == 0


def test_a_limit_that_was_lowered_holds_for_what_was_counted_before(guard: Limits, past: Past) -> None:
    tries(guard, "ada", 4)
    past(timedelta(minutes=5))
    with pytest.raises(TooManyRequests) as refused:
        guard.charge(replace(RULE, most=2), "ada")
    assert 595 <= int(refused.value.headers["Retry-After"]) <= 600


def test_a_good_try_is_taken_back_with_the_block_it_set_off(guard: Limits) -> None:
    tries(guard, "ward", 5)
    guard.refund(RULE, "ward")
    assert guard.charge(RULE, "ward") == 0
    assert tries(guard, "ward", 1) == 0


def test_what_was_never_tried_cannot_be_taken_back(guard: Limits) -> None:
    guard.refund(RULE, "ada")
    guard.charge(RULE, "ada")
    for _ in range(3):
        guard.refund(RULE, "ada")
    assert guard.charge(RULE, "ada") == 4


def test_clearing_lifts_the_block(guard: Limits) -> None:
    tries(guard, "ada", 9)
    guard.clear(RULE, "ada")
    assert guard.charge(RULE, "ada") == 4


def test_of_many_at_once_no_more_get_through_than_may(guard: Limits) -> None:
    with ThreadPoolExecutor(20) as pool:
        let_through = sum(pool.map(lambda _: tries(guard, "ada", 10), range(20)))
    assert let_through == RULE.most


def test_replicas_share_the_count(services: Services, database_url: str) -> None:
    other = Database(database_url)
    replica = Services(services.settings, other, services.storage).once(limits)
    assert tries(services.once(limits), "ada", 3) == 3
    assert tries(replica, "ada", 3) == 2
    assert tries(services.once(limits), "ada", 1) == 0
    other.close()


def test_the_table_names_nobody(guard: Limits, database: Database) -> None:
    guard.charge(RULE, "ada@hospital.example")
    guard.charge(guard.rules.login_address, address_subject("192.0.2.7"))
    with database.system() as session:
        keys = session.scalars(text("select key from login_attempts order by key")).all()
    names, hashes = zip(*(key.split(":") for key in keys), strict=True)
    assert names == ("login-account", "login-address")
    assert [len(bytes.fromhex(digest)) for digest in hashes] == [32, 32]


def test_another_installation_stores_another_hash(database: Database) -> None:
    rules = Rules.of(Settings())
    for secret in (lambda: b"one", lambda: b"two"):
        Limits(database, secret, rules).charge(RULE, "ada")
    with database.system() as session:
        assert session.scalar(text("select count(*) from login_attempts")) == 2


def test_rows_are_deleted_when_they_say_nothing_any_more(guard: Limits, past: Past) -> None:
    tries(guard, "ada", 5)
    past(timedelta(minutes=100))
    tries(guard, "bob", 5)
    assert guard.clean() == 0, "within the longest of all windows and blocks"
    past(timedelta(minutes=30))
    assert guard.clean() == 1
    assert tries(guard, "bob", 9) == 5


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("testclient", "192.0.2.7", False),
        (None, "", True),
    ],
)
def test_an_address_is_one_ipv4_address_or_one_ipv6_network(
    one: str | None, other: str | None, same: bool
) -> None:
    assert (address_subject(one) == address_subject(other)) is same


def test_a_name_is_one_in_any_case() -> None:
    assert name_subject("Nobody") == name_subject("nobody")
    assert name_subject("nobody") != name_subject("somebody")


def test_names_that_are_no_text_count_too(guard: Limits) -> None:
    assert tries(guard, name_subject("\ud800\x00"), 9) == 5


class Callers:
    """Programs at many addresses that log in at the replicas of one installation in turn."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self._calls = 0

    def post(self, path: str, body: Mapping[str, Any], address: int = 1) -> httpx.Response:
        self._calls += 1
        port = self.ports[self._calls % len(self.ports)]
        transport = httpx.HTTPTransport(local_address=f"127.0.0.{address}", verify=False)  # plain HTTP
        with httpx.Client(transport=transport, timeout=60) as client:
            return client.post(f"http://127.0.0.1:{port}/api/auth/{path}", json=body)

    def login(self, name: str, password: str = PASSWORD, address: int = 1) -> httpx.Response:
        return self.post("login", {"login": name, "password": password}, address)

    def register(self, name: str, address: int = 1) -> httpx.Response:
        account = {"email": f"{name}@hospital.example", "username": name, "password": PASSWORD}
        return self.post("register", account, address)


@pytest.fixture
def installation(services: Services, database_url: str) -> Iterator[Callable[..., Callers]]:
    """`installation(setting=…)`: callers of two replicas on one database, where ada and bob have accounts."""
    with ExitStack() as stack:

        def start(**more: Any) -> Callers:
            settings = services.settings.model_copy(update=more)
            ports = []
            for _ in range(2):
                database = Database(database_url)
                stack.callback(database.close)
                replica = Services(settings, database, services.storage)
                ports.append(stack.enter_context(serving(replica, [auth.function])))
            callers = Callers(ports)
            assert [callers.register(name).status_code for name in ("ada", "bob")] == [201, 201]
            return callers

        yield start


def test_many_guesses_from_many_addresses_lock_the_account_and_nobody_else(
    installation: Callable[..., Callers],
) -> None:
    callers = installation()
    answers = [callers.login("ada", f"guess {n}", address=2 + n % 100) for n in range(200)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 190
    assert callers.login("ada", address=200).status_code == 429, "the right password opens no locked account"
    others = [callers.login("bob", address=2 + n) for n in range(100)]
    assert {answer.status_code for answer in others} == {200}


def test_guesses_that_come_at_once_are_no_way_around_it(installation: Callable[..., Callers]) -> None:
    callers = installation()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: callers.login("ada", f"guess {n}", address=2 + n % 100), range(96)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(401), statuses.count(429)) == (10, 86)


def test_all_names_of_an_account_share_one_count(installation: Callable[..., Callers]) -> None:
    callers = installation()
    for name in ["ada", "ADA", "ada@hospital.example", "Ada@Hospital.Example"] * 3:
        assert callers.login(name, "a guess").status_code == 401
    for name in ("ada", "ada@hospital.example"):
        assert callers.login(name).status_code == 401, "the right password opens no locked account"


@pytest.mark.parametrize("last", ["ada", "ada@hospital.example"])
def test_no_answer_tells_whether_a_name_is_an_accounts_or_which_belong_together(
    installation: Callable[..., Callers], last: str
) -> None:
    callers = installation()
    known = [callers.login(name, "a guess") for name in ["ada"] * 12 + [last] * 12]
    nobody = last.replace("ada", "nobody")
    unknown = [callers.login(name, "a guess") for name in ["nobody"] * 12 + [nobody] * 12]
    assert [answer.json() for answer in known] == [answer.json() for answer in unknown]
    assert known[-1].status_code == 429
    assert known[-1].json()["detail"].endswith("try again in 15 minutes")
    for answer in (known[-1], unknown[-1]):
        assert 890 <= int(answer.headers["retry-after"]) <= 900


def test_a_right_password_in_time_starts_the_count_anew(installation: Callable[..., Callers]) -> None:
    callers = installation()
    for _ in range(3):
        wrong = [callers.login("ada", "a guess").status_code for _ in range(9)]
        assert [*wrong, callers.login("ada").status_code] == [401] * 9 + [200]


def test_an_address_that_guesses_at_many_accounts_is_locked_out(
    installation: Callable[..., Callers],
) -> None:
    callers = installation(address_failures=5)
    statuses = [callers.login(f"name-{n}", "a guess", address=7).status_code for n in range(6)]
    assert statuses == [401] * 5 + [429]
    assert callers.login("bob", address=7).status_code == 429
    assert callers.login("bob", address=8).status_code == 200


def test_who_logs_in_rightly_is_never_too_many(installation: Callable[..., Callers]) -> None:
    callers = installation(address_failures=5)
    assert {callers.login("ada").status_code for _ in range(15)} == {200}


def test_an_address_may_register_so_many_accounts(installation: Callable[..., Callers]) -> None:
    callers = installation(registrations_per_hour=3)
    statuses = [callers.register(f"name-{n}", address=7).status_code for n in range(5)]
    assert statuses == [201] * 3 + [429] * 2
    refused = callers.register("another", address=7)
    assert refused.json()["detail"] == "too many accounts were registered lately; try again in 60 minutes"
    assert callers.register("another", address=8).status_code == 201
