"""From loose files to stacks of planes: grouped, divided where one series holds several stacks, put in order.

1. Files are grouped by Study and Series Instance UID; a file that came twice counts once.
2. A group is divided by direction, size and pixel spacing, localizers from the rest; MR also by echo and image type.
3. Planes are ordered by the projection of Image Position (Patient) on their normal, never by instance number or name.
4. Where places repeat, the stack is divided by the first of time index, b value, trigger time, acquisition number,
   acquisition time and image type that leaves no place taken twice.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from shared.imaging.dicom.findings import (
    SAME_PLACE_MM,
    Code,
    Issue,
    geometry_issues,
    pixel_issues,
    same_direction,
)
from shared.imaging.dicom.instance import Frame, Instance
from shared.imaging.dicom.planes import heights

MOTION_FIRST: tuple[Callable[["Slice"], Hashable], ...] = (
    lambda plane: plane.frame.time_index or plane.instance.time_index,
    lambda plane: plane.instance.b_value,
    lambda plane: plane.instance.trigger_ms,
    lambda plane: plane.instance.acquisition_number,
    lambda plane: plane.instance.acquisition_time,
    lambda plane: plane.frame.image_type or plane.instance.image_type,
)
"""What may tell planes at the same place apart, in the order in which it is tried."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One plane: a file, and which of its frames."""

    instance: Instance
    frame: Frame


@dataclass(frozen=True)
class Series:
    """One stack of planes in order, or the files of a series without images (slices is empty then).

    stack, stacks: which one it is of how many that the series was divided into, counted from 1.
    """

    study_uid: str
    series_uid: str
    instances: tuple[Instance, ...]
    slices: tuple[Slice, ...]
    issues: tuple[Issue, ...]
    stack: int = 1
    stacks: int = 1

    @property
    def head(self) -> Instance:
        """Its first file."""
        return self.slices[0].instance if self.slices else self.instances[0]

    @property
    def frames(self) -> tuple[Frame, ...]:
        """Its planes' geometry, in order."""
        return tuple(plane.frame for plane in self.slices)

    @property
    def refusals(self) -> tuple[Issue, ...]:
        """The findings that forbid a volume."""
        return tuple(issue for issue in self.issues if issue.refused)

    @property
    def warnings(self) -> tuple[Issue, ...]:
        """The findings that a volume has to be read with."""
        return tuple(issue for issue in self.issues if not issue.refused)

    @property
    def spacing_mm(self) -> float | None:
        """The usual distance between planes; None for less than two."""
        if len(self.slices) < 2 or any(frame.position is None for frame in self.frames):
            return None
        return float(np.median(np.diff(heights(self.frames))))


def group_series(instances: Iterable[Instance]) -> list[Series]:
    """All stacks in `instances`, by study, series number and UID; DICOMDIRs are left out."""
    files = [instance for instance in instances if not instance.is_directory]
    files.sort(key=lambda file: (file.study_uid, file.series_uid, file.instance_number or 0, file.sop_uid))
    groups = groupby(files, key=lambda file: (file.study_uid, file.series_uid))
    found = [series for _, group in groups for series in _stacks(list(group))]
    return sorted(
        found, key=lambda s: (s.study_uid, s.head.series_number or 0, s.series_uid, -len(s.slices), s.stack)
    )


def _stacks(files: Sequence[Instance]) -> list[Series]:
    """The stacks of one series."""
    kept, issues = _without_copies(files)
    images = [file for file in kept if file.pixels]
    if not images:
        return [Series(files[0].study_uid, files[0].series_uid, tuple(kept), (), tuple(issues))]
    planes = [Slice(file, frame) for file in images for frame in file.frames or (Frame(),)]
    stacks, divided = _divided(planes)
    issues += divided
    return [
        Series(
            files[0].study_uid,
            files[0].series_uid,
            tuple(dict.fromkeys(plane.instance for plane in stack)),
            tuple(stack),
            (*issues, *_issues(stack)),
            number,
            len(stacks),
        )
        for number, stack in enumerate(stacks, 1)
    ]


def _issues(stack: Sequence[Slice]) -> list[Issue]:
    frames = [plane.frame for plane in stack]
    files = list({id(plane.instance): plane.instance for plane in stack}.values())
    return [*pixel_issues(files, frames), *geometry_issues(frames)]


def _without_copies(files: Sequence[Instance]) -> tuple[list[Instance], list[Issue]]:
    """Each instance once. Copies that say different things are a refusal."""
    kept: dict[str, Instance] = {}
    copies = conflicts = 0
    for number, file in enumerate(files):
        first = kept.setdefault(file.sop_uid or f"unnamed {number}", file)
        if first is file:
            continue
        copies += 1
        conflicts += _content(first) != _content(file)
    issues = []
    if conflicts:
        what = f"{conflicts} files carry the SOP Instance UID of another one but say different things."
        issues.append(Issue("conflicting-instance", True, what, count=conflicts))
    if copies > conflicts:
        what = f"{copies - conflicts} files came more than once; one copy of each is used."
        issues.append(Issue("duplicate-instance", False, what, count=copies - conflicts))
    return list(kept.values()), issues


def _content(file: Instance) -> Instance:
    """What two copies of one instance have in common, wherever they lie and however their pixels are packed."""
    pixels = replace(file.pixels, start=0, length=None, head=0, end=0) if file.pixels else None
    return replace(file, path=Path(), size=0, transfer_syntax="", pixels=pixels)


def _divided(planes: Sequence[Slice]) -> tuple[list[list[Slice]], list[Issue]]:
    """Stacks whose planes are alike and, where that can be had, each at a place of its own."""
    issues: list[Issue] = []
    stacks = _by_direction(planes)
    if len(stacks) > 1:
        issues.append(_division("mixed-orientation", len(stacks), "directions"))
    by_size = [part for stack in stacks for part in _by(stack, _size)]
    if len(by_size) > len(stacks):
        issues.append(_division("varying-size", len(by_size), "sizes"))
    by_kind = [part for stack in by_size for part in _by(stack, _kind)]
    ordered = [part for stack in by_kind for part in _apart(_in_order(stack))]
    if len(ordered) > len(by_size):
        issues.append(_division("several-acquisitions", len(ordered), "acquisitions"))
    return sorted(ordered, key=len, reverse=True), issues


def _division(code: Code, count: int, what: str) -> Issue:
    return Issue(
        code, False, f"The series holds several {what}; it was divided into {count} stacks.", count=count
    )


def _by_direction(planes: Sequence[Slice]) -> list[list[Slice]]:
    stacks: list[list[Slice]] = []
    for plane in planes:
        home = next((stack for stack in stacks if same_direction(stack[0].frame, plane.frame)), None)
        if home is None:
            stacks.append([plane])
        else:
            home.append(plane)
    return stacks


def _by(planes: Sequence[Slice], key: Callable[[Slice], Hashable]) -> list[list[Slice]]:
    parts: dict[Hashable, list[Slice]] = {}
    for plane in planes:
        parts.setdefault(key(plane), []).append(plane)
    return list(parts.values())


def _size(plane: Slice) -> Hashable:
    pixels, spacing = plane.instance.pixels, plane.frame.spacing
    shape = (pixels.rows, pixels.columns, pixels.samples) if pixels else ()
    return shape, tuple(round(edge, 4) for edge in spacing) if spacing else None


def _kind(plane: Slice) -> Hashable:
    """What planes of one stack always share: being a localizer; in MR the echo and the kind of image."""
    file = plane.instance
    types = plane.frame.image_type or file.image_type
    if file.modality != "MR":
        return "LOCALIZER" in types
    return types, plane.frame.echo_ms, file.echo_number


def _in_order(planes: Sequence[Slice]) -> list[Slice]:
    """By place along the normal; unplaced planes keep their order."""
    frames = [plane.frame for plane in planes]
    if any(frame.position is None or frame.orientation is None for frame in frames):
        return list(planes)
    order = np.argsort(heights(frames), kind="stable")
    return [planes[at] for at in order]


def _apart(stack: list[Slice]) -> list[list[Slice]]:
    """`stack`, divided by the first thing that leaves no place taken twice; as it is when nothing does."""
    if not _has_twins(stack):
        return [stack]
    for key in MOTION_FIRST:
        parts = _by(stack, key)
        if len(parts) > 1 and not any(map(_has_twins, parts)):
            return parts
    return [stack]


def _has_twins(stack: Sequence[Slice]) -> bool:
    frames = [plane.frame for plane in stack]
    if len(frames) < 2 or any(frame.position is None or frame.orientation is None for frame in frames):
        return False
    return bool((np.diff(heights(frames)) < SAME_PLACE_MM).any())
