"""`hounsfield buckets …`: what docs/buckets.md tells of."""

from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlsplit, urlunsplit

import typer

from functions.cli.helpers import out, settings_with
from functions.printing import safe
from shared.config import Settings
from shared.errors import Conflict, Invalid

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(help="Buckets of the object store.", no_args_is_help=True)
NAME = "hounsfield"
"""What the topic and the notification are called, and the user in the endpoint's address."""
EVENTS = ["s3:ObjectCreated:*"]


@app.callback()
def buckets() -> None:
    """Buckets of the object store."""


@app.command()
def notify(
    url: Annotated[
        str, typer.Option(help="where the store reaches us, such as https://hounsfield.example/api/events")
    ],
    topic: Annotated[str, typer.Option(help="name of the topic")] = NAME,
    persistent: Annotated[
        bool, typer.Option("--persistent", help="let the gateway keep notices until we took them")
    ] = False,
    verify: Annotated[bool, typer.Option(help="whether the gateway checks our certificate")] = True,
) -> None:
    """Have Ceph tell us of every new object in the bucket `incoming`; may be done again, and changes nothing then."""
    settings = settings_with()
    attributes = {
        "push-endpoint": endpoint(settings, url),
        "verify-ssl": str(verify).lower(),
        **({"persistent": "true"} if persistent else {}),
    }
    bucket = f"{settings.bucket_prefix}incoming"
    s3, sns = _clients(settings)
    arn = _asked(lambda: sns.create_topic(Name=topic, Attributes=attributes))["TopicArn"]
    now = _asked(lambda: s3.get_bucket_notification_configuration(Bucket=bucket))
    ours = {"Id": NAME, "TopicArn": arn, "Events": EVENTS}
    others = [one for one in now.get("TopicConfigurations", []) if one["Id"] != NAME]
    wanted = {"TopicConfigurations": [*others, ours]}
    _asked(lambda: s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=wanted))
    known = ours in now.get("TopicConfigurations", [])
    out.print(safe(f"topic {arn} sends to {url}"), highlight=False, soft_wrap=True)
    done = "told of new objects already" if known else "tells of new objects from now on"
    out.print(safe(f"bucket {bucket} {done}"), highlight=False, soft_wrap=True)


def endpoint(settings: Settings, url: str) -> str:
    """The address that the store sends to, with the token, where there is one, as its password. Raises Invalid."""
    if settings.events_token is None and not settings.events_networks:
        raise Invalid(
            "POST /events is closed; set HOUNSFIELD_EVENTS_TOKEN or HOUNSFIELD_EVENTS_NETWORKS, here and where "
            "Hounsfield runs"
        )
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise Invalid("--url is http(s)://host/api/events, without user, password or query")
    if settings.events_token is None:
        return url
    token = quote(settings.events_token.get_secret_value(), safe="")
    return urlunsplit(parts._replace(netloc=f"{NAME}:{token}@{parts.netloc}"))


def _clients(settings: Settings) -> tuple[Any, Any]:
    """S3, and the part of SNS that Ceph speaks. Raises Invalid where the store is no Ceph."""
    import boto3

    from shared.storage.factory import make_client, s3_endpoint

    address = s3_endpoint(settings)
    if address is None:
        raise Invalid(
            "this sets up Ceph's gateway; for folders, AWS and MinIO see docs/buckets.md: the first needs nothing, the "
            "others have tools of their own"
        )
    s3 = make_client(settings, address)
    sns = boto3.session.Session().client(
        "sns",
        endpoint_url=address,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key and settings.s3_access_key.get_secret_value(),
        aws_secret_access_key=settings.s3_secret_key and settings.s3_secret_key.get_secret_value(),
    )
    return s3, sns


def _asked(call: "Callable[[], dict[str, Any]]") -> dict[str, Any]:
    """The answer. Raises Conflict with the gateway's reason: its own words hold the endpoint, and thus the token."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return call()
    except ClientError as error:
        code = error.response.get("Error", error.response).get("Code", "unknown")
        raise Conflict(
            f"the gateway refused: {code}. It takes a password in an endpoint's address only over HTTPS "
            "(HOUNSFIELD_S3_ENDPOINT_URL), and topics only with `rgw enable apis = … notifications`"
        ) from error
    except BotoCoreError as error:
        raise Conflict(f"the gateway cannot be asked: {type(error).__name__}") from error
