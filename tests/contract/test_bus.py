"""What every bus adapter promises. An adapter joins by adding itself to the `bus` fixture."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from shared.config import Settings
from shared.db.models import DeadLetter, InboxEntry, OutboxEntry, Tenant
from shared.db.session import Database
from shared.errors import NotFound, Unavailable
from shared.events import Event, InferenceRequested, ReportCreated, StudyIngested, StudyRejected
from shared.ids import uuid7
from shared.runtime import Bus, Consumer, Function, LongWork, Reject, Retry, Services, UnitOfWork
from shared.runtime.postgres_bus import PostgresBus
from shared.runtime.unit import unit_of_work
from shared.storage.folder import FolderStorage
from shared.storage.signing import UrlSigner
from tests.builders import make_tenant

SECONDS = 10


@pytest.fixture
def services(database: Database, settings: Settings) -> Services:
    storage = FolderStorage(settings.objects_dir, UrlSigner(b"secret"), "http://127.0.0.1")
    return Services(settings, database, storage)


@pytest.fixture(params=["postgres"])
def bus(request: pytest.FixtureRequest, database: Database) -> Bus:
    return {"postgres": PostgresBus}[request.param](database)


@pytest.fixture
def run(bus: Bus, services: Services) -> Iterator[Callable[..., Consumer]]:
    """Start consumers that stop at the end of the test."""
    with ExitStack() as stack:

        def start(function: Function, concurrency: int = 1) -> Consumer:
            consumer = bus.consumer(function, services, concurrency)
            consumer.start()
            stack.callback(consumer.stop, SECONDS)
            return consumer

        yield start


def eventually(condition: Callable[[], bool], what: str = "") -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}"
        time.sleep(0.01)


@contextmanager
def emitting(services: Services, tenant_id: UUID) -> Iterator[UnitOfWork]:
    with unit_of_work(services, tenant_id) as unit:
        yield unit


def emit(services: Services, tenant_id: UUID, *events: Event) -> list[UUID]:
    with emitting(services, tenant_id) as unit:
        return [unit.emit(event) for event in events]


def ingested(study_id: UUID | None = None) -> StudyIngested:
    return StudyIngested(study_id=study_id or uuid7(), kind="brain-mri")


def requested(task_id: UUID | None = None) -> InferenceRequested:
    return InferenceRequested(task_id=task_id or uuid7(), study_id=uuid7(), pipeline="brain-mri")


def recorder(name: str = "recorder") -> tuple[Function, list[StudyIngested]]:
    function, seen = Function(name), []

    @function.on(StudyIngested)
    def record(event: StudyIngested, unit: UnitOfWork) -> None:
        seen.append(event)

    return function, seen


def test_an_emitted_event_reaches_each_function_once(run, services, tenant_id) -> None:
    first, seen_first = recorder("first")
    second, seen_second = recorder("second")
    run(first), run(second)
    event = ingested()
    emit(services, tenant_id, event)
    eventually(lambda: seen_first == [event] and seen_second == [event])
    time.sleep(0.2)
    assert len(seen_first) == len(seen_second) == 1


def test_an_event_of_a_transaction_that_rolls_back_never_arrives(run, services, tenant_id) -> None:
    function, seen = recorder()
    run(function)

    def fail() -> None:
        with emitting(services, tenant_id) as unit:
            unit.emit(ingested())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    marker = ingested()
    emit(services, tenant_id, marker)
    eventually(lambda: bool(seen))
    assert seen == [marker]


def test_a_function_that_subscribes_late_gets_the_events_that_are_kept(run, services, tenant_id) -> None:
    events = [ingested() for _ in range(5)]
    emit(services, tenant_id, *events)
    function, seen = recorder()
    run(function)
    eventually(lambda: seen == events)


def test_no_event_is_missed_while_a_function_subscribes(run, services, tenant_id) -> None:
    emitted: list[UUID] = []
    stop = threading.Event()

    def keep_emitting() -> None:
        while not stop.is_set():
            event = ingested()
            emit(services, tenant_id, event)
            emitted.append(event.study_id)

    threads = [threading.Thread(target=keep_emitting) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    function, seen = recorder()
    run(function, concurrency=2)
    time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join()
    eventually(lambda: len(seen) >= len(emitted))
    assert sorted(event.study_id for event in seen) == sorted(emitted)


def test_types_of_a_topic_that_a_function_does_not_handle_are_passed_over(run, services, tenant_id) -> None:
    function, seen = recorder()
    run(function)
    study = uuid7()
    emit(services, tenant_id, StudyRejected(study_id=study, kind="ct", reason="why"), ingested(study))
    eventually(lambda: [event.study_id for event in seen] == [study])


def test_a_handlers_rows_and_events_commit_together_or_not_at_all(run, services, tenant_id) -> None:
    function, tries = Function("writer"), []

    @function.on(StudyIngested)
    def write(event: StudyIngested, unit: UnitOfWork) -> None:
        unit.emit(ReportCreated(study_id=event.study_id, report_id=uuid7(), task_id=uuid7()))
        tries.append(event)
        if len(tries) < 3:
            raise ValueError("first tries fail")

    run(function)
    emit(services, tenant_id, ingested())
    eventually(lambda: len(tries) == 3)

    def reports() -> int:
        with services.database.system() as session:
            return session.scalar(select(func.count()).where(OutboxEntry.type == "hounsfield.report.created"))

    eventually(lambda: reports() == 1)
    time.sleep(0.2)
    assert reports() == 1 and len(tries) == 3


def test_events_of_one_key_are_handled_in_order_and_one_at_a_time(run, services, tenant_id) -> None:
    function, seen, running = Function("ordered"), [], threading.Semaphore(1)
    overlaps = []

    @function.on(StudyIngested)
    @function.on(StudyRejected)
    def record(event: StudyIngested | StudyRejected, unit: UnitOfWork) -> None:
        if not running.acquire(blocking=False):
            overlaps.append(event)
            return
        time.sleep(0.005)
        seen.append(event.reason)
        running.release()

    run(function, concurrency=4)
    study = uuid7()
    events = [StudyRejected(study_id=study, kind="ct", reason=str(n)) for n in range(30)]
    for event in events:
        emit(services, tenant_id, event)
    eventually(lambda: len(seen) + len(overlaps) == 30)
    assert not overlaps
    assert seen == [str(n) for n in range(30)]


def test_a_retried_event_holds_up_its_own_key_only(run, services, tenant_id) -> None:
    function, seen, failed = Function("retrying"), [], threading.Event()

    @function.on(StudyRejected)
    def record(event: StudyRejected, unit: UnitOfWork) -> None:
        if event.reason == "a1" and not failed.is_set():
            failed.set()
            raise Retry(timedelta(seconds=0.3))
        seen.append(event.reason)

    run(function, concurrency=2)
    a, b = uuid7(), uuid7()
    emit(
        services,
        tenant_id,
        StudyRejected(study_id=a, kind="ct", reason="a1"),
        StudyRejected(study_id=a, kind="ct", reason="a2"),
        StudyRejected(study_id=b, kind="ct", reason="b1"),
    )
    eventually(lambda: len(seen) == 3)
    assert seen == ["b1", "a1", "a2"]


def test_different_keys_run_side_by_side(run, services, tenant_id) -> None:
    function, meeting = Function("parallel"), threading.Barrier(3, timeout=SECONDS)

    @function.on(StudyIngested)
    def meet(event: StudyIngested, unit: UnitOfWork) -> None:
        meeting.wait()

    run(function, concurrency=3)
    ids = emit(services, tenant_id, ingested(), ingested(), ingested())
    eventually(lambda: settled(services, ids))
    assert not meeting.broken


def test_two_copies_of_a_function_share_its_events(run, services, tenant_id) -> None:
    first, seen_first = recorder("shared")
    second, seen_second = recorder("shared")
    run(first), run(second)
    events = [ingested() for _ in range(40)]
    for event in events:
        emit(services, tenant_id, event)
    eventually(lambda: len(seen_first) + len(seen_second) >= 40)
    time.sleep(0.1)
    assert sorted(e.study_id for e in seen_first + seen_second) == sorted(e.study_id for e in events)


def test_an_event_that_keeps_failing_becomes_a_dead_letter_and_lets_the_next_pass(
    bus, run, services, settings, tenant_id
) -> None:
    function, tries, told = Function("failing"), [], []

    def tell(event: StudyRejected, unit: UnitOfWork, error: str) -> None:
        told.append((event, error))

    @function.on(StudyRejected, on_dead=tell)
    def fail(event: StudyRejected, unit: UnitOfWork) -> None:
        tries.append(event.reason)
        if event.reason == "poison":
            raise ValueError("cannot be digested")

    run(function)
    study = uuid7()
    poison = StudyRejected(study_id=study, kind="ct", reason="poison")
    emit(services, tenant_id, poison, StudyRejected(study_id=study, kind="ct", reason="good"))
    eventually(lambda: "good" in tries)
    assert tries == ["poison"] * settings.max_attempts + ["good"]
    [letter] = bus.dead_letters.list()
    assert (letter.function, letter.attempts) == ("failing", settings.max_attempts)
    assert letter.error == "ValueError: cannot be digested"
    assert told == [(poison, "internal error (ValueError)")], "what a handler raised may name a patient"


def test_a_rejected_event_is_dead_at_once(bus, run, services, tenant_id) -> None:
    function, tries = Function("rejecting"), []

    @function.on(StudyIngested)
    def reject(event: StudyIngested, unit: UnitOfWork) -> None:
        tries.append(event)
        raise Reject("not for us")

    run(function)
    emit(services, tenant_id, ingested())
    eventually(lambda: bool(bus.dead_letters.list()))
    assert len(tries) == 1 and bus.dead_letters.list()[0].error == "not for us"


def test_a_dead_letter_can_be_replayed_or_discarded(bus, run, services, tenant_id) -> None:
    function, broken, seen = Function("mended"), threading.Event(), []
    broken.set()

    @function.on(StudyIngested)
    def handle(event: StudyIngested, unit: UnitOfWork) -> None:
        if broken.is_set():
            raise Reject("broken deploy")
        seen.append(event)

    run(function)
    again, never = ingested(), ingested()
    emit(services, tenant_id, again, never)
    eventually(lambda: len(bus.dead_letters.list()) == 2)
    broken.clear()
    by_key = {letter.key: letter for letter in bus.dead_letters.list()}
    bus.dead_letters.discard(by_key[str(never.study_id)].id)
    bus.dead_letters.replay(by_key[str(again.study_id)].id)
    eventually(lambda: seen == [again])
    assert list(bus.dead_letters.list()) == []
    with pytest.raises(NotFound):
        bus.dead_letters.replay(uuid7())


def test_long_work_keeps_its_lease_beyond_its_first_term(run, services, settings, tenant_id) -> None:
    settings.lease_seconds = 0.6
    function, runs = Function("long"), []

    @function.on_long(InferenceRequested)
    def work(event: InferenceRequested, work: LongWork) -> None:
        runs.append(work.attempt)
        time.sleep(2)
        with work.final_unit() as unit:
            unit.emit(ingested())

    run(function), run(function)
    [event_id] = emit(services, tenant_id, requested())
    eventually(lambda: settled(services, [event_id]))
    assert runs == [1]


def test_a_worker_that_lost_its_lease_writes_nothing(run, services, settings, tenant_id) -> None:
    settings.lease_seconds = 0.3
    function, release, outcomes = Function("fenced"), threading.Event(), []

    @function.on_long(InferenceRequested)
    def work(event: InferenceRequested, work: LongWork) -> None:
        if work.attempt == 1:
            steal(services, event)
            release.wait(SECONDS)
        with work.final_unit():
            outcomes.append(work.attempt)

    run(function, concurrency=2)
    [event_id] = emit(services, tenant_id, requested())
    eventually(lambda: settled(services, [event_id]), "the second worker finishes")
    release.set()
    time.sleep(0.3)
    assert outcomes == [2]


def test_a_long_topic_does_not_hold_up_short_work(run, services, tenant_id) -> None:
    function, release, seen = Function("lanes"), threading.Event(), []

    @function.on_long(InferenceRequested)
    def work(event: InferenceRequested, work: LongWork) -> None:
        release.wait(SECONDS)

    @function.on(StudyIngested)
    def record(event: StudyIngested, unit: UnitOfWork) -> None:
        seen.append(event)

    run(function)
    emit(services, tenant_id, requested(), ingested())
    eventually(lambda: len(seen) == 1)
    assert not release.is_set()
    release.set()


def test_stopping_waits_for_running_work_and_takes_up_nothing_new(run, services, tenant_id) -> None:
    function, started, seen = Function("draining"), threading.Event(), []

    @function.on(StudyIngested)
    def slow(event: StudyIngested, unit: UnitOfWork) -> None:
        started.set()
        time.sleep(0.4)
        seen.append(event)

    consumer = run(function)
    ids = emit(services, tenant_id, ingested(), ingested())
    assert started.wait(SECONDS)
    assert consumer.stop(SECONDS)
    assert len(seen) == 1 and settled(services, ids[:1]) and not settled(services, ids[1:])
    assert not consumer.healthy


def test_long_work_is_given_back_when_the_process_stops(run, services, tenant_id) -> None:
    function, started, attempts = Function("paused"), threading.Event(), []

    @function.on_long(InferenceRequested)
    def work(event: InferenceRequested, work: LongWork) -> None:
        attempts.append(work.attempt)
        started.set()
        for _ in range(100 if len(attempts) == 1 else 1):
            work.pause_point()
            time.sleep(0.02)

    consumer = run(function)
    [event_id] = emit(services, tenant_id, requested())
    assert started.wait(SECONDS)
    assert consumer.stop(1)
    run(function)
    eventually(lambda: settled(services, [event_id]))
    assert attempts == [1, 2]


def test_an_event_whose_worker_keeps_dying_becomes_a_dead_letter(
    bus, run, services, settings, tenant_id
) -> None:
    settings.max_crashes, settings.lease_seconds = 2, 0.2
    function = Function("crashing")

    @function.on_long(InferenceRequested)
    def hang(event: InferenceRequested, work: LongWork) -> None:
        steal(services, event)
        time.sleep(0.5)
        work.pause_point()

    run(function, concurrency=3)
    emit(services, tenant_id, requested())
    eventually(lambda: bool(bus.dead_letters.list()))
    assert "died 2 times" in bus.dead_letters.list()[0].error


def test_an_event_that_cannot_be_read_becomes_a_dead_letter_and_lets_the_next_pass(
    bus, run, services, tenant_id
) -> None:
    function, seen = recorder()
    [unreadable] = emit(services, tenant_id, ingested())
    with services.database.system() as session:
        session.execute(
            text(
                "update outbox set envelope = jsonb_set(envelope, '{type}', '\"hounsfield.of.tomorrow\"') where id = :id"
            ),
            {"id": unreadable},
        )
    run(function)
    marker = ingested()
    emit(services, tenant_id, marker)
    eventually(lambda: seen == [marker])
    [letter] = bus.dead_letters.list()
    assert letter.event_id == unreadable
    assert "of.tomorrow" in letter.error


def test_what_is_away_costs_an_event_no_try_until_patience_ends(
    bus, run, services, settings, tenant_id
) -> None:
    function, tries, away = Function("waiting"), [], threading.Event()
    away.set()

    @function.on(StudyIngested)
    def work(event: StudyIngested, unit: UnitOfWork) -> None:
        tries.append(event)
        if away.is_set():
            raise Unavailable("the store is away")

    run(function)
    [event_id] = emit(services, tenant_id, ingested())
    with capture_logs() as logs:
        eventually(lambda: len(tries) > settings.max_attempts + 1)
        assert list(bus.dead_letters.list()) == []
        away.clear()
        eventually(lambda: settled(services, [event_id]))
    assert {entry["reason"] for entry in logs if "delivered again" in entry["event"]} == {"the store is away"}
    away.set()
    settings.patience_seconds = 0
    run(Function("impatient", handlers=function.handlers))  # gets the event too: it is kept
    eventually(lambda: [letter.function for letter in bus.dead_letters.list()] == ["impatient"])
    assert bus.dead_letters.list()[0].error == "the store is away"


def test_a_replayed_event_has_all_its_tries_again(bus, run, services, settings, tenant_id) -> None:
    function, tries = Function("stubborn"), []

    @function.on(StudyIngested)
    def fail(event: StudyIngested, unit: UnitOfWork) -> None:
        tries.append(event)
        raise ValueError("no")

    run(function)
    emit(services, tenant_id, ingested())
    eventually(lambda: len(bus.dead_letters.list()) == 1)
    bus.dead_letters.replay(bus.dead_letters.list()[0].id)
    eventually(lambda: len(bus.dead_letters.list()) == 1 and len(tries) == 2 * settings.max_attempts)


def test_replaying_twice_at_once_delivers_once(bus, run, services, tenant_id) -> None:
    function, broken, seen = Function("twice"), threading.Event(), []
    broken.set()

    @function.on(StudyIngested)
    def handle(event: StudyIngested, unit: UnitOfWork) -> None:
        if broken.is_set():
            raise Reject("broken deploy")
        seen.append(event)

    run(function)
    [event_id] = emit(services, tenant_id, ingested())
    eventually(lambda: len(bus.dead_letters.list()) == 1)
    broken.clear()
    letter = bus.dead_letters.list()[0].id

    def replay(_: int) -> bool:
        try:
            bus.dead_letters.replay(letter)
        except NotFound:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(replay, range(8))) == 1
    eventually(lambda: settled(services, [event_id]))
    assert len(seen) == 1


def test_a_dead_letter_is_kept_even_if_nobody_can_be_told(bus, run, services, tenant_id) -> None:
    function = Function("untellable")

    def tell(event: StudyIngested, unit: UnitOfWork, error: str) -> None:
        raise RuntimeError("cannot tell")

    @function.on(StudyIngested, on_dead=tell)
    def reject(event: StudyIngested, unit: UnitOfWork) -> None:
        raise Reject("bad \0 bytes")

    run(function)
    emit(services, tenant_id, ingested())
    eventually(lambda: len(bus.dead_letters.list()) == 1)
    error = bus.dead_letters.list()[0].error
    assert error.startswith("bad \ufffd bytes")
    assert "RuntimeError: cannot tell" in error


def test_running_work_survives_the_loss_of_every_database_connection(run, services, tenant_id) -> None:
    functions, runs = [Function(f"steady-{n}") for n in range(3)], []
    for function in functions:

        @function.on_long(InferenceRequested)
        def work(event: InferenceRequested, work: LongWork) -> None:
            runs.append(work.attempt)
            time.sleep(4)
            with work.final_unit():
                pass

        run(function)
    [event_id] = emit(services, tenant_id, requested())
    eventually(lambda: len(runs) == 3)
    for _ in range(2):
        cut_connections(services)
        time.sleep(1.2)
    eventually(lambda: settled(services, [event_id]))
    assert runs == [1, 1, 1]


def test_consumers_recover_when_the_database_was_away(run, services, tenant_id) -> None:
    function, seen = recorder()
    consumer = run(function)
    cut_connections(services)
    marker = ingested()
    eventually(lambda: try_emit(services, tenant_id, marker))
    eventually(lambda: seen == [marker])
    eventually(lambda: consumer.healthy)


def test_a_failure_while_stopping_is_not_held_against_the_event(
    bus, run, services, settings, tenant_id
) -> None:
    settings.max_attempts = 1
    function, started, fail = Function("stopped"), threading.Event(), threading.Event()

    @function.on_long(InferenceRequested)
    def work(event: InferenceRequested, work: LongWork) -> None:
        started.set()
        if work.attempt == 1:
            fail.wait(SECONDS)
            raise ConnectionError("the client was closed under it")

    consumer = run(function)
    [event_id] = emit(services, tenant_id, requested())
    assert started.wait(SECONDS)
    consumer.begin_stop()
    fail.set()
    assert consumer.stop(SECONDS)
    assert list(bus.dead_letters.list()) == []
    run(function)
    eventually(lambda: settled(services, [event_id]))


def test_a_tenant_sees_no_event_of_another(services, database, tenant_id) -> None:
    emit(services, tenant_id, ingested())
    other = make_tenant(database)
    with database.tenant(other) as session:
        assert session.scalar(select(func.count(OutboxEntry.id))) == 0
        assert session.scalar(select(func.count(DeadLetter.id))) == 0
    with database.tenant(tenant_id) as session:
        assert session.scalar(select(func.count(OutboxEntry.id))) == 1
        assert session.scalar(select(func.count(Tenant.id))) >= 1


def test_handled_events_are_forgotten_after_a_while_and_waiting_ones_never(
    bus, run, services, tenant_id
) -> None:
    function, _ = recorder()
    consumer = run(function)
    ids = emit(services, tenant_id, ingested())
    eventually(lambda: settled(services, ids))
    consumer.stop(SECONDS)
    emit(services, tenant_id, ingested())
    assert bus.clean(timedelta(days=1)) == 0
    assert bus.clean(timedelta(0)) == 1
    with services.database.system() as session:
        assert session.scalar(select(func.count(OutboxEntry.id))) == 1


def settled(services: Services, ids: list[UUID]) -> bool:
    """Whether every function is done with these events."""
    with services.database.system() as session:
        states = session.scalars(select(InboxEntry.state).where(InboxEntry.event_id.in_(ids))).all()
    return bool(states) and all(state == "done" for state in states)


def steal(services: Services, event: InferenceRequested) -> None:
    """Let the event's lease run out, as if its worker had hung."""
    with services.database.system() as session:
        session.execute(
            text(
                "update inbox set leased_until = now() - interval '1 hour', lease_worker = -1 where key = :key"
            ),
            {"key": event.key},
        )


def cut_connections(services: Services) -> None:
    """End every connection of this database, as a restart of the server would."""
    admin = create_engine(services.database.engine.url)
    with admin.begin() as connection:
        connection.execute(
            text(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )
        )
    admin.dispose()


def try_emit(services: Services, tenant_id: UUID, event: Event) -> bool:
    try:
        emit(services, tenant_id, event)
    except DBAPIError:
        return False
    return True
