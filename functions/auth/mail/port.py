"""What a mail is, and what sends it."""

import re
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime, make_msgid, parseaddr
from typing import Protocol

from functions.auth.accounts.schemas import EMAIL


class NotSent(Exception):
    """A mail could not be handed on. The text names no address and quotes no server: it is logged."""

    def __init__(self, reason: str, *, permanent: bool) -> None:
        super().__init__(reason)
        self.permanent = permanent
        """Whether trying again would be of no use."""


@dataclass(frozen=True)
class Mail:
    """Plain text to one address."""

    to: str
    subject: str
    text: str


class Mailer(Protocol):
    """Hands mails on."""

    def send(self, mail: Mail) -> None:
        """Return once the mail is in others' hands. Raises NotSent."""


def as_message(mail: Mail, sender: str) -> EmailMessage:
    """The mail with its headers (RFC 5322). Raises NotSent for an address that is none: one with a line break, say,
    could add a header or a recipient."""
    message = EmailMessage(policy=SMTP)
    try:
        from_address = _address(sender)
        message["From"] = from_address
        message["To"] = _address(mail.to)
        message["Subject"] = mail.subject
    except ValueError:
        raise NotSent("the sender or the recipient has no proper address", permanent=True) from None
    message["Date"] = format_datetime(localtime())
    message["Message-ID"] = make_msgid(domain=from_address.domain)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    # As it is where that is possible: line breaks put into a long link would spoil it for readers of the file.
    message.set_content(mail.text, cte="7bit" if mail.text.isascii() else None)
    return message


def _address(text: str) -> Address:
    """`name@host` or `A name <name@host>`. Raises ValueError."""
    display, spec = parseaddr(text) if text.endswith(">") else ("", text)
    name, _, host = spec.rpartition("@")
    if not text.isprintable() or not re.fullmatch(EMAIL, spec):
        raise ValueError("an address looks like name@hospital.example")
    return Address(display, name, host)
