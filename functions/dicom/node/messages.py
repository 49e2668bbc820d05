"""DIMSE messages put together, bounded: a data set that is to be stored goes to a file as it arrives.

pynetdicom by itself keeps every message in memory, of any size, and as many as a peer sends without waiting.
"""

import os
import struct
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final, Literal

import structlog
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dsutils import create_file_meta
from pynetdicom.pdu_primitives import P_DATA

from functions.dicom.files import path_of, unnamed_file

log = structlog.get_logger(__name__)

COMMAND_BYTES: Final = 64 << 10
"""Longest command set, and longest data set of a query."""
QUEUED: Final = 1
"""Requests that may wait while one is served: no peer is told that it may send without waiting."""
_ABORT: Final = "Evt19"
"""An invalid PDU was received: PS3.8 §9.2.2 aborts the association."""
_UNREADABLE: Final = (
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pynetdicom and pydicom raise over the bytes of a command."""
Refusal = Literal["too large", "no room"]


class Spool(BytesIO):
    """The data set of a C-STORE as a DICOM file on disk, without a name: it is gone when it is closed, or the process
    dies. `refused` says why what comes is thrown away."""

    def __init__(self, folder: Path | None, most: int, message: C_STORE_RQ, syntax: str) -> None:
        super().__init__()
        self.refused: Refusal | None = None
        self.size = 0
        self._most = most
        self._file = unnamed_file(folder)
        self._begin(message, syntax)

    def write(self, data: Any) -> int:
        """Add a fragment."""
        self.size += len(data)
        if self.size > self._most:
            self._refuse("too large")
        if self.refused is None:
            try:
                self._file.write(data)
            except OSError:
                self._refuse("no room")
        return len(data)

    def file(self) -> IO[bytes]:
        """All of it. Raises OSError where the disk is full."""
        self._file.flush()
        return self._file

    @property
    def path(self) -> Path:
        """Another way to the same bytes, for who opens files by themselves."""
        return path_of(self._file)

    def close(self) -> None:
        """Drop it."""
        self._file.close()
        super().close()

    def _begin(self, message: C_STORE_RQ, syntax: str) -> None:
        meta = create_file_meta(
            sop_class_uid=message.command_set.AffectedSOPClassUID,
            sop_instance_uid=message.command_set.AffectedSOPInstanceUID,
            transfer_syntax=UID(syntax),
        )
        head = DicomBytesIO()
        write_file_meta_info(head, meta)
        self._file.write(bytes(128) + b"DICM" + head.getvalue())

    def _refuse(self, why: Refusal) -> None:
        self.refused = self.refused or why
        os.ftruncate(self._file.fileno(), 0)


class Messages(DIMSEServiceProvider):
    """The messages of one association. most: bytes of one instance, of all that the association sends."""

    def __init__(
        self, association: Association, folder: Path | None, most_of_one: int, most_of_all: int
    ) -> None:
        super().__init__(association)
        self._folder = folder
        self._most_of_one = most_of_one
        self._left = most_of_all
        self._command = 0

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take in the fragments of one PDU; an association that breaks the rules is aborted."""
        try:
            for context_id, fragment in primitive.presentation_data_value_list:
                self._receive(context_id, fragment)
        except (*_UNREADABLE, OSError) as error:
            log.info("a DICOM association is aborted", error=type(error).__name__)
            self.drop()
            self.dul.event_queue.put(_ABORT)

    def drop(self) -> None:
        """Let go of what has not come whole."""
        spool = self.message.data_set if self.message is not None else None
        if isinstance(spool, Spool):
            spool.close()
        self.message = None

    def _receive(self, context_id: int, fragment: bytes) -> None:
        self._left -= len(fragment)
        self._command = 0 if self.message is None else self._command
        is_spooled = self.message is not None and isinstance(self.message.data_set, Spool)
        if not is_spooled:
            self._command += len(fragment)
        if self._left < 0 or self._command > COMMAND_BYTES:
            raise ValueError("more than an association may send")
        if is_spooled and fragment[0] & 1:
            raise ValueError("a command within a data set")
        one = P_DATA()
        one.presentation_data_value_list.append((context_id, fragment))
        super().receive_primitive(one)
        if isinstance(self.message, C_STORE_RQ) and not is_spooled:
            self._spool(self.message, context_id)
        if self.msg_queue.qsize() > QUEUED:
            raise ValueError("requests without waiting for answers")

    def _spool(self, message: C_STORE_RQ, context_id: int) -> None:
        context = self.assoc._accepted_cx[context_id]
        message.data_set = Spool(self._folder, self._most_of_one, message, context.transfer_syntax[0])
