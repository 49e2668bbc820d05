"""Which tenant an account is made in."""

import re
from uuid import UUID

from functions.auth.accounts import repository
from shared.errors import Invalid
from shared.runtime.services import Services

DEFAULT_TENANT = "default"
SLUG = "[a-z][a-z0-9-]{0,62}"


def tenant_named(services: Services, slug: str) -> UUID:
    """The tenant with this slug, made when it is missing. Raises Invalid for a slug that is none."""
    if not re.fullmatch(SLUG, slug):
        raise Invalid(
            "a tenant's name has 1 to 63 small letters, digits and dashes, and begins with a letter"
        )
    with services.database.system() as session:
        return repository.tenant_named(session, slug, slug.replace("-", " ").capitalize())


def default_tenant(services: Services) -> UUID:
    """Where people register themselves (`services.once(default_tenant)`)."""
    return tenant_named(services, DEFAULT_TENANT)
