"""What the rest of the platform needs to know of one DICOM file, without its pixels and without names.

The Patient ID is among it, so that studies of one patient find each other; it is kept nowhere but as a keyed hash.
"""

from dataclasses import dataclass, field
from pathlib import Path

from shared.imaging.dicom.deid_holds import Hold

Triple = tuple[float, float, float]
Six = tuple[float, float, float, float, float, float]

NATIVE = {
    "1.2.840.10008.1.2": "Implicit VR Little Endian",
    "1.2.840.10008.1.2.1": "Explicit VR Little Endian",
    "1.2.840.10008.1.2.1.99": "Deflated Explicit VR Little Endian",
    "1.2.840.10008.1.2.2": "Explicit VR Big Endian",
}
"""Transfer syntaxes whose pixels are not compressed (the deflated one once it is inflated)."""
IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN = NATIVE

DIRECTORY = "1.2.840.10008.1.3.10"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
ENHANCED = {
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT",
    "1.2.840.10008.5.1.4.1.1.4.1": "Enhanced MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "Legacy Converted Enhanced MR",
}
"""SOP classes whose frames carry their own geometry."""


@dataclass(frozen=True, slots=True)
class Frame:
    """How one plane was taken.

    position: of the first pixel's centre, mm, LPS. orientation: directions of a row and of a column, LPS.
    spacing: mm between rows and between columns. slope, intercept: value = stored × slope + intercept.
    """

    number: int = 0
    position: Triple | None = None
    orientation: Six | None = None
    spacing: tuple[float, float] | None = None
    thickness: float | None = None
    between: float | None = None
    slope: float = 1.0
    intercept: float = 0.0
    echo_ms: float | None = None
    time_index: int | None = None
    image_type: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pixels:
    """How the pixels are stored. start, length: bytes in the (inflated) file; length None: compressed.

    head, end: where the element begins, with its tag, and where it ends. high_bit: the uppermost that is stored.
    """

    rows: int
    columns: int
    frames: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    start: int
    length: int | None
    floating: bool = False
    lookup: bool = False
    """Whether a modality lookup table stands in place of slope and intercept."""
    head: int = 0
    end: int = 0
    high_bit: int | None = None

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame once decoded."""
        return self.rows * self.columns * self.samples * ((self.bits_allocated + 7) // 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One file. Free text (descriptions, the name of the contrast agent) is kept out of its repr and so of logs.

    frames: one for each plane whose geometry is known; one without geometry where the header gives none.
    pixels: None for files without an image (reports, plans, directories).
    """

    path: Path = field(repr=False)
    size: int
    transfer_syntax: str
    sop_class: str
    sop_uid: str = field(repr=False)
    study_uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    frame_of_reference: str = field(repr=False)
    modality: str
    pixels: Pixels | None
    frames: tuple[Frame, ...]
    patient_id: str = field(default="", repr=False)
    issuer: str = field(default="", repr=False)
    """Of the Patient ID."""
    image_type: tuple[str, ...] = ()
    series_number: int | None = None
    acquisition_number: int | None = None
    instance_number: int | None = None
    time_index: int | None = None
    trigger_ms: float | None = None
    b_value: float | None = None
    study_date: str = field(default="", repr=False)
    acquisition_time: str = field(default="", repr=False)
    study_description: str = field(default="", repr=False)
    series_description: str = field(default="", repr=False)
    protocol: str = field(default="", repr=False)
    sequence_name: str = field(default="", repr=False)
    contrast_agent: str = field(default="", repr=False)
    body_part: str = field(default="", repr=False)
    kernel: str = field(default="", repr=False)
    manufacturer: str = field(default="", repr=False)
    laterality: str = ""
    patient_position: str = ""
    scanning_sequence: tuple[str, ...] = ()
    sequence_variant: tuple[str, ...] = ()
    acquisition_type: str = ""
    gantry_tilt_deg: float | None = None
    repetition_ms: float | None = None
    echo_ms: float | None = None
    echo_number: int | None = None
    inversion_ms: float | None = None
    flip_deg: float | None = None
    burned_in: str = ""
    """YES, NO or nothing: whether text is drawn into the pixels (0028,0301)."""
    holds: tuple[Hold, ...] = ()
    """Why a person has to look at it before it is passed on."""
    document: str | None = None
    """What it is where it is no image: a report, say, whose text cannot be de-identified."""

    @property
    def is_directory(self) -> bool:
        """Whether it is a DICOMDIR."""
        return self.sop_class == DIRECTORY

    @property
    def compressed(self) -> bool:
        """Whether its pixels need a decoder."""
        return self.transfer_syntax not in NATIVE
