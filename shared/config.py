"""Every setting, once. Each is an environment variable `HOUNSFIELD_<NAME>`; `hounsfield config` prints them all.

Secrets may come from files: with `HOUNSFIELD_SECRETS_DIR=/run/secrets`, a file named after the variable in lower
case holds its value.
"""

import os
import re
from functools import cached_property
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.peers import is_title, parse_peers

MIN_TOKEN = 16
"""Characters of a token that somebody thinks up."""
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
"""What browsers send: small letters, no path (RFC 6454 §6.2)."""


class Settings(BaseSettings):
    """Configuration of every function and model server."""

    model_config = SettingsConfigDict(env_prefix="HOUNSFIELD_", extra="ignore")

    # Where things are
    data_dir: Path = Field(Path(".hounsfield"), description="one machine: database, objects, keys, drop-box")
    host: str = Field("127.0.0.1", description="address the HTTP server binds")
    port: int = Field(8000, ge=0, le=65535, description="port the HTTP server binds; 0 takes a free one")
    public_url: str | None = Field(None, description="base URL that clients use; default http(s)://HOST:PORT")

    # Database
    database_url: SecretStr | None = Field(
        None,
        description="postgresql://user:password@host:5432/name; unset starts an embedded server under DATA_DIR",
    )
    database_pool_size: int = Field(
        10, ge=1, description="database connections kept open per process; five times as many under load"
    )

    # Object storage
    storage_url: str | None = Field(
        None, description="s3://[endpoint host:port] or file:///folder; unset is DATA_DIR/objects"
    )
    s3_endpoint_url: str | None = Field(None, description="S3 endpoint; unset is AWS's own")
    s3_region: str = Field("us-east-1", description="S3 region")
    s3_access_key: SecretStr | None = Field(None, description="S3 access key; unset takes boto3's own chain")
    s3_secret_key: SecretStr | None = Field(None, description="S3 secret key")
    bucket_prefix: str = Field("hounsfield-", description="put before incoming, studies, models")

    # Events
    events_token: SecretStr | None = Field(
        None, description="token that POST /events asks for; unset closes the route but to EVENTS_NETWORKS"
    )
    events_networks: Annotated[list[str], NoDecode] = Field(
        [],
        description="comma-separated addresses or networks that may send notices of new objects without the token: of an "
        "object store that cannot send one",
    )
    lease_seconds: float = Field(
        60, gt=0, description="a worker that has not renewed for this long loses its event"
    )
    max_attempts: int = Field(5, ge=1, description="tries of an event before it becomes a dead letter")
    patience_seconds: float = Field(
        86400,
        ge=0,
        description="how long an event waits for a dependency that is away, before it is a dead letter",
    )
    max_crashes: int = Field(
        25, ge=1, description="worker deaths over one event before it becomes a dead letter"
    )
    retry_base_seconds: float = Field(
        1, gt=0, description="first retry delay; doubles each time, with jitter"
    )
    retry_cap_seconds: float = Field(300, gt=0, description="longest retry delay")
    drain_seconds: float = Field(20, ge=0, description="how long a stop waits for running handlers")
    keep_events_hours: float = Field(
        168, gt=0, description="how long delivered events are kept for deduplication"
    )

    # Security
    admin_email: str | None = Field(
        None, description="at start, makes this administrator where there is none"
    )
    admin_password: SecretStr | None = Field(None, description="password of the first administrator")
    access_token_minutes: int = Field(15, ge=1, le=60, description="life of an access token")
    refresh_token_hours: float = Field(
        24,
        gt=0,
        description="how long a session may rest before it must be refreshed; each refresh starts anew",
    )
    session_days: float = Field(7, gt=0, description="longest life of a session, however often refreshed")
    revocation_seconds: float = Field(
        2, gt=0, description="how long other processes may take to heed that a session or account was ended"
    )
    trusted_proxies: Annotated[list[str], NoDecode] = Field(
        [],
        description="comma-separated addresses or networks whose X-Forwarded-For and -Proto are believed",
    )
    account_failures: int = Field(
        10, ge=1, description="wrong passwords for one account before it is locked for LOCK_MINUTES"
    )
    address_failures: int = Field(
        100, ge=1, description="wrong passwords from one address before it is locked out for LOCK_MINUTES"
    )
    lock_minutes: float = Field(15, gt=0, description="how long a lock lasts, and how long failures count")
    registrations_per_hour: int = Field(100, ge=1, description="accounts that one address may register")
    resets_per_hour: int = Field(
        5, ge=1, description="password resets that may be asked for, for one account"
    )
    reset_minutes: float = Field(30, gt=0, description="life of a password reset token")
    tls_cert_file: Path | None = Field(None, description="certificate chain, PEM; with its key: serve HTTPS")
    tls_key_file: Path | None = Field(
        None, validate_default=True, description="private key of the certificate, PEM"
    )
    keys_dir: Path | None = Field(
        None,
        description="folder of the key rings, never written to but by `hounsfield keys`; "
        "unset is DATA_DIR/keys, where missing keys are made",
    )
    jwks_url: str | None = Field(
        None, description="where other functions read the public keys; unset reads the key folder"
    )
    bcrypt_cost: int = Field(12, ge=4, le=20, description="work of a password hash; each step doubles it")
    allow_registration: bool = Field(True, description="whether anybody may register an account")
    cors_origins: Annotated[list[str], NoDecode] = Field(
        [], description="comma-separated origins that browsers may call from"
    )

    # Mail
    smtp_url: SecretStr | None = Field(
        None,
        description="smtp://[user:password@]host[:port] (STARTTLS where offered) or smtps://…; "
        "unset writes mails to MAIL_DIR",
    )
    mail_from: str = Field("hounsfield@localhost", description="sender of mails")
    mail_dir: Path | None = Field(
        None, description="folder of mails where no SMTP server is set; unset is DATA_DIR/mail"
    )

    # Log-in elsewhere (OpenID Connect)
    oidc_issuer: str | None = Field(
        None, description="issuer URL of the identity provider; unset closes the way"
    )
    oidc_client_id: str | None = Field(None, description="our client id there")
    oidc_client_secret: SecretStr | None = Field(None, description="our client secret there")
    oidc_scopes: str = Field("openid email profile", description="scopes that are asked for")
    oidc_ca_file: Path | None = Field(
        None, description="certificate authorities that the provider may have beside the usual ones, PEM"
    )
    oidc_role_claim: str | None = Field(
        None, description="claim that names the role, or a list of groups; unset gives new accounts `user`"
    )
    oidc_roles: dict[str, str] = Field({}, description="JSON object: value of OIDC_ROLE_CLAIM → role")

    # What comes in
    upload_hours: float = Field(48, gt=0, description="an upload that is not finished by then is dropped")
    url_minutes: float = Field(60, gt=0, le=7 * 24 * 60, description="life of a signed URL for a part")
    settle_seconds: float = Field(
        30,
        ge=0,
        description="quiet time after which a study that arrives piece by piece is taken as complete",
    )
    reconcile_minutes: float = Field(
        15,
        gt=0,
        description="how often `hounsfield up` looks in the bucket incoming for what no notice told of",
    )
    incoming_dir: Path | None = Field(
        None, description="watched folder, laid out as the bucket incoming; unset is DATA_DIR/incoming"
    )
    incoming_owner: str | None = Field(
        None,
        description="e-mail or username of the account that owns what comes by bucket, folder or DICOM; unset is the "
        "tenant's oldest administrator",
    )
    deidentify: bool = Field(True, description="whether DICOM images and slides are de-identified on ingest")
    keep_originals: bool = Field(
        False, description="whether what was sent is kept as it was sent, beside what ingest made of it"
    )
    work_dir: Path | None = Field(
        None, description="folder for temporary files, with room for the largest study; unset is the system's"
    )
    slide_cache_bytes: int = Field(
        20 << 30,
        ge=0,
        description="slides that the viewer keeps at hand in WORK_DIR where they are stored in S3",
    )

    # DICOM network
    dicom_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port of the DICOM node (C-ECHO, C-STORE); unset: it is off; 0 takes any",
    )
    dicom_ae_title: str = Field("HOUNSFIELD", description="application entity title of the DICOM node")
    dicom_peers: dict[str, str] = Field(
        {},
        description="JSON object: calling AE title that may associate → its address or network, or * for any; "
        "then perhaps `;tenant=<slug>`; with none, nobody may",
    )
    dicom_host: str | None = Field(None, description="address the DICOM node binds; unset is HOST")
    dicom_tls_cert_file: Path | None = Field(
        None, description="certificate chain of the DICOM node, PEM; with its key: TLS only"
    )
    dicom_tls_key_file: Path | None = Field(
        None, validate_default=True, description="private key of that certificate, PEM"
    )
    dicom_tls_ca_file: Path | None = Field(
        None,
        validate_default=True,
        description="authorities, PEM, of which a peer's certificate must be; unset: none is asked for",
    )
    dicom_associations: int = Field(20, ge=1, description="DICOM associations at a time")
    dicom_seconds: float = Field(
        30, gt=0, description="how long a DICOM peer may take to ask for its association, and for each PDU"
    )
    dicom_idle_seconds: float = Field(120, gt=0, description="how long an open DICOM association may rest")
    dicom_association_bytes: int = Field(
        64 << 30, ge=1, description="most that one DICOM association may send; then it is aborted"
    )

    # Limits
    max_upload_bytes: int = Field(
        1 << 30, ge=1, description="largest request body, and largest file of any kind but a slide"
    )
    max_slide_bytes: int = Field(50 << 30, ge=1, description="largest whole-slide image")
    min_slide_bytes: int = Field(
        1 << 20, ge=0, description="smallest whole-slide image, where the sender says that it is one"
    )
    max_archive_bytes: int = Field(10 << 30, ge=1, description="most that an archive may unpack to")
    quota_bytes: int | None = Field(
        None, ge=0, description="what a tenant's studies and uploads may take; unset: no limit"
    )
    max_head_bytes: int = Field(
        32 << 10, ge=1 << 10, description="largest head of a request: its line and its headers"
    )
    max_connections: int = Field(
        500,
        ge=1,
        description="open connections, at most half of them from one address that is no trusted proxy; one more "
        "takes the place of the one that keeps us waiting longest",
    )
    head_seconds: float = Field(10, gt=0, description="a request's head must have come by then")
    body_seconds: float = Field(30, gt=0, description="longest silence in a body that is sent")
    answer_seconds: float = Field(
        120, gt=0, description="how long a client may read nothing of an answer that waits for it"
    )
    idle_seconds: int = Field(
        75, ge=1, description="how long a connection may rest between requests; more than a proxy in front"
    )
    max_volume_bytes: int = Field(
        1 << 30, ge=1, description="largest volume, and all volumes of a study together, once decompressed"
    )

    # Models
    catalogue_dir: Path = Field(
        Path(__file__).resolve().parents[1] / "serving" / "catalogue", description="folder of model packages"
    )
    model_url: str | None = Field(
        None, description="Open Inference Protocol server; unset starts one locally"
    )
    model_urls: dict[str, str] = Field({}, description="JSON object: model name → its own server's URL")
    model_timeout_seconds: float = Field(600, gt=0, description="deadline of one model call")
    threads: int = Field(os.cpu_count() or 1, ge=1, description="compute threads of a model server process")

    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")
    log_format: str = Field("json", description="json, or console for people")

    @field_validator("cors_origins", "trusted_proxies", "events_networks", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value
        )

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: list[str]) -> list[str]:
        """What a browser sends as Origin is compared letter by letter; `*` may not be had with credentials."""
        for origin in value:
            if not ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin} is no origin; write https://host or https://host:port, without a path"
                )
        return value

    @field_validator("trusted_proxies", "events_networks")
    @classmethod
    def _are_networks(cls, value: list[str]) -> list[str]:
        for network in value:
            try:
                ip_network(network)
            except ValueError as error:
                raise ValueError(f"{error}; write an address, or a network such as 10.0.0.0/8") from None
        return value

    @field_validator("tls_key_file")
    @classmethod
    def _has_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if (value is None) != (info.data.get("tls_cert_file") is None):
            raise ValueError("HTTPS needs both TLS_CERT_FILE and TLS_KEY_FILE; only one of them is set")
        return value

    @field_validator("events_token")
    @classmethod
    def _is_a_secret(cls, value: SecretStr | None) -> SecretStr | None:
        """Empty is unset: a variable that a template left empty must not open the route to everybody."""
        if value is None or not value.get_secret_value().strip():
            return None
        if len(value.get_secret_value()) < MIN_TOKEN:
            raise ValueError(
                f"a token has at least {MIN_TOKEN} characters; `openssl rand -hex 32` makes a good one"
            )
        return value

    @field_validator("dicom_peers")
    @classmethod
    def _are_peers(cls, value: dict[str, str]) -> dict[str, str]:
        parse_peers(value)
        return value

    @field_validator("dicom_ae_title")
    @classmethod
    def _is_title(cls, value: str) -> str:
        if not is_title(value):
            raise ValueError("1 to 16 printable ASCII characters, no backslash, no space at its ends")
        return value

    @field_validator("dicom_tls_key_file")
    @classmethod
    def _has_dicom_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if (value is None) != (info.data.get("dicom_tls_cert_file") is None):
            raise ValueError("DICOM over TLS needs both DICOM_TLS_CERT_FILE and DICOM_TLS_KEY_FILE")
        return value

    @field_validator("dicom_tls_ca_file")
    @classmethod
    def _is_with_tls(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("dicom_tls_cert_file") is None:
            raise ValueError("client certificates are asked for over TLS; set DICOM_TLS_CERT_FILE too")
        return value

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.upper() not in LOG_LEVELS:
            raise ValueError(f"one of {', '.join(LOG_LEVELS)}, in either case")
        return value.upper()

    @field_validator("database_url", mode="before")
    @classmethod
    def _with_driver(cls, value: object) -> object:
        """SQLAlchemy would take a URL without a driver for psycopg 3's."""
        return (
            re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", value) if isinstance(value, str) else value
        )

    @field_validator("public_url")
    @classmethod
    def _as_browsers_write_it(cls, value: str | None) -> str | None:
        """Origins are compared letter by letter: the host in small letters, no port that the scheme implies."""
        if value is None:
            return None
        url = urlsplit(value)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("a URL such as https://hounsfield.hospital.example")
        host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        port = "" if url.port in (None, {"http": 80, "https": 443}[url.scheme]) else f":{url.port}"
        return f"{url.scheme}://{host}{port}{url.path}".rstrip("/")

    @property
    def base_url(self) -> str:
        """Where clients reach us: PUBLIC_URL, or where we listen."""
        scheme = "https" if self.tls_cert_file else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"{scheme}://{host}:{self.port}"

    @cached_property
    def objects_dir(self) -> Path:
        """The folder store's root on one machine."""
        return self.data_dir / "objects"


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment, with files of HOUNSFIELD_SECRETS_DIR where it is set."""
    return Settings(_secrets_dir=os.environ.get("HOUNSFIELD_SECRETS_DIR"), **overrides)  # type: ignore[arg-type]
