"""Which SOP classes and transfer syntaxes come in by DICOM: still images that some decoder here reads."""

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
"""Transfer syntaxes in the order in which the node chooses among those that a peer offers for one class."""
