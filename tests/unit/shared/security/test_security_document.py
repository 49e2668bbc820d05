"""docs/security.md shows the policy that is used."""

from pathlib import Path

from shared.security.policy import markdown

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "security.md"
BEGIN, END = "<!-- policy: python -m shared.security.policy -->\n", "\n<!-- end -->"


def test_the_policy_table_is_up_to_date() -> None:
    shown = DOCUMENT.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    assert shown == markdown()
