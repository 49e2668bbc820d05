"""What a report must say of a model: its measured figures and what it is for, from the catalogue's model.yaml."""

from typing import Any

import yaml

from shared.config import Settings

FIELDS = ("intended_use", "training_data", "licence")


def model_facts(settings: Settings, model: str) -> dict[str, Any]:
    """The card's facts, or nothing where this process has no catalogue."""
    path = settings.catalogue_dir / model / "model.yaml"
    if not path.is_file():
        return {}
    card = yaml.safe_load(path.read_text())
    return {"metrics": _headlines(card.get("metrics", [])), **{name: card[name] for name in FIELDS}}


def _headlines(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Overall accuracy and Dice; the card has the rest, per class and per case."""
    return [one for one in metrics if one["n"] > 1 and one["name"].startswith(("accuracy", "Dice"))]
