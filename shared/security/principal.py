"""Who is calling, and with what."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from shared.db.models.accounts import Role
from shared.errors import Forbidden
from shared.security.policy import Action, Reach, reach


class CredentialKind(StrEnum):
    """How callers show who they are."""

    TOKEN = "token"
    """An access token in the Authorization header."""
    SESSION = "session"
    """An access token in a browser's cookie."""
    API_KEY = "api-key"


@dataclass(frozen=True)
class Credential:
    """What a caller showed: the id is that of the session or of the API key."""

    kind: CredentialKind
    id: UUID

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"


@dataclass(frozen=True)
class Principal:
    """An authenticated user of one tenant. `scopes` narrows what an API key may do; None is no limit."""

    user_id: UUID
    tenant_id: UUID
    role: Role
    credential: Credential | None = None
    scopes: frozenset[Action] | None = None

    def reach(self, action: Action) -> Reach:
        """How far `action` reaches for this caller."""
        if self.scopes is not None and action not in self.scopes:
            return Reach.NONE
        return reach(self.role, action)

    def may(self, action: Action, owner_id: UUID) -> bool:
        """Whether this caller may do `action` to what `owner_id` owns."""
        return self.reach(action) is Reach.TENANT or (
            self.reach(action) is Reach.OWN and owner_id == self.user_id
        )

    def require(self, action: Action) -> None:
        """Raise Forbidden unless this caller may do `action` to something at least."""
        if self.scopes is not None and action not in self.scopes:
            raise Forbidden(f"this API key was not made for {action}; make one with that scope")
        if self.reach(action) is Reach.NONE:
            raise Forbidden(f"the role {self.role} does not allow {action}")
