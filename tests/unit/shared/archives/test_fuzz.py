"""Archives hurt at random: refused as documented, or unpacked into the folder and nowhere else."""

from pathlib import Path

from tests.unit.shared.archives.fuzzing import LIMITS, fuzz, seeds, unpack

CASES = 3000


def test_what_is_hurt_is_refused_as_documented_and_leaves_nothing(tmp_path: Path) -> None:
    outcomes = fuzz(tmp_path / "work", CASES)

    assert sum(outcomes.values()) == CASES
    assert outcomes["BadArchive"] > CASES / 2
    assert outcomes["unpacked"] > CASES / 100
    assert outcomes["ArchiveTooLarge"] and outcomes["UnsupportedArchive"]


def test_what_is_hurt_was_good_before(tmp_path: Path) -> None:
    for number, good in enumerate(seeds()):
        (tmp_path / f"{number}").write_bytes(good)
        (tmp_path / f"out {number}").mkdir()
        assert unpack(tmp_path / f"{number}", tmp_path / f"out {number}", LIMITS)
