"""Why an archive is refused.

No message repeats a member's name, which is often a patient's: members are told by their number, folders counted.
"""

from shared.errors import Invalid, TooLarge, UnsupportedImage


class BadArchive(Invalid):
    """The archive is damaged, contradicts itself, or holds what no archive of images needs."""

    slug, title = "bad-archive", "Damaged or unsafe archive"


class ArchiveTooLarge(TooLarge):
    """The archive holds more than is accepted."""

    slug, title = "archive-too-large", "Archive too large"


class UnsupportedArchive(UnsupportedImage):
    """An archive, or a file, of a kind that is not unpacked here."""

    slug, title = "unsupported-archive", "Unsupported archive"
