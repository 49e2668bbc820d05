"""Mails leave by a real SMTP server or as files, with proper headers, encrypted where they can be."""

import email
import os
import ssl
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import default
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from structlog.testing import capture_logs

from functions.auth.mail.folder import FolderMailer
from functions.auth.mail.port import Mail, Mailer, NotSent, as_message
from functions.auth.mail.postman import KEPT, TRIES, Postman, clean_mails, mailer
from functions.auth.mail.smtp import SmtpMailer
from shared.config import Settings
from shared.runtime.services import Services
from tests.integration.installation import free_port

SENDER = "Hounsfield <noreply@hospital.example>"
LINK = "https://hounsfield.hospital.example/reset-password#token=hpr_" + "x" * 60
MAIL = Mail("anna@hospital.example", "Reset your password", f"Set a new one here:\n\n{LINK}\n\nBye.\n")
USER, PASSWORD = b"hounsfield", b"s3cret:@/"
LOG_IN = "hounsfield:s3cret%3A%40%2F@"


class Inbox:
    """What a mail server got, and how it is told to behave."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.encrypted: list[bool] = []
        self.users: list[object] = []
        self.log_ins = 0
        self.recipients_asked = 0
        self.answers: list[str] = []
        """What RCPT TO is answered, before it is answered with OK."""

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.recipients_asked += 1
        if self.answers:
            return self.answers.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.mails.append(read(envelope.content))
        assert server.transport is not None
        self.encrypted.append(server.transport.get_extra_info("ssl_object") is not None)
        self.users.append(session.auth_data)
        return "250 OK"

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        self.log_ins += 1
        assert isinstance(data, LoginPassword)
        good = (data.login, data.password) == (USER, PASSWORD)
        return AuthResult(success=good, handled=False, auth_data=data.login)


StartServer = Callable[..., str]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def smtp_server(inbox: Inbox) -> Iterator[StartServer]:
    """`smtp_server(…)`: `host:port` of a mail server that fills `inbox`."""
    with ExitStack() as stack:

        def start(**options: Any) -> str:
            controller = Controller(inbox, hostname="127.0.0.1", port=free_port(), **options)
            controller.start()
            stack.callback(controller.stop)
            return f"127.0.0.1:{controller.port}"

        yield start


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that signs itself, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.hospital.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    chain, secret = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(made.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, secret)
    return chain, context


@pytest.fixture
def trusted(certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The server's context; clients trust its certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    return certificate[1]


def read(content: bytes) -> EmailMessage:
    return email.message_from_bytes(content, policy=default)


def text_of(message: EmailMessage) -> str:
    text: str = message.get_content()
    return text.replace("\r\n", "\n")


def refused(sender: Mailer, mail: Mail = MAIL) -> NotSent:
    with pytest.raises(NotSent) as error:
        sender.send(mail)
    assert "anna" not in str(error.value)
    return error.value


class TestMessage:
    def test_has_the_headers_that_mail_servers_ask_for(self) -> None:
        message = read(as_message(MAIL, SENDER).as_bytes())
        assert message["From"] == SENDER
        assert message["To"] == MAIL.to
        assert message["Subject"] == MAIL.subject
        assert abs(parsedate_to_datetime(message["Date"]) - datetime.now(UTC)) < timedelta(minutes=1)
        assert message["Message-ID"].endswith("@hospital.example>")
        assert message["Auto-Submitted"] == "auto-generated"
        assert message.get_content_type() == "text/plain"
        assert text_of(message) == MAIL.text

    def test_no_two_have_the_same_id(self) -> None:
        assert as_message(MAIL, SENDER)["Message-ID"] != as_message(MAIL, SENDER)["Message-ID"]

    def test_a_long_link_stays_whole_for_whoever_reads_the_raw_mail(self) -> None:
        assert LINK.encode() + b"\r\n" in as_message(MAIL, SENDER).as_bytes()

    def test_text_that_is_not_ascii_arrives_too(self) -> None:
        text = "https://krankenhäuser.example/\n"
        assert text_of(read(as_message(Mail(MAIL.to, "Grüße", text), SENDER).as_bytes())) == text

    @pytest.mark.parametrize(
        "address",
        [
            "anna@hospital.example\r\nBcc: eve@evil.example",
            "anna@hospital.example\nSubject: hello",
            "anna@hospital.example, eve@evil.example",
            "eve@evil.example <anna@hospital.example>\r\nBcc: eve@evil.example",
            "anna",
            "@hospital.example",
            "",
        ],
    )
    def test_what_is_no_single_address_gets_no_mail(self, address: str) -> None:
        with pytest.raises(NotSent) as error:
            as_message(Mail(address, MAIL.subject, MAIL.text), SENDER)
        assert error.value.permanent

    @given(address=st.text() | st.from_regex(r"[a-z.!#]{1,8}@[a-z]{1,4}[,;\r\n <>\"@]*[a-z]{0,4}"))
    def test_no_address_adds_a_recipient_or_a_header(self, address: str) -> None:
        try:
            message = read(as_message(Mail(address, MAIL.subject, MAIL.text), SENDER).as_bytes())
        except NotSent:
            return
        plain = as_message(MAIL, SENDER)
        assert message.keys() == plain.keys()
        assert len(message["To"].addresses) == 1


class TestFolder:
    def test_a_mail_is_one_file_that_only_its_owner_reads(self, tmp_path: Path) -> None:
        folder = tmp_path / "data" / "mail"
        FolderMailer(folder, SENDER).send(MAIL)
        (file,) = folder.iterdir()
        assert file.suffix == ".eml"
        assert "anna" not in file.name
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert text_of(read(file.read_bytes())) == MAIL.text

    def test_files_are_in_the_order_that_they_were_sent_in(self, tmp_path: Path) -> None:
        for number in range(5):
            FolderMailer(tmp_path, SENDER).send(Mail(MAIL.to, f"{number}", ""))
        subjects = [read(file.read_bytes())["Subject"] for file in sorted(tmp_path.iterdir())]
        assert subjects == ["0", "1", "2", "3", "4"]

    def test_files_go_after_a_week_and_those_of_others_stay(
        self, services: Services, settings: Settings
    ) -> None:
        folder = settings.data_dir / "mail"
        assert clean_mails(services) == 0, "there is no folder yet"
        for _ in range(3):
            services.once(mailer).send(MAIL)
        recent, old, half = sorted(folder.iterdir())
        half = half.rename(folder / f".{half.name}.0123abcd")
        (folder / "a colleague's.eml").write_text("")
        for file in {*folder.iterdir()} - {recent}:
            os.utime(file, times=(time.time(), time.time() - KEPT.total_seconds() - 1))
        smtp = services.settings.model_copy(update={"smtp_url": SecretStr("smtp://mail.hospital.example")})
        assert clean_mails(Services(smtp, services.database, services.storage)) == 2
        assert not old.exists() and not half.exists()
        assert {file.name for file in folder.iterdir()} == {recent.name, "a colleague's.eml"}

    def test_a_folder_that_cannot_be_is_a_failure_that_may_pass(self, tmp_path: Path) -> None:
        (tmp_path / "mail").write_text("a file")
        assert not refused(FolderMailer(tmp_path / "mail", SENDER)).permanent


class TestSmtp:
    def test_a_server_without_tls_gets_a_mail_that_needs_no_log_in(
        self, smtp_server: StartServer, inbox: Inbox
    ) -> None:
        SmtpMailer(f"smtp://{smtp_server()}", SENDER).send(MAIL)
        (mail,) = inbox.mails
        assert (mail["To"], mail["From"], text_of(mail)) == (MAIL.to, SENDER, MAIL.text)

    def test_starttls_is_used_where_it_is_offered(
        self, smtp_server: StartServer, inbox: Inbox, trusted: ssl.SSLContext
    ) -> None:
        SmtpMailer(f"smtp://{smtp_server(tls_context=trusted)}", SENDER).send(MAIL)
        assert inbox.encrypted == [True]

    def test_credentials_are_sent_by_starttls(
        self, smtp_server: StartServer, inbox: Inbox, trusted: ssl.SSLContext
    ) -> None:
        server = smtp_server(tls_context=trusted, authenticator=inbox.authenticate, auth_required=True)
        SmtpMailer(f"smtp://{LOG_IN}{server}", SENDER).send(MAIL)
        assert (inbox.encrypted, inbox.users) == ([True], [USER])

    def test_credentials_are_sent_by_tls_from_the_start(
        self, smtp_server: StartServer, inbox: Inbox, trusted: ssl.SSLContext
    ) -> None:
        server = smtp_server(ssl_context=trusted, authenticator=inbox.authenticate, auth_require_tls=False)
        SmtpMailer(f"smtps://{LOG_IN}{server}", SENDER).send(MAIL)
        assert (inbox.encrypted, inbox.users) == ([True], [USER])

    def test_wrong_credentials_are_not_tried_again(
        self, smtp_server: StartServer, inbox: Inbox, trusted: ssl.SSLContext
    ) -> None:
        server = smtp_server(tls_context=trusted, authenticator=inbox.authenticate, auth_required=True)
        error = refused(SmtpMailer(f"smtp://hounsfield:wrong@{server}", SENDER))
        assert (error.permanent, "535" in str(error), inbox.mails) == (True, True, [])

    def test_a_server_without_starttls_never_sees_the_password(
        self, smtp_server: StartServer, inbox: Inbox
    ) -> None:
        server = smtp_server(authenticator=inbox.authenticate, auth_require_tls=False)
        error = refused(SmtpMailer(f"smtp://{LOG_IN}{server}", SENDER))
        assert error.permanent and "STARTTLS" in str(error)
        assert (inbox.log_ins, inbox.mails) == (0, [])

    @pytest.mark.parametrize(("scheme", "option"), [("smtp", "tls_context"), ("smtps", "ssl_context")])
    def test_a_server_whose_certificate_nobody_vouches_for_gets_nothing(
        self,
        smtp_server: StartServer,
        inbox: Inbox,
        certificate: tuple[Path, ssl.SSLContext],
        scheme: str,
        option: str,
    ) -> None:
        server = smtp_server(**{option: certificate[1]})
        error = refused(SmtpMailer(f"{scheme}://{server}", SENDER))
        assert "SSLCertVerificationError" in str(error)
        assert inbox.mails == []

    @pytest.mark.parametrize(("code", "permanent"), [(550, True), (451, False)])
    def test_the_servers_code_tells_whether_to_try_again(
        self, smtp_server: StartServer, inbox: Inbox, code: int, permanent: bool
    ) -> None:
        inbox.answers = [f"{code} no mailbox <anna@hospital.example>"]
        error = refused(SmtpMailer(f"smtp://{smtp_server()}", SENDER))
        assert (error.permanent, str(code) in str(error)) == (permanent, True)

    def test_a_server_that_is_down_may_be_up_again(self) -> None:
        error = refused(SmtpMailer(f"smtp://127.0.0.1:{free_port()}", SENDER))
        assert not error.permanent

    @pytest.mark.parametrize(
        "url", ["mail.hospital.example", "http://mail", "smtp://", "smtp://mail/x", "smtp://u:pä@mail"]
    )
    def test_an_address_that_is_none_is_refused_at_once(self, url: str) -> None:
        with pytest.raises(ValueError, match="SMTP"):
            SmtpMailer(url, SENDER)


class TestPostman:
    def test_tries_again_until_the_server_takes_it(self, smtp_server: StartServer, inbox: Inbox) -> None:
        inbox.answers = ["451 later", "421 too busy"]
        postman = Postman(SmtpMailer(f"smtp://{smtp_server()}", SENDER), first_wait=0.01)
        assert postman.deliver(MAIL)
        assert (inbox.recipients_asked, len(inbox.mails)) == (3, 1)

    def test_gives_up_after_some_tries_and_logs_neither_address_nor_text(
        self, smtp_server: StartServer, inbox: Inbox
    ) -> None:
        inbox.answers = ["451 <anna@hospital.example> later"] * 10
        postman = Postman(SmtpMailer(f"smtp://{smtp_server()}", SENDER), first_wait=0.01)
        with capture_logs() as logs:
            assert not postman.deliver(MAIL, user_id="42")
        assert inbox.recipients_asked == TRIES
        (line,) = logs
        assert (line["event"], line["log_level"], line["user_id"]) == ("mail not sent", "error", "42")
        assert "anna" not in str(line) and "hpr_" not in str(line)

    def test_tries_once_what_is_refused_for_good(self, smtp_server: StartServer, inbox: Inbox) -> None:
        inbox.answers = ["550 no such mailbox"]
        assert not Postman(SmtpMailer(f"smtp://{smtp_server()}", SENDER), first_wait=60).deliver(MAIL)
        assert (inbox.recipients_asked, inbox.mails) == (1, [])


class TestChoice:
    def test_without_a_server_mails_are_files_under_the_data_folder(
        self, services: Services, settings: Settings
    ) -> None:
        services.once(mailer).send(MAIL)
        assert len(list((settings.data_dir / "mail").glob("*.eml"))) == 1

    def test_or_in_the_folder_that_is_named(self, services: Services, tmp_path: Path) -> None:
        elsewhere = services.settings.model_copy(update={"mail_dir": tmp_path / "elsewhere"})
        mailer(Services(elsewhere, services.database, services.storage)).send(MAIL)
        assert len(list((tmp_path / "elsewhere").glob("*.eml"))) == 1
