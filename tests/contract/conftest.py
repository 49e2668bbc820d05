"""Functions behind the real application, on a real database and a folder of objects."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.cookiejar import DefaultCookiePolicy
from uuid import UUID

import pytest

from functions import auth, studies, upload
from functions.upload.storage_routes import SIGNING
from shared.config import Settings
from shared.db.models import Role
from shared.db.session import Database
from shared.http.app import create_api, harden
from shared.runtime.function import Function
from shared.runtime.services import Services
from shared.security.keys import KeyStore
from shared.storage.factory import make_storage
from tests.builders import make_user
from tests.contract.clinic import MakePerson, Person
from tests.contract.sending import Sender

with warnings.catch_warnings():
    # Starlette asks for the package httpx2 the first time that this is imported, and works with httpx.
    warnings.filterwarnings("ignore", "Using `httpx` with `starlette.testclient`")
    from starlette.testclient import TestClient

PASSWORD = "correct horse battery"
ClientFor = Callable[..., TestClient]
LogIn = Callable[[TestClient, str], dict[str, str]]


@pytest.fixture
def services(database: Database, settings: Settings) -> Services:
    """What a process has; password hashes are cheap."""
    cheap = settings.model_copy(update={"bcrypt_cost": 4, "registrations_per_hour": 10_000})
    return Services(
        cheap, database, make_storage(cheap, "http://testserver", KeyStore(cheap).secret(SIGNING))
    )


@pytest.fixture
def client_for(services: Services) -> Iterator[ClientFor]:
    """`client_for(function, …)`: a client of these functions and of auth."""
    with ExitStack() as stack:

        def start(*functions: Function) -> TestClient:
            hosted = [auth.function, *(other for other in functions if other is not auth.function)]
            app = harden(create_api(hosted, services, {}), services)
            client = stack.enter_context(TestClient(app))
            client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # a program, no browser
            return client

        yield start


@pytest.fixture
def browser_for(services: Services) -> Iterator[ClientFor]:
    """`browser_for(function, …, base_url=…)`: the same, keeping cookies."""
    with ExitStack() as stack:

        def start(*functions: Function, base_url: str = "http://testserver") -> TestClient:
            app = harden(create_api([auth.function, *functions], services, {}), services)
            return stack.enter_context(TestClient(app, base_url=base_url))

        yield start


@pytest.fixture
def register_and_login() -> LogIn:
    """`register_and_login(client, name)`: the headers of a new user called `name`."""

    def register(client: TestClient, name: str) -> dict[str, str]:
        account = {"email": f"{name}@hospital.example", "username": name, "password": PASSWORD}
        created = client.post("/api/auth/register", json=account)
        assert created.status_code == 201, created.text
        token = client.post("/api/auth/login", json={"login": name, "password": PASSWORD}).json()
        return {"Authorization": f"Bearer {token['access_token']}"}

    return register


@pytest.fixture
def make_person(client_for: ClientFor, services: Services) -> MakePerson:
    """`make_person(tenant, role)`: somebody, and a client of what people do with studies."""
    client = client_for(studies.function, upload.function)

    def make(tenant: UUID, role: Role = Role.USER) -> Person:
        return Person(client, services, make_user(services.database, tenant, role))

    return make


@pytest.fixture
def doctor(make_person: MakePerson, tenant_id: UUID) -> Person:
    return make_person(tenant_id, Role.DOCTOR)


@pytest.fixture
def colleague(make_person: MakePerson, tenant_id: UUID) -> Person:
    """Of the same tenant."""
    return make_person(tenant_id)


@pytest.fixture
def admin(make_person: MakePerson, tenant_id: UUID) -> Person:
    return make_person(tenant_id, Role.ADMIN)


@pytest.fixture
def sender(client_for: ClientFor, register_and_login: LogIn) -> Sender:
    """A caller of the upload routes."""
    client = client_for(upload.function)
    return Sender(client, register_and_login(client, "dr-sender"))


@pytest.fixture
def stranger(sender: Sender, register_and_login: LogIn) -> Sender:
    """Another, who may not see what the sender sends."""
    return Sender(sender.client, register_and_login(sender.client, "somebody-else"))
