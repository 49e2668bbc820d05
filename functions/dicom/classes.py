"""Which SOP classes and transfer syntaxes come in by DICOM: still images that some decoder here reads."""

from collections.abc import Iterable

from pydicom._uid_dict import UID_dictionary

from shared.imaging.dicom.instance import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT
from shared.imaging.dicom.syntaxes import DECODERS

_NO_PATIENTS = ("DICOS", "Eddy Current", "Video")  # luggage, metal, and films
_OPHTHALMIC_VOLUMES = "1.2.840.10008.5.1.4.1.1.77.1.5.8"
"""OCT B-scan volume analysis: images, though not called so."""
IMAGES = frozenset(
    uid
    for uid, (name, kind, _, retired, _) in UID_dictionary.items()
    if kind == "SOP Class" and "Image Storage" in name and not retired and not name.startswith(_NO_PATIENTS)
) | {_OPHTHALMIC_VOLUMES}
"""SOP classes that are taken. Reports, plans, waveforms, documents and films are not."""
SYNTAXES = (EXPLICIT, IMPLICIT, *DECODERS, DEFLATED, BIG_ENDIAN)
"""Transfer syntaxes in which images are taken."""
_PLAIN = (EXPLICIT, IMPLICIT, BIG_ENDIAN)
"""Between these every peer can convert; the first says most."""


def preferred(offered: Iterable[str]) -> list[str]:
    """Those that are taken of the transfer syntaxes that a peer offers for one class, the one to choose first.

    The peer's order counts, as with dcm4che: it knows how its images are stored, and many, DCMTK's storescu among them,
    can send a compressed image in no other way.
    """
    ours = [syntax for syntax in offered if syntax in SYNTAXES]
    if not ours or ours[0] not in _PLAIN:
        return ours
    return sorted(ours, key=lambda syntax: _PLAIN.index(syntax) if syntax in _PLAIN else len(_PLAIN))
