"""What functions need in any process, put together in one place."""

from functions.upload.storage_routes import SIGNING
from shared.config import Settings
from shared.db.session import Database
from shared.runtime.services import Services
from shared.security.keys import key_store
from shared.storage.factory import make_storage


def make_services(settings: Settings, database_url: str, base_url: str) -> Services:
    """Settings, database and object store; `base_url` is where clients reach the upload function."""

    def signing_secrets() -> tuple[bytes, ...]:
        return services.once(key_store).secrets(SIGNING)

    storage = make_storage(settings, base_url, signing_secrets)
    services = Services(settings, Database(database_url, settings.database_pool_size), storage)
    return services
