"""How much memory a process took, for tests that run the reader of a hostile file in one of its own."""

from pathlib import Path


def peak_mib() -> int:
    """The most memory that this process ever held (VmHWM: unlike ru_maxrss it does not count the parent's)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024
