"""Which decoder reads which transfer syntax; docs/dicom.md says how they were chosen."""

from typing import Literal

from shared.imaging.dicom.instance import NATIVE

Decoder = Literal["gdcm", "gdcm-12bit", "pylibjpeg", "pyjpegls", "pydicom"]

DECODERS: dict[str, Decoder] = {
    "1.2.840.10008.1.2.4.50": "gdcm",  # JPEG baseline
    "1.2.840.10008.1.2.4.51": "gdcm-12bit",  # JPEG extended; pydicom's gdcm plugin refuses its 12 bits, GDCM does not
    "1.2.840.10008.1.2.4.57": "gdcm",  # JPEG lossless
    "1.2.840.10008.1.2.4.70": "gdcm",  # JPEG lossless, selection value 1
    "1.2.840.10008.1.2.4.80": "pyjpegls",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81": "pyjpegls",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91": "pylibjpeg",  # JPEG 2000
    "1.2.840.10008.1.2.4.201": "pylibjpeg",  # High-Throughput JPEG 2000 lossless
    "1.2.840.10008.1.2.4.202": "pylibjpeg",  # the same with RPCL progression
    "1.2.840.10008.1.2.4.203": "pylibjpeg",  # High-Throughput JPEG 2000
    "1.2.840.10008.1.2.5": "pydicom",  # RLE
}
_KNOWN_REFUSED = {
    "1.2.840.10008.1.2.4.53": "JPEG spectral selection (withdrawn from DICOM)",
    "1.2.840.10008.1.2.4.55": "JPEG full progression (withdrawn from DICOM)",
    "1.2.840.10008.1.2.8.1": "deflated image frames",
}


def unreadable(transfer_syntax: str) -> str | None:
    """Why pixels in `transfer_syntax` cannot be read; None when they can."""
    if transfer_syntax in NATIVE or transfer_syntax in DECODERS:
        return None
    if transfer_syntax.startswith("1.2.840.10008.1.2.4.10"):
        return "compressed as video (MPEG-4 or HEVC)"
    name = _KNOWN_REFUSED.get(transfer_syntax, f"transfer syntax {transfer_syntax}")
    return f"compressed by {name}, for which there is no decoder here; send them as JPEG 2000 or uncompressed"
