"""Where one epoch's training slices come from: pools, each with a number of draws per epoch and a way to make one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from numpy.random import Generator

from serving.predictors.slices import rescale
from serving.training.slices_augment import Float, augment, mirrored, with_lesion, with_skull, without_skull
from serving.training.slices_data import CLASSES, Slice, brain2d, brats, brats_cases, mni152

Task: TypeAlias = Literal["detection", "classification"]
Example: TypeAlias = tuple[Float, int]

DETECTION_CLASSES = ("no_tumour", "tumour")
_STRIPPED = 0.35  # share of brain2d pictures whose skull is removed
_DRESSED = 0.3  # share of skull-stripped slices that are given a skull


@dataclass(frozen=True)
class Pool:
    """`draws` examples per epoch of `label`, each `make` of a member; `make` gives None where the member will not do."""

    name: str
    members: list[Slice]
    draws: int
    label: str
    make: Callable[[Slice, Generator], Float | None]

    def epoch(self, rng: Generator) -> Iterator[tuple["Pool", Slice]]:
        """This epoch's members: each once before any comes twice."""
        order: list[int] = []
        while len(order) < self.draws:
            order += rng.permutation(len(self.members)).tolist()
        for index in order[: self.draws]:
            yield self, self.members[index]


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
    diseased = [piece for piece in volumes if piece.tumour]
    clear = [piece for piece in volumes if not piece.tumour]
    one_sided = [piece for piece in diseased if _one_sided(piece)]
    healthy = normal + clear
    return [
        Pool("2D tumour", [piece for piece in pictures if piece.tumour], 390, "tumour", _picture),
        Pool("2D none", none2d, 330, "no_tumour", _picture),
        Pool("2D none + lesion", none2d, 60, "tumour", _picture_with_lesion),
        Pool("BraTS tumour", diseased, 220, "tumour", _stripped),
        Pool("BraTS none", clear, 120, "no_tumour", _stripped),
        Pool("BraTS healthy half", one_sided, 150, "no_tumour", _healthy_half),
        Pool("BraTS diseased half", one_sided, 50, "tumour", _diseased_half),
        Pool("MNI152", normal, 130, "no_tumour", _stripped),
        Pool("healthy + lesion", healthy, 80, "tumour", _stripped_with_lesion),
        Pool("healthy half + lesion", one_sided, 60, "tumour", _healthy_half_with_lesion),
    ]


def _classification(pictures: list[Slice], volumes: list[Slice], normal: list[Slice]) -> list[Pool]:
    enhanced = [piece for piece in volumes if piece.sequence == "t1ce"]
    diseased = [piece for piece in enhanced if piece.tumour]
    draws = {"glioma": 280, "meningioma": 300, "notumor": 260, "pituitary": 280}
    by_class = [
        Pool(f"2D {label}", [piece for piece in pictures if piece.label == label], number, label, _picture)
        for label, number in draws.items()
    ]
    return [
        *by_class,
        Pool("BraTS glioma", diseased, 80, "glioma", _stripped),
        Pool("BraTS none", [piece for piece in enhanced if not piece.tumour], 25, "notumor", _stripped),
        Pool("BraTS healthy half", [p for p in diseased if _one_sided(p)], 30, "notumor", _healthy_half),
        Pool(
            "MNI152",
            [piece for piece in normal if piece.sequence in ("t1", "t1ce")],
            25,
            "notumor",
            _stripped,
        ),
    ]


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
