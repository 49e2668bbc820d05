"""Where one epoch's training slices come from: pools, each with a number of draws per epoch and a way to make one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.random import Generator

from serving.predictors.slices import rescale
from serving.training.slices_augment import Float, augment, mirrored, with_lesion, with_skull, without_skull
from serving.training.slices_data import CLASSES, Slice, brain2d, brats, brats_cases, mni152

Task: TypeAlias = Literal["detection", "classification"]
Example: TypeAlias = tuple[Float, int]

DETECTION_CLASSES = ("no_tumour", "tumour")
_PLAIN_MM2 = 600  # BraTS pixels are 1 mm²
_STRIPPED = 0.4  # share of brain2d pictures whose skull is removed
_DRESSED = 0.4  # share of skull-stripped slices that are given a skull


@dataclass(frozen=True)
class Pool:
    """`draws` examples per epoch of `label`, each `make` of a member; `make` gives None where the member will not do."""

    name: str
    members: list[Slice]
    draws: int
    label: str
    make: Callable[[Slice, Generator], Float | None]

    def epoch(self, rng: Generator) -> Iterator[tuple["Pool", Slice]]:
        """This epoch's members: a random slice of each group (patient) in turn, so that no patient dominates."""
        groups: dict[str, list[Slice]] = {}
        for member in self.members:
            groups.setdefault(member.group, []).append(member)
        names: list[str] = []
        while len(names) < self.draws:
            names += [str(name) for name in rng.permutation(sorted(groups))]
        for name in names[: self.draws]:
            yield self, groups[name][int(rng.integers(len(groups[name])))]


def pools(task: Task, data_dir: Path) -> list[Pool]:
    """The training pools of a task. Their draws balance the classes within an epoch."""
    pictures = brain2d(data_dir, "train")
    volumes = [piece for case in brats_cases(data_dir, "train") for piece in brats(data_dir, case, every=2)]
    return (_detection if task == "detection" else _classification)(pictures, volumes, mni152())


def class_names(task: Task) -> tuple[str, ...]:
    """The classes in the order of the network's outputs."""
    return DETECTION_CLASSES if task == "detection" else CLASSES


def example(pool: Pool, member: Slice, task: Task, size: int, rng: Generator) -> Example:
    """One augmented example of a pool: (size, size) in 0…1 and its class number."""
    made = pool.make(member, rng)
    if made is None:
        raise ValueError(f"{pool.name} holds a slice it cannot use")
    label = pool.label or member.label
    return augment(made, size, rng), class_names(task).index(label)


def _detection(pictures: list[Slice], volumes: list[Slice], normal: list[Slice]) -> list[Pool]:
    none2d = [piece for piece in pictures if not piece.tumour]
    diseased = [piece for piece in volumes if _plain(piece)]
    clear = [piece for piece in volumes if not piece.tumour]
    one_sided = [piece for piece in diseased if _one_sided(piece)]
    healthy = normal + clear
    return [
        Pool("2D tumour", [piece for piece in pictures if piece.tumour], 390, "tumour", _picture),
        Pool("2D none", none2d, 340, "no_tumour", _picture),
        Pool("2D none + lesion", none2d, 110, "tumour", _picture_with_lesion),
        Pool("BraTS tumour", diseased, 200, "tumour", _stripped),
        Pool("BraTS none", clear, 190, "no_tumour", _stripped),
        Pool("BraTS healthy half", one_sided, 190, "no_tumour", _healthy_half),
        Pool("BraTS diseased half", one_sided, 40, "tumour", _diseased_half),
        Pool("MNI152", normal, 140, "no_tumour", _stripped),
        Pool("healthy + lesion", healthy, 80, "tumour", _stripped_with_lesion),
        Pool("healthy half + lesion", one_sided, 60, "tumour", _healthy_half_with_lesion),
    ]


def _classification(pictures: list[Slice], volumes: list[Slice], normal: list[Slice]) -> list[Pool]:
    """Few skull-stripped brains without a tumour: detection goes before, and they would swallow the faint gliomas."""
    diseased = [piece for piece in volumes if _plain(piece)]
    enhanced = [piece for piece in diseased if piece.sequence == "t1ce"]
    clear = [piece for piece in volumes if piece.sequence == "t1ce" and not piece.tumour]
    draws = {"glioma": 330, "meningioma": 300, "notumor": 250, "pituitary": 270}
    by_class = [
        Pool(f"2D {label}", [piece for piece in pictures if piece.label == label], number, label, _picture)
        for label, number in draws.items()
    ]
    others = [piece for piece in diseased if piece.sequence != "t1ce"]
    return [
        *by_class,
        Pool("BraTS T1CE glioma", enhanced, 80, "glioma", _stripped),
        Pool("BraTS glioma, other sequences", others, 30, "glioma", _stripped),
        Pool("BraTS none", clear, 10, "notumor", _stripped),
        Pool("MNI152", [piece for piece in normal if piece.sequence == "t1"], 6, "notumor", _stripped),
    ]


def _plain(piece: Slice) -> bool:
    """Whether a tumour slice shows it: T1 and T1CE hardly show a little oedema, and would teach to guess."""
    floor = _PLAIN_MM2 if piece.sequence in ("t1", "t1ce") else 0
    return piece.tumour and piece.lesion is not None and int(np.count_nonzero(piece.lesion)) >= floor


def _one_sided(piece: Slice) -> bool:
    middle = piece.image.shape[1] // 2
    return piece.lesion is not None and not (
        bool(piece.lesion[:, : middle + 3].any()) and bool(piece.lesion[:, middle - 3 :].any())
    )


def _picture(piece: Slice, rng: Generator) -> Float:
    image = rescale(piece.image)
    return without_skull(image, piece.lesion, rng) if rng.random() < _STRIPPED else image


def _picture_with_lesion(piece: Slice, rng: Generator) -> Float:
    image = with_lesion(rescale(piece.image), piece.sequence, rng)
    return without_skull(image, None, rng) if rng.random() < _STRIPPED else image


def _maybe_dressed(image: Float, rng: Generator) -> Float:
    return with_skull(image, rng) if rng.random() < _DRESSED else image


def _stripped(piece: Slice, rng: Generator) -> Float:
    return _maybe_dressed(rescale(piece.image), rng)


def _stripped_with_lesion(piece: Slice, rng: Generator) -> Float:
    return _maybe_dressed(with_lesion(rescale(piece.image), piece.sequence, rng), rng)


def _half(piece: Slice, diseased: bool, rng: Generator) -> Float | None:
    return None if piece.lesion is None else mirrored(rescale(piece.image), piece.lesion, diseased, rng)


def _healthy_half(piece: Slice, rng: Generator) -> Float | None:
    half = _half(piece, False, rng)
    return None if half is None else _maybe_dressed(half, rng)


def _diseased_half(piece: Slice, rng: Generator) -> Float | None:
    half = _half(piece, True, rng)
    return None if half is None else _maybe_dressed(half, rng)


def _healthy_half_with_lesion(piece: Slice, rng: Generator) -> Float | None:
    half = _half(piece, False, rng)
    return None if half is None else _maybe_dressed(with_lesion(half, piece.sequence, rng), rng)
