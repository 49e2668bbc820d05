"""Who is calling."""

from dataclasses import dataclass
from uuid import UUID

from shared.db.models.accounts import Role
from shared.errors import Forbidden


@dataclass(frozen=True)
class Principal:
    """An authenticated user of one tenant."""

    user_id: UUID
    tenant_id: UUID
    role: Role

    @property
    def is_admin(self) -> bool:
        """Whether this is an administrator of the tenant."""
        return self.role is Role.ADMIN

    def may_see(self, owner_id: UUID) -> bool:
        """Owners see what is theirs; administrators see their whole tenant."""
        return self.is_admin or owner_id == self.user_id

    def require_admin(self) -> None:
        """Raise Forbidden unless this is an administrator."""
        if not self.is_admin:
            raise Forbidden("this needs the role admin")
