"""A real OpenID Connect provider as a Django site: Django OAuth Toolkit, with Django's accounts and log-in form.

    python -m tests.e2e.oidc_provider_site FOLDER PORT REDIRECT_URI

FOLDER holds cert.pem and key.pem (TLS) and signing.pem (ID tokens); the database is made there. Client and people are
those of `tests.e2e.oidc_provider`.
"""

import sys
from pathlib import Path

import django
import uvicorn
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application
from django.core.management import call_command

from tests.e2e.oidc_provider import CLIENT_ID, CLIENT_SECRET, PEOPLE

PAGES = "tests.e2e.oidc_provider_pages"
LOGIN_FORM = """\
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Hospital log-in</title></head>
<body>
<h1>Hospital log-in</h1>
<form method="post">{% csrf_token %}{{ form.as_p }}<button type="submit">Log in</button></form>
</body>
</html>
"""


def configure(folder: Path, issuer: str) -> None:
    """Django's settings."""
    engine = {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": False}
    processors = ["django.template.context_processors.request", "django.contrib.auth.context_processors.auth"]
    loaders = [
        ("django.template.loaders.locmem.Loader", {"registration/login.html": LOGIN_FORM}),
        "django.template.loaders.app_directories.Loader",
    ]
    settings.configure(
        SECRET_KEY="of a server that lives for one test run",
        ALLOWED_HOSTS=["localhost"],
        ROOT_URLCONF=PAGES,
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.staticfiles",
            "oauth2_provider",
        ],
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "site.sqlite3"}},
        TEMPLATES=[{**engine, "OPTIONS": {"context_processors": processors, "loaders": loaders}}],
        STATIC_URL="/static/",
        LOGIN_URL="/login/",
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        SESSION_COOKIE_SECURE=True,
        CSRF_COOKIE_SECURE=True,
        OAUTH2_PROVIDER={
            "OIDC_ENABLED": True,
            "OIDC_ISS_ENDPOINT": issuer,
            "OIDC_RSA_PRIVATE_KEY": (folder / "signing.pem").read_text(),
            "OAUTH2_VALIDATOR_CLASS": f"{PAGES}.Claims",
            "PKCE_REQUIRED": True,
            "SCOPES": {"openid": "who you are", "email": "your e-mail address", "profile": "your name"},
        },
    )
    django.setup()


def populate(redirect_uri: str) -> None:
    """Tables, people, and us as a client."""
    from django.contrib.auth.models import Group, User
    from oauth2_provider.models import Application

    call_command("migrate", verbosity=0)
    for person in PEOPLE:
        user = User.objects.create_user(
            person.name, person.email, person.password, first_name=person.name.title()
        )
        user.groups.set([Group.objects.get_or_create(name=group)[0] for group in person.groups])
    Application.objects.create(
        name="Hounsfield",
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
        algorithm=Application.RS256_ALGORITHM,
        redirect_uris=redirect_uri,
    )


def main() -> None:
    """Serve until ended."""
    folder, port, redirect_uri = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    configure(folder, f"https://localhost:{port}")
    populate(redirect_uri)
    uvicorn.run(
        ASGIStaticFilesHandler(get_asgi_application()),
        host="127.0.0.1",
        port=port,
        ssl_certfile=str(folder / "cert.pem"),
        ssl_keyfile=str(folder / "key.pem"),
        lifespan="off",
        timeout_graceful_shutdown=1,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
