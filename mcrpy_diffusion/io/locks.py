"""Locks of folders, so that two processes do not write the same one."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

from filelock import FileLock, Timeout

from mcrpy_diffusion.errors import InputError

LOCK_NAME = ".lock"

log = logging.getLogger(__name__)


def lock_folder(folder: Path) -> FileLock:
    """Lock a folder until `release` or the end of this process.

    On file systems without locks, a warning is logged.

    Raises
    ------
    InputError
        If another process has locked it.
    OSError
        If the folder cannot be written.
    """
    lock = FileLock(folder / LOCK_NAME, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise InputError(
            f"{str(folder)!r} is in use by another process; wait for it, stop it, or give another folder"
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        log.warning("%s cannot be locked (%s): do not write it from two processes at once", folder, error.strerror)
    return lock
