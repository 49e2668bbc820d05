"""What is done again and again."""

import threading
from pathlib import Path
from typing import cast

import pytest

from functions.chores import chores_of, running
from functions.host import load_functions
from shared.config import Settings
from shared.db.session import Database
from shared.errors import Unavailable
from shared.runtime import Function, Services
from shared.storage.port import Storage


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """Settings only: no chore of these tests asks for more."""
    database = Database("postgresql+psycopg2://nobody@127.0.0.1:1/none")
    return Services(Settings(data_dir=tmp_path), database, cast(Storage, None))


def test_a_chore_that_fails_is_done_again_and_holds_up_no_other(services: Services) -> None:
    function, third, other = Function("x"), threading.Event(), threading.Event()
    times: list[int] = []

    @function.every(0.01, "failing", at_start=True)
    def fail(given: Services) -> int:
        assert given is services
        times.append(1)
        if len(times) == 3:
            third.set()
        raise Unavailable("the store is away")

    @function.every(lambda settings: settings.settle_seconds / 1000, "other")
    def work(_: Services) -> int:
        other.set()
        return 0

    with running([function], services):
        assert third.wait(5) and other.wait(5)


def test_nothing_is_done_before_its_time(services: Services) -> None:
    function, now, later = Function("x"), threading.Event(), threading.Event()

    @function.every(3600, "later")
    def wait(_: Services) -> int:
        later.set()
        return 1

    @function.every(3600, "now", at_start=True)
    def begin(_: Services) -> int:
        now.set()
        return 1

    with running([function], services):
        assert now.wait(5)
    assert not later.is_set()


def test_two_chores_of_one_name_are_a_mistake() -> None:
    function = Function("x")
    function.every(1, "events")(lambda _: 0)
    with pytest.raises(ValueError, match="two chores are called events"):
        chores_of([function])


def test_every_function_says_what_it_does_again_and_again() -> None:
    chores = chores_of(load_functions())
    assert {"events", "sessions", "objects", "settle", "reconcile"} <= set(chores)
    settings = Settings(reconcile_minutes=2)
    assert chores["reconcile"].seconds(settings) == 120
    assert chores["settle"].seconds(settings) == 1
