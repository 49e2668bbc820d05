"""What the paths that a caller names are sent as."""

from collections.abc import Sequence
from pathlib import Path

from shared.client.errors import CallFailed
from shared.client.sending import Sending
from shared.client.sources import File, Member, Packed, Source, look_through

NIFTI = (".nii", ".nii.gz")
MIRAX = ".mrxs"
HAMAMATSU = (".vms", ".vmu")


def sources_of(paths: Sequence[Path], sending: Sending) -> list[Source]:
    """What these paths are sent as. Raises CallFailed for one that cannot be read, or holds nothing."""
    found: list[Source] = []
    for path in paths:
        if path.suffix == MIRAX and path.with_suffix("").is_dir():
            found.append(_mirax(path, sending))
        else:
            found.extend(_in_folder(path, sending) if path.is_dir() else [File(path)])
    if not found:
        raise CallFailed("name at least one file or folder")
    return found


def _in_folder(folder: Path, sending: Sending) -> list[Source]:
    """NIfTI volumes each for itself, since their names tell the sequence; slides of several files under their names,
    since those name each other; anything else, such as a DICOM series, as one tar of numbers."""
    members = _members(folder, sending)
    if all(_is(member, NIFTI) for member in members):
        return [File(member.path) for member in members]
    if slides := [member.path for member in members if _is(member, (MIRAX,))]:
        return [_mirax(slide, sending) for slide in slides]
    if any(_is(member, HAMAMATSU) for member in members):
        sending.note(f"{folder}: the names of its files are sent as they are, since the slide needs them")
        return [Packed(folder, members, [str(member.path.relative_to(folder)) for member in members])]
    return [Packed(folder, members)]


def _mirax(slide: Path, sending: Sending) -> Source:
    """The file and the folder of its name, both called `slide`."""
    folder = slide.with_suffix("")
    inside = _members(folder, sending)
    names = ["slide.mrxs", *(f"slide/{member.path.relative_to(folder)}" for member in inside)]
    now = slide.stat()
    return Packed(slide, [Member(slide, now.st_size, now.st_mtime_ns), *inside], names)


def _members(folder: Path, sending: Sending) -> list[Member]:
    members, left_out = look_through(folder)
    if left_out:
        sending.note(f"{folder}: {left_out} left out (hidden, empty, links, or no files)")
    if not members:
        raise CallFailed(f"{folder} holds no files")
    return members


def _is(member: Member, suffixes: tuple[str, ...]) -> bool:
    return member.path.name.lower().endswith(suffixes)
