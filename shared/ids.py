"""UUID version 7 (RFC 9562 §5.7): unique, and sorted by the time they were made."""

import secrets
import time
from datetime import datetime
from uuid import UUID


def uuid7() -> UUID:
    """48 bits of Unix milliseconds, then version, variant and 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    value = (milliseconds & (1 << 48) - 1) << 80
    value |= 0x7 << 76 | (random >> 62) << 64
    value |= 0b10 << 62 | random & (1 << 62) - 1
    return UUID(int=value)


def made_before(id: UUID, moment: datetime) -> bool:
    """Whether a version 7 UUID was made before `moment`, to the millisecond."""
    return id.int >> 80 < moment.timestamp() * 1000


def spelled_uuid(text: str) -> UUID | None:
    """The UUID that is spelled so as we spell them: `str(id)`. None for any other text."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text else None
