"""Whether somebody is still writing a file."""

import fcntl
import signal

from shared.incoming import BUCKET
from shared.storage.folder import FolderStorage
from shared.storage.port import ObjectNotFound, ObjectRef, Storage


def is_being_written(storage: Storage, ref: ObjectRef) -> bool:
    """Whether somebody is copying the file into the folder store's bucket; an S3 store lists whole objects only."""
    if not isinstance(storage, FolderStorage):
        return False
    try:
        with storage.open(BUCKET, ref.key) as file:
            return is_open_for_writing(file.fileno())
    except ObjectNotFound:
        return True


def is_open_for_writing(descriptor: int) -> bool:
    """Whether somebody may write to this file, itself open for reading, at this moment. False where nobody can tell.

    Linux grants a lease for reading only where no writer has the file open, to the file's owner. It is given back at
    once; who opens the file for writing meanwhile waits for that, and we get SIGURG, which is ignored unless asked for.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:  # another's file, or a file system without leases
        return False
    return False
