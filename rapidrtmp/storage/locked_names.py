"""
Leases on a disk: one file for each name, locked with ``flock`` for as long as the name is held.

The kernel lets go of a lock when its process dies, however that happens, so there is nothing to renew and no clock to
trust. The files lie in a folder whose name no key can have. One is deleted with its lease; what a killed process left
is taken over, or deleted by the next process that looks.

Locks belong to an open file: threads of a process share them, a child that is forked without starting another program
closes them, and a program that is started never has them. On NFS they hold between machines where the server's lock
service runs (Linux sends them there since 2.6.12; not with the mount option ``nolock``, nor ``local_lock=flock``).
Where the file system has no locks at all, claiming fails with an error that no retry can mend.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from hashlib import sha256
from threading import Lock
from urllib.parse import quote, unquote
from weakref import WeakSet

from rapidrtmp.errors import LeaseHeldError, StorageError
from rapidrtmp.interfaces import Lease
from rapidrtmp.storage.directory import storage_errors
from rapidrtmp.storage.process import NOWHERE, ProcessPlace

__all__ = ["FOLDER", "LockedNames"]

#: No key may hold a backslash.
FOLDER = "\\leases"
#: Holds the highest fence that was ever given out.
_FENCE = "\\fence"
_LONGEST_FILE_NAME = 200
#: One who only looks holds a lock for a moment: a claim looks so often, so many seconds apart, before it believes it.
_LOOKS, _LOOK_AGAIN_S = 5, 0.01
_MOST_BYTES = 4096
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


@dataclass(slots=True)
class _Held:
    """A lease, and the descriptor that locks its file; -1 where another storage of this process has the lock."""

    lease: Lease
    descriptor: int

    def close(self) -> None:
        """Let go of the lock."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class LockedNames:
    """
    The blocking half: every method belongs in a thread, and may run in many at once.

    :param folder: opens a folder below the storage's own, by its names, making it where that is wanted.
    :param holder: the name of this process.
    """

    def __init__(self, folder: Callable[[list[str], bool], AbstractContextManager[int]], holder: str) -> None:
        self._folder = folder
        self._holder = holder
        self._held: dict[str, _Held] = {}
        self._lock = Lock()
        _everywhere.add(self)

    def claim(self, name: str) -> Lease:
        """
        Take a name.

        :raises LeaseHeldError: another process has it.
        :raises StorageError: the disk failed, or has no locks.
        """
        with self._lock, storage_errors(f"claiming {name}"):
            if (held := self._held.get(name)) is None:
                with self._folder([FOLDER], True) as folder:
                    held = self._held[name] = self._take(folder, name)
            return held.lease

    def renew(self) -> list[Lease]:
        """
        See that the locks are still those that others meet: an operator may have deleted the files.

        :returns: what another process has meanwhile.
        :raises StorageError: the disk failed.
        """
        lost = []
        with self._lock, storage_errors("looking at leases"), self._folder([FOLDER], True) as folder:
            for name, held in list(self._held.items()):
                if _is_in_place(folder, _file_name(name), held.descriptor):
                    continue
                held.close()
                try:
                    self._held[name] = self._take(folder, name)
                except LeaseHeldError:
                    lost.append(self._held.pop(name).lease)
        return lost

    def release(self, lease: Lease) -> None:
        """Give a name back."""
        with self._lock, storage_errors(f"releasing {lease.name}"):
            held = self._held.get(lease.name)
            if held is None or held.lease != lease:
                return
            del self._held[lease.name]
            try:
                with suppress(FileNotFoundError), self._folder([FOLDER], False) as folder:
                    if _is_in_place(folder, _file_name(lease.name), held.descriptor):
                        os.unlink(_file_name(lease.name), dir_fd=folder)
            finally:
                held.close()

    def find(self, prefix: str) -> list[Lease]:
        """All names that begin with ``prefix`` and are held; files that no process holds are deleted."""
        found = []
        with self._lock, storage_errors("looking for leases"), suppress(FileNotFoundError):
            found = [held.lease for held in self._held.values()]
            ours = {_file_name(lease.name) for lease in found}
            with self._folder([FOLDER], False) as folder:
                for file_name in set(os.listdir(folder)) - ours - {_FENCE}:
                    if lease := _look(folder, file_name):
                        found.append(lease)
        return sorted((lease for lease in found if lease.name.startswith(prefix)), key=lambda lease: lease.name)

    def close(self) -> None:
        """Give everything back."""
        for held in list(self._held.values()):
            with suppress(StorageError):
                self.release(held.lease)

    def forget(self) -> None:
        """Let go of all locks that a parent process has: this one is its child."""
        for held in self._held.values():
            held.close()
        self._held = {}
        self._lock = Lock()

    def _take(self, folder: int, name: str) -> _Held:
        file_name, holder = _file_name(name), self._holder
        other = _Content()
        for _ in range(_LOOKS):
            descriptor = os.open(file_name, _OPEN | os.O_CREAT, 0o666, dir_fd=folder)
            try:
                if _lock(descriptor):
                    if _is_in_place(folder, file_name, descriptor):  # else it was released while we opened it
                        lease = Lease(name, holder, _next_fence(folder))
                        _write(
                            descriptor, json.dumps([name, holder, lease.fence, ProcessPlace.here().render()]).encode()
                        )
                        held, descriptor = _Held(lease, descriptor), -1
                        return held
                    continue
                other = _read(descriptor)
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
            if other.holder == holder:  # by way of another storage in the same place
                return _Held(Lease(name, holder, other.fence), -1)
            time.sleep(_LOOK_AGAIN_S)
        raise LeaseHeldError(f"{other.place} writes {name} into this storage")


@dataclass(frozen=True, slots=True)
class _Content:
    """What a lease's file says."""

    name: str = ""
    holder: str = ""
    fence: int = 0
    place: ProcessPlace = NOWHERE


def _read(descriptor: int) -> _Content:
    """What a file says; nothing if it is being written just now, or damaged."""
    try:
        name, holder, fence, place = json.loads(os.pread(descriptor, _MOST_BYTES, 0))
    except (ValueError, TypeError, RecursionError):
        return _Content()
    if not (isinstance(name, str) and isinstance(holder, str) and type(fence) is int and isinstance(place, str)):
        return _Content()
    return _Content(name, holder, fence, ProcessPlace.parse(place))


def _look(folder: int, file_name: str) -> Lease | None:
    """The lease of another process; ``None``, and its file deleted, if no process holds it."""
    try:
        descriptor = os.open(file_name, _OPEN, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError:  # not ours to look at, so perhaps not ours to take
        return Lease(unquote(file_name), "", 0)
    try:
        if not _lock(descriptor):
            said = _read(descriptor)
            return Lease(said.name or unquote(file_name), said.holder, said.fence)
        if _is_in_place(folder, file_name, descriptor):
            os.unlink(file_name, dir_fd=folder)
    finally:
        os.close(descriptor)
    return None


def _lock(descriptor: int) -> bool:
    """Lock a file, if no process has. :raises StorageError: the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise StorageError(f"this file system has no locks: {error.strerror}", retryable=False) from error
        raise
    return True


def _is_in_place(folder: int, file_name: str, descriptor: int) -> bool:
    """Whether a descriptor can be read and is the file that others find by that name."""
    if descriptor < 0:
        return False
    try:
        os.pread(descriptor, 1, 0)  # where an NFS server has forgotten the lock, this fails
        there, ours = os.stat(file_name, dir_fd=folder, follow_symlinks=False), os.fstat(descriptor)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _next_fence(folder: int) -> int:
    """A number above all that were ever given out in this folder."""
    descriptor = os.open(_FENCE, _OPEN | os.O_CREAT, 0o666, dir_fd=folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # for a moment
        text = os.pread(descriptor, 32, 0)
        fence = (int(text) if text.isdigit() else time.time_ns()) + 1  # the first one, or the file was damaged
        _write(descriptor, b"%d" % fence)
        return fence
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    os.pwrite(descriptor, data, 0)
    os.ftruncate(descriptor, len(data))


def _file_name(name: str) -> str:
    """A file's name for any lease's, readable as far as that is possible."""
    quoted = quote(name, safe="")
    if len(quoted) <= _LONGEST_FILE_NAME:
        return quoted
    return f"{quoted[: _LONGEST_FILE_NAME // 2]}-{sha256(name.encode()).hexdigest()[:40]}"


_everywhere: WeakSet[LockedNames] = WeakSet()


def _forget_in_child() -> None:
    for names in list(_everywhere):
        names.forget()


os.register_at_fork(after_in_child=_forget_in_child)
