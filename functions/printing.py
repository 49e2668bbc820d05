"""What the command line prints: progress, findings, dead letters, and errors in one line each."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from shared.client import CallFailed, Client, Study
from shared.client import Progress as Sent
from shared.errors import HounsfieldError

if TYPE_CHECKING:  # who only submits studies need not have SQLAlchemy
    from shared.db.models import DeadLetter

WAIT_SECONDS = 1800.0
MENDABLE = (
    HounsfieldError,
    CallFailed,
    OSError,
    httpx.HTTPError,
    httpx.InvalidURL,
    ValueError,
    ModuleNotFoundError,
)
"""What `explain` has words for; ValueError includes pydantic's ValidationError."""


class DatabaseTrouble(HounsfieldError):
    """The database refused or is not there."""


def safe(text: object) -> str:
    """Somebody else's text on one line, without control characters, and none of it taken for markup."""
    return escape(one_line(text))


def one_line(text: object) -> str:
    """The text with every control character, line ends and tabs among them, made a space."""
    return "".join(" " if unicodedata.category(char) in ("Cc", "Cs") else char for char in str(text))


def explain(error: BaseException) -> list[str]:
    """What is wrong, a line for each mistake."""
    match error:
        case HounsfieldError() | CallFailed():
            return [error.detail]
        case ValidationError():
            return [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        case OSError() if error.strerror:
            return [f"{error.filename}: {error.strerror}" if error.filename else error.strerror]
        case SettingsError():
            # Its own words name a class of pydantic's; the value itself may be secret.
            field = error.args[0].partition('"')[2].partition('"')[0]
            return [f"{field}: it is written as JSON; `hounsfield config` tells what it holds"]
        case ModuleNotFoundError():
            return [f"this command runs on a server, which needs `pip install hounsfield[local]`: {error}"]
        case httpx.InvalidURL():
            return [f"not a URL: {error}"]
    return [str(error) or type(error).__name__]


@contextmanager
def database_errors() -> Iterator[None]:
    """Raise DatabaseTrouble for what goes wrong with the database, in our words: its own quote parts of the URL,
    which holds a password, and of rows."""
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    try:
        yield
    except DBAPIError as error:
        code = getattr(error.orig, "pgcode", None)
        what = type(error.orig).__name__ + (f", SQLSTATE {code}" if code else "")
        raise DatabaseTrouble(
            f"the database does not answer as it should ({what}): see that it runs, that HOUNSFIELD_DATABASE_URL"
            " is right, and that `hounsfield migrate` was run"
        ) from error
    except SQLAlchemyError as error:
        raise DatabaseTrouble(f"the database cannot be used ({type(error).__name__})") from error


def check_database_url(url: str) -> None:
    """Raise DatabaseTrouble for what is no SQLAlchemy URL of PostgreSQL by psycopg2; the URL is not repeated."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        good = make_url(url).drivername == "postgresql+psycopg2"
    except (ArgumentError, ValueError):
        good = False
    if not good:
        raise DatabaseTrouble(
            "HOUNSFIELD_DATABASE_URL has the form postgresql://user:password@host:5432/name"
        )


@contextmanager
def sending_progress(console: Console) -> Iterator[Callable[[Sent], None]]:
    """A bar with bytes, rate and the time that is left, moved by what is called with how far the sending is."""
    columns = (
        TextColumn("{task.description:<16}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        lines: list[TaskID] = []

        def move(sent: Sent) -> None:
            if not lines:  # what an earlier run sent says nothing of the rate
                lines.append(bar.add_task("sending", total=sent.total, completed=sent.before))
            bar.update(lines[0], completed=sent.done)

        yield move


def wait_with_progress(console: Console, client: Client, study_id: str) -> Study:
    """Show a progress bar until the study ended, with results or without."""
    columns = (
        TextColumn("{task.description:<16}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        line = bar.add_task("received", total=100)
        return client.wait(
            study_id,
            lambda now: bar.update(
                line, description=one_line(now.step or now.status), completed=now.progress
            ),
            WAIT_SECONDS,
        )


def outcome(study: Study) -> str:
    """In words, why a study has no results."""
    if study.held:
        return f"the study is held until a person has looked at it: {'; '.join(study.held)}"
    if study.status == "ingested" and study.task is None:
        return f"the study is ingested; nothing analyses {study.kind or 'its kind'} yet"
    return f"the study is {study.status}: {study.message}"


def show_findings(console: Console, study: Study) -> None:
    """Print findings under the model that each is from, skipped steps and warnings; nothing for a study without."""
    if study.results is None:
        return
    table = Table("finding", "value", "probability")
    model = None
    for finding in study.results.findings:
        if (named := f"{finding.model} v{finding.model_version}") != model:
            model = named
            table.add_section()
            table.add_row(f"[bold]{safe(model)}[/]")
        number = "" if finding.number is None else f"{finding.number:.1f} {finding.unit}"
        chance = "" if finding.probability is None else f"{finding.probability:.3f}"
        table.add_row(f"  {safe(finding.display)}", safe(finding.value or number), chance)
    console.print(table)
    for step, reason in study.results.skipped.items():
        console.print(f"{safe(step)}: skipped: {safe(reason)}", highlight=False)
    for warning in study.results.warnings:
        console.print(f"[yellow]note:[/] {safe(warning)}", highlight=False)


def show_letters(console: Console, letters: Iterable["DeadLetter"]) -> None:
    """Two lines each for people; for a pipe, one each, its fields parted by tabs, nothing cut short."""
    for letter in letters:
        if console.is_terminal:
            event = f"{letter.function}: {letter.type}, given up after {letter.attempts} tries"
            console.print(f"[bold]{letter.id}[/]  {safe(event)}", highlight=False)
            console.print(f"  {safe(letter.error)}", highlight=False)
        else:
            fields = (letter.id, letter.function, letter.type, letter.key, letter.attempts, letter.error)
            console.file.write("\t".join(one_line(field) for field in fields) + "\n")
