"""Sends mails after the request that caused them was answered, and tries again where that helps."""

from asyncio import wrap_future
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta

import structlog
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

from functions.auth.mail.folder import FolderMailer
from functions.auth.mail.port import Mail, Mailer, NotSent
from functions.auth.mail.smtp import SmtpMailer
from shared.runtime.services import Services

log = structlog.get_logger(__name__)

TRIES = 4
FIRST_WAIT_SECONDS = 1.0
KEPT = timedelta(days=7)
THREADS = 2
"""Few and of its own, so that a mail server that hangs takes no thread away from requests."""


class Postman:
    """The only one who knows the mailer."""

    def __init__(self, mailer: Mailer, first_wait: float) -> None:
        self._mailer = mailer
        self._first_wait = first_wait
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mail")

    async def after(self, work: Callable[[], None]) -> None:
        """Do `work` in one of the postman's threads, within the trace of now: a Starlette background task."""
        await wrap_future(self._threads.submit(copy_context().run, work))

    def deliver(self, mail: Mail, **about: str) -> bool:
        """Send a mail, with some tries. One that cannot be sent is logged with `about` and forgotten."""
        tries = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, NotSent) and not error.permanent),
            wait=wait_exponential(self._first_wait, max=30) + wait_random(0, self._first_wait),
            stop=stop_after_attempt(TRIES),
            reraise=True,
        )
        try:
            tries(self._mailer.send, mail)
        except NotSent as error:
            log.error("mail not sent", reason=str(error), **about)
            return False
        return True

    def close(self) -> None:
        """Wait for what is being sent."""
        self._threads.shutdown()


def mailer(services: Services) -> Mailer:
    """The process's mailer (`services.once(mailer)`). Raises ValueError for an SMTP_URL that is none."""
    settings = services.settings
    if settings.smtp_url is not None:
        return SmtpMailer(settings.smtp_url.get_secret_value(), settings.mail_from)
    return _folder(services)


def clean_mails(services: Services) -> int:
    """Delete files of mails after a week, also where mails are sent by SMTP today; returns how many."""
    return _folder(services).clean(KEPT)


def postman(services: Services) -> Postman:
    """The process's postman (`services.once(postman)`)."""
    return Postman(services.once(mailer), FIRST_WAIT_SECONDS)


def _folder(services: Services) -> FolderMailer:
    settings = services.settings
    return FolderMailer(settings.mail_dir or settings.data_dir / "mail", settings.mail_from)
