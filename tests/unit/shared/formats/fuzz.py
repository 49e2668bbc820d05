"""Mutations of valid files through every door: `python -m tests.unit.shared.formats.fuzz CASES [SEED]`.

Only the documented errors may leave; memory is bounded by the system (`RLIMIT_AS`), so a bomb is a MemoryError.
"""

import random
import resource
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from shared.errors import Invalid, TooLarge, UnsupportedImage
from shared.formats.head import identify_head
from shared.formats.identify import identify
from shared.formats.source import HEAD_BYTES
from shared.formats.types import Format
from shared.imaging.metaimage import read_metaimage
from shared.imaging.nifti import read_nifti
from shared.imaging.nifti_header import Limits
from shared.imaging.nrrd import read_nrrd
from shared.imaging.oct.heidelberg_e2e import read_e2e
from shared.imaging.oct.heidelberg_vol import read_vol
from shared.imaging.oct.heyex_xml import read_heyex_xml
from shared.imaging.oct.read import read_oct
from shared.imaging.oct.topcon import read_topcon
from shared.imaging.raster import read_raster
from shared.imaging.slide import describe_slide
from tests.memory import peak_mib
from tests.unit.shared.formats import samples

MEMORY = 1_500 * 2**20
DOCUMENTED = (UnsupportedImage, Invalid, TooLarge)
LIMITS = Limits(max_bytes=2**28)

READERS: dict[str, Callable[[Path], object]] = {
    "nifti": lambda path: read_nifti(path, LIMITS),
    "nrrd": lambda path: read_nrrd(path, LIMITS),
    "mha": lambda path: read_metaimage(path, LIMITS),
    "e2e": read_e2e,
    "vol": read_vol,
    "fds": read_topcon,
    "fda": read_topcon,
    "heyex xml": lambda path: read_heyex_xml(path, {f"b{n}.tif": path for n in range(1, 4)}),
    "png": read_raster,
    "jpeg": read_raster,
    "tiff": read_raster,
    "bigtiff": read_raster,
    "ome-tiff": read_raster,
    "slide": describe_slide,
}
_EXTREMES = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**64 - 1]


def mutated(content: bytes, dice: random.Random) -> bytes:
    """`content` with one to four kinds of damage, most of it where headers are."""
    data = bytearray(content)
    for _ in range(dice.randint(1, 4)):
        reach = max(1, min(len(data), dice.choice([64, 600, 4096, len(data)])))
        at = dice.randrange(reach)
        match dice.randrange(8):
            case 0 if data:
                data[at % len(data)] ^= 1 << dice.randrange(8)
            case 1 | 2:
                width = dice.choice([1, 2, 4, 8])
                order = dice.choice(["little", "big"])
                number = dice.choice(_EXTREMES) % 2 ** (8 * width)
                data[at : at + width] = number.to_bytes(width, order)  # type: ignore[arg-type]
            case 3:
                del data[at + dice.randrange(max(1, len(data))) :]
            case 4:
                del data[at : at + dice.randint(1, 40)]
            case 5:
                data[at:at] = data[at : at + dice.randint(1, 200)]
            case 6:
                data[at : at + dice.randint(1, 60)] = dice.randbytes(dice.randint(1, 60))
            case _:
                other = dice.choice(list(samples.valid().values()))
                data[at:] = other[at:]
    return bytes(data)


def run(cases: int, seed: int, folder: Path) -> Counter[str]:
    """Counts of what became of `cases` mutated files. Anything undocumented is raised, with how to repeat it."""
    outcomes: Counter[str] = Counter()
    path = folder / "case"
    files = list(samples.valid().items())
    for case in range(cases):
        name, content = files[case % len(files)]
        data = mutated(content, random.Random(f"{seed}/{case}"))
        path.write_bytes(data)
        try:
            outcomes += Counter(_through_every_door(name, path, data))
        except Exception as error:
            raise AssertionError(f"seed {seed}, case {case} ({name}): {error!r}") from error
    return outcomes


def _through_every_door(name: str, path: Path, data: bytes) -> list[str]:
    seen = [_outcome("head", lambda: identify_head(data[:HEAD_BYTES], len(data)))]
    seen.append(_outcome("identify", lambda: identify(path)))
    read = next((read for key, read in READERS.items() if name.startswith(key)), None)
    if read is not None:
        seen.append(_outcome("read", lambda: read(path)))
        if read is read_raster:
            seen.append(_outcome("read", lambda: read_oct(path, Format.PNG)))
    return seen


def _outcome(door: str, act: Callable[[], object]) -> str:
    try:
        act()
    except DOCUMENTED as error:
        return f"{door}: refused {error.status}"
    return f"{door}: passed"


def main() -> None:
    """Runs with bounded memory and prints the counts."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")  # Pillow warns of what it forgives
    cases, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with TemporaryDirectory() as folder:
        outcomes = run(cases, seed, Path(folder))
    for outcome, count in [*sorted(outcomes.items()), ("peak MiB", peak_mib())]:
        sys.stdout.write(f"{outcome}: {count}\n")


if __name__ == "__main__":
    main()
