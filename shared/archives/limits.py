"""How much may come out of an archive, and the count of what has come."""

from dataclasses import dataclass

from shared.archives.errors import ArchiveTooLarge

MIB = 2**20


@dataclass(frozen=True)
class ArchiveLimits:
    """What `unpack` accepts.

    members: files and folders, those of archives inside included. total_bytes, member_bytes: unpacked.
    ratio: most bytes out for each byte in, once more than `ratio_floor` bytes come out.
    depth: how many archives may lie around a file, beyond the outermost; 0 opens none inside another.
    path_length: in characters. path_depth: names in one path.
    """

    members: int = 50_000
    total_bytes: int = 10 * 2**30
    member_bytes: int = 4 * 2**30
    ratio: int = 200
    ratio_floor: int = 10 * MIB
    depth: int = 1
    path_length: int = 512
    path_depth: int = 32

    def check_ratio(self, unpacked: int, packed: int, what: str) -> None:
        """Refuses `unpacked` bytes that `packed` bytes of an archive cannot honestly hold."""
        if unpacked > max(self.ratio_floor, self.ratio * packed):
            raise ArchiveTooLarge(
                f"{what} unpacks to more than {self.ratio} times its {packed:,} bytes, as no archive of images does; "
                "pack the images with usual settings."
            )


class Ledger:
    """What one call of `unpack` has let through, archives inside the archive included."""

    def __init__(self, limits: ArchiveLimits, packed: int) -> None:
        self.limits = limits
        self._packed = packed
        self._members = 0
        self._bytes = 0

    @property
    def members_left(self) -> int:
        """How many more files and folders are accepted."""
        return self.limits.members - self._members

    def count_member(self) -> None:
        """One more file or folder."""
        self.expect_members(1)
        self._members += 1

    def expect_members(self, count: int) -> None:
        """Refuses an archive that announces too many files and folders."""
        if count > self.members_left:
            raise ArchiveTooLarge(
                f"The archive holds more than {self.limits.members:,} files and folders; send it in parts."
            )

    def admit(self, size: int, number: int) -> None:
        """Let a member of `size` bytes through."""
        self.check_member(size, number)
        self.spend(size)

    def check_member(self, size: int, number: int) -> None:
        """Refuses a member that is too large by itself."""
        if size > self.limits.member_bytes:
            raise ArchiveTooLarge(
                f"Member {number} unpacks to more than the {self.limits.member_bytes / MIB:,.0f} MiB "
                "that one file may have."
            )

    def spend(self, count: int) -> None:
        """Let `count` more bytes through."""
        self._bytes += count
        if self._bytes > self.limits.total_bytes:
            raise ArchiveTooLarge(
                f"The archive unpacks to more than {self.limits.total_bytes / MIB:,.0f} MiB; send it in parts."
            )
        self.limits.check_ratio(self._bytes, self._packed, "The archive")
