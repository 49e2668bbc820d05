"""Mails by SMTP (RFC 5321), encrypted by TLS from the start (RFC 8314) or by STARTTLS (RFC 3207)."""

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from functions.auth.mail.port import Mail, NotSent, as_message

TIMEOUT_SECONDS = 10
PORTS = {"smtp": smtplib.SMTP_PORT, "smtps": smtplib.SMTP_SSL_PORT}


class SmtpMailer:
    """Sends through one mail server, with a connection of its own for each mail: they are few.

    A certificate is checked wherever TLS is spoken; SSL_CERT_FILE names a hospital's own authority.
    """

    def __init__(self, url: str, sender: str, timeout: float = TIMEOUT_SECONDS) -> None:
        """`smtp://` or `smtps://[user:password@]host[:port]`. Raises ValueError for any other."""
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname or parts.path.strip("/"):
            raise ValueError("the SMTP URL must be smtp://[user:password@]host[:port] or smtps://…")
        self._host = parts.hostname
        self._port = parts.port or PORTS[parts.scheme]
        self._tls_first = parts.scheme == "smtps"
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")
        if not (self._user + self._password).isascii():
            raise ValueError(
                "the SMTP user and password must be ASCII: the log-ins that servers take know no other"
            )
        self._sender = sender
        self._timeout = timeout

    def send(self, mail: Mail) -> None:
        """Raises NotSent."""
        message = as_message(mail, self._sender)
        try:
            with self._connection() as server:
                self._send(server, message)
        except smtplib.SMTPResponseException as error:  # its text may quote the address
            raise _refusal(error.smtp_code) from None
        except smtplib.SMTPRecipientsRefused as error:
            raise _refusal(max(code for code, _ in error.recipients.values())) from None
        except smtplib.SMTPNotSupportedError:
            raise NotSent("the mail server does not take such addresses or log-ins", permanent=True) from None
        except OSError as error:  # among them smtplib.SMTPException, ssl.SSLError, timeouts
            name = type(error).__name__
            raise NotSent(f"the mail server cannot be talked to: {name}", permanent=False) from None

    @contextmanager
    def _connection(self) -> Iterator[smtplib.SMTP]:
        """An encrypted connection wherever the server offers one. Raises NotSent where credentials would be read."""
        context = ssl.create_default_context()
        if self._tls_first:
            with smtplib.SMTP_SSL(self._host, self._port, timeout=self._timeout, context=context) as server:
                yield server
            return
        with smtplib.SMTP(self._host, self._port, timeout=self._timeout) as server:
            server.ehlo_or_helo_if_needed()
            if server.has_extn("starttls"):
                server.starttls(context=context)
            elif self._user:
                raise NotSent(
                    "the mail server offers no STARTTLS, and without it the password is not sent",
                    permanent=True,
                )
            yield server

    def _send(self, server: smtplib.SMTP, message: EmailMessage) -> None:
        if self._user:
            server.login(self._user, self._password)
        server.send_message(message)


def _refusal(code: int) -> NotSent:
    """A reply of the 500s is final, one of the 400s is not (RFC 5321 §4.2.1)."""
    return NotSent(f"the mail server refused it with code {code}", permanent=500 <= code < 600)
