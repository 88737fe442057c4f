"""One writer a folder: a lock that ends with the process that holds it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["locked"]

_NAME = ".lock"
_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)
"""What the system says of a lock that another has; Windows has the last two."""
_held: set[int] = set()
"""Descriptors of this process that hold a lock."""


def _forget() -> None:
    """Close them in a forked child, which would hold the locks on when this process has ended."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing is forked
    os.register_at_fork(after_in_child=_forget)


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a folder, which is made if there is none.

    The lock belongs to an open file, so that the system releases it when the process ends, however that comes about. A child
    that Python forks closes that file, so that a worker that outlives the process holds nothing; closing takes the lock from
    nobody else. On file systems of a network it is as good as their locks are.

    Parameters
    ----------
    folder : to write to. what : the argument that named it, for the message.

    Raises
    ------
    ValueError : if another process, or another run of this one, holds it, or the file system has no locks.
    OSError : if the folder cannot be written.

    >>> import pathlib, tempfile
    >>> from mutagrad.run.lock import locked
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with locked(folder, "checkpoint"), locked(folder, "checkpoint"):
    ...     pass
    Traceback (most recent call last):
    ...
    ValueError: checkpoint: got '...', which process ... is writing to; wait until it has ended, or pass another folder
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / _NAME).is_symlink():
        raise ValueError(f"{what}: got {str(folder)!r}, whose {_NAME} is a link; remove it")
    descriptor = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    _held.add(descriptor)
    try:
        try:
            is_free = _taken(descriptor)
        except OSError as error:
            raise ValueError(
                f"{what}: got {str(folder)!r}, whose file system has no locks ({error.strerror}), so that two runs could write "
                "there; pass a folder on another one"
            ) from None
        if not is_free:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "another"
            raise ValueError(
                f"{what}: got {str(folder)!r}, which process {owner} is writing to; wait until it has ended, or pass another "
                "folder"
            )
        # For the message above alone: a disk that is full need not keep a run from beginning.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        # A child that leaves the block has closed it, and the number may be that of another file.
        if descriptor in _held:
            _held.remove(descriptor)
            os.close(descriptor)


def _taken(descriptor: int) -> bool:
    """Whether the lock could be had."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        def lock() -> None:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:

        def lock() -> None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    try:
        lock()
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True
