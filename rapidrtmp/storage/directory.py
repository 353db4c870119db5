"""
Objects as files below a directory: the blocking half of the local storage, on file descriptors.

No path is ever resolved by the system from the root down: each folder is opened from the one above it without following
symbolic links, so no key can lead out of the directory, not even by swapping a folder for a link at the right
moment. What is not a regular file is no object.

Where the directory lies on a disk of its own that is mounted somewhere, nothing is read or written while that is not
mounted: else it would go to the disk below, silently, and be hidden when the right one returns.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from itertools import count

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from rapidrtmp.errors import NotFoundError, StorageError
from rapidrtmp.interfaces import ObjectInfo
from rapidrtmp.storage.keys import check_key, guess_content_type

__all__ = ["FileWrite", "Flush", "ObjectDirectory", "OpenObject", "storage_errors"]

#: Ends the name of a file not yet whole. No key may hold a backslash, so none can name such a file.
UNFINISHED = "\\unfinished"
#: How often a write starts over because its folder was removed, empty, before the first file was in it.
PLACE_ATTEMPTS = 20

#: The names of such files begin with what no other process has, nor this one's last life had.
_MARK = secrets.token_hex(8)
_numbers = count()
#: The system takes no more pieces at once (IOV_MAX).
_MOST_AT_ONCE = 1024

#: What no waiting and no operator can mend: the key itself does not fit this disk or what is on it.
_PERMANENT = {
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.EILSEQ,
    errno.EINVAL,
    errno.EFBIG,
    errno.EOPNOTSUPP,
}
#: What a path answers when there can be no object at it.
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EILSEQ, errno.EISDIR, errno.ENXIO}
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_OBJECT = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC  # a named pipe must not hang the thread
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Flush(IntEnum):
    """
    What a write waits for, and so what a power cut may take.

    ``NEVER``: nothing. The last seconds may be gone, or be files that are empty or torn.
    ``FILE``: the bytes, before the file gets its name. The last files may be gone; each that is there is whole.
    ``FOLDER``: the name as well. What was called stored is stored.
    """

    NEVER = 0
    FILE = 1
    FOLDER = 2


class OpenObject:
    """
    A file being read; closed with the last reference to it, so also if it is never read.

    :ivar info: what was known of it when it was opened. The bytes stay those, whatever is put at its key meanwhile.
    """

    def __init__(self, descriptor: int, info: ObjectInfo) -> None:
        self._descriptor = descriptor
        self.info = info

    def __del__(self) -> None:
        os.close(self._descriptor)

    def read(self, start: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``start``. :raises StorageError: there are none, or the disk failed."""
        with storage_errors(f"reading {self.info.key}"):
            data = os.pread(self._descriptor, length, start)
        if not data:
            raise StorageError(f"{self.info.key}: cut off at byte {start} of {self.info.size} while it was read")
        return data


@dataclass(eq=False)
class FileWrite:
    """One ``put`` under way; ``data``, its pieces, is taken away from it when the caller gave up waiting."""

    key: str
    data: Sequence[bytes] | None

    def wanted(self) -> Sequence[bytes]:
        """The pieces. :raises CancelledError: they are no longer wanted."""
        if self.data is None:
            raise CancelledError(f"writing {self.key} was given up")
        return self.data

    def give_up(self, failure: Failure) -> Failure:
        """Let go of the bytes: a write that hung must not appear later, over a newer one."""
        self.data = None
        return failure


class ObjectDirectory:
    """
    The blocking half: every method belongs in a thread, and may run in many at once.

    :param root: the directory; it must exist. It may itself be reached through symbolic links.
    :param flush: what writes wait for.
    """

    def __init__(self, root: str, flush: Flush = Flush.NEVER) -> None:
        self._root = root
        self._flush = flush
        self._mount_point = _find_mount_point(root)

    def write(self, write: FileWrite) -> None:
        """Put a whole file in place of the key's. :raises StorageError: and then the old one is untouched."""
        with storage_errors(f"writing {write.key}"):
            for attempts_left in reversed(range(PLACE_ATTEMPTS)):
                try:
                    self._write(write)
                    return
                except FileNotFoundError:  # a deletion found the folder empty and removed it just before
                    if not attempts_left:
                        raise

    def open(self, key: str) -> OpenObject:
        """Open an object. :raises NotFoundError: there is none."""
        *folders, name = key.split("/")
        with storage_errors(f"reading {key}"), _absence_as_not_found(key), self.folder(folders) as folder:
            descriptor = os.open(name, _OPEN_OBJECT, dir_fd=folder)
            try:
                return OpenObject(descriptor, _info(key, os.fstat(descriptor)))
            except NotFoundError:
                os.close(descriptor)
                raise

    def stat(self, key: str) -> ObjectInfo:
        """What is known of an object. :raises NotFoundError: there is none."""
        *folders, name = key.split("/")
        with storage_errors(f"looking at {key}"), _absence_as_not_found(key), self.folder(folders) as folder:
            return _info(key, os.stat(name, dir_fd=folder, follow_symlinks=False))

    def find(self, prefix: str) -> list[ObjectInfo]:
        """All objects whose key begins with ``prefix``, sorted by key."""
        found = []
        with storage_errors(f"listing {prefix}"):
            for path, names, folder in self._walk(prefix.rpartition("/")[0]):
                for name in names:
                    key = f"{path}/{name}" if path else name
                    if key.startswith(prefix):
                        with suppress(StorageError, NotFoundError, FileNotFoundError):
                            found.append(_info(check_key(key), os.stat(name, dir_fd=folder, follow_symlinks=False)))
        return sorted(found, key=lambda info: info.key)

    def delete(self, key: str) -> None:
        """Remove an object, if it is there, and the folders that this leaves empty."""
        *folders, name = key.split("/")
        with storage_errors(f"deleting {key}"), suppress(NotFoundError), _absence_as_not_found(key):
            with self.folder(folders) as folder:
                _info(key, os.stat(name, dir_fd=folder, follow_symlinks=False))
                os.unlink(name, dir_fd=folder)
            self._prune(folders)

    def free_bytes(self) -> int:
        """How much an unprivileged process may still write."""
        with storage_errors("measuring free space"):
            found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize

    def sweep(self) -> int:
        """
        Remove the unfinished files of processes that died while they wrote; returns how many there were.

        One still being written, by whatever process, is locked by it and stays.
        """
        swept = 0
        with storage_errors("sweeping"):
            for path, names, folder in self._walk(""):
                stale = [name for name in names if name.endswith(UNFINISHED) and _remove_if_stale(folder, name)]
                swept += len(stale)
                if stale and path:
                    self._prune(path.split("/"))
        return swept

    def _write(self, write: FileWrite) -> None:
        *folders, name = write.key.split("/")
        with self.folder(folders, create=True) as folder:
            _fill_and_rename(folder, *_create_unfinished(folder), name, write, self._flush)

    @contextmanager
    def folder(self, names: Sequence[str], create: bool = False) -> Iterator[int]:
        """The descriptor of the folder at the end of ``names``; the way there is opened step by step."""
        descriptor = self._open_root()
        try:
            for name in names:
                upper, descriptor = descriptor, self._open_folder(name, descriptor, create)
                os.close(upper)
            yield descriptor
        finally:
            os.close(descriptor)

    def _open_root(self) -> int:
        try:
            descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise OSError(errno.ENODEV, f"{self._root} is not there any more") from error
        if self._mount_point and os.fstat(descriptor).st_dev == os.stat(os.path.dirname(self._mount_point)).st_dev:
            os.close(descriptor)
            raise OSError(errno.ENODEV, f"nothing is mounted at {self._mount_point} any more")
        return descriptor

    def _open_folder(self, name: str, upper: int, create: bool) -> int:
        try:
            return os.open(name, _OPEN_FOLDER, dir_fd=upper)
        except FileNotFoundError:
            if not create:
                raise
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=upper)
            if self._flush == Flush.FOLDER:
                os.fsync(upper)
        return os.open(name, _OPEN_FOLDER, dir_fd=upper)

    def _walk(self, path: str) -> Iterator[tuple[str, list[str], int]]:
        """The folder ``path`` and all below it: its path, the names in it that are no folders, its descriptor."""
        names = path.split("/") if path else []
        if any(name in ("", ".", "..") or "\0" in name for name in names):
            return  # a prefix that no key begins with
        with suppress(FileNotFoundError, NotADirectoryError), self.folder(names) as top:
            for below, _, files, folder in os.fwalk(".", dir_fd=top, onerror=_raise_unless_gone):
                yield "/".join(filter(None, (path, below[2:]))), files, folder

    def _prune(self, folders: list[str]) -> None:
        """Remove empty folders from the innermost up; the system refuses one that has just been written into."""
        for depth in range(len(folders), 0, -1):
            try:
                with self.folder(folders[: depth - 1]) as upper:
                    os.rmdir(folders[depth - 1], dir_fd=upper)
            except OSError:
                return


@contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turn an ``OSError`` into a ``StorageError``."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{doing}: {error.strerror}", retryable=error.errno not in _PERMANENT) from error


@contextmanager
def _absence_as_not_found(key: str) -> Iterator[None]:
    """Turn what a path answers when nothing is there into a ``NotFoundError``."""
    try:
        yield
    except OSError as error:
        if error.errno in _ABSENT:
            raise NotFoundError(f"no object {key!r}") from error
        raise


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    """What the file system knows of a key. :raises NotFoundError: it is a folder, a link, a pipe, a device."""
    if not stat.S_ISREG(found.st_mode):
        raise NotFoundError(f"{key!r} is no object")
    return ObjectInfo(key, found.st_size, found.st_mtime_ns // 1_000_000, guess_content_type(key))


def _find_mount_point(path: str) -> str:
    """Where the disk that holds ``path`` is mounted; ``""`` if that is the root of the system, or unknown."""
    place = os.path.realpath(path)
    while not os.path.ismount(place) and place != os.path.dirname(place):
        place = os.path.dirname(place)
    return place if place != os.path.dirname(place) else ""


def _create_unfinished(folder: int) -> tuple[str, int]:
    """A new file that is no object yet, and its descriptor, locked until it is closed."""
    name = f"{_MARK}{next(_numbers):x}{UNFINISHED}"
    descriptor = os.open(name, _CREATE, 0o666, dir_fd=folder)
    with suppress(OSError):  # a file system without locks: nothing can be swept there, and all else works
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return name, descriptor


def _fill_and_rename(folder: int, unfinished: str, descriptor: int, name: str, write: FileWrite, flush: Flush) -> None:
    """Write all of it, then give it its name; whatever fails, nothing is left behind."""
    try:
        try:
            _write_pieces(descriptor, write.wanted())
            if flush >= Flush.FILE:
                os.fsync(descriptor)
            write.wanted()
            os.rename(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
            if flush == Flush.FOLDER:
                os.fsync(folder)
        finally:
            os.close(descriptor)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished, dir_fd=folder)
        raise


def _write_pieces(descriptor: int, pieces: Sequence[bytes]) -> None:
    """Write pieces one behind the other, in as few calls as the system takes them in, and without joining them."""
    for first in range(0, len(pieces), _MOST_AT_ONCE):
        rest: list[bytes | memoryview] = list(pieces[first : first + _MOST_AT_ONCE])
        while rest:
            written = os.writev(descriptor, rest)
            while rest and written >= len(rest[0]):
                written -= len(rest.pop(0))
            if written:
                rest[0] = memoryview(rest[0])[written:]


def _remove_if_stale(folder: int, name: str) -> bool:
    try:
        descriptor = os.open(name, _OPEN_OBJECT, dir_fd=folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=folder)
        finally:
            os.close(descriptor)
    except OSError:
        return False  # locked: in use; or already gone
    return True


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
