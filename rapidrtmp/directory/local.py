"""
The directory of several processes of one machine: a folder.

Each node holds a lock (``flock``) on a file of its own for as long as it lives, which the kernel lets go of the moment
its process ends, however that happens. So there is nothing to renew and no clock to trust. Each name has a file that
says who owns it, under which fence; one that names a node without a lock names no owner. A file is replaced whole,
under one of a few locks that are held for microseconds, so it can be read without one.

Everything here takes some ten microseconds and is done at once. A file of a name that is free stays for a day, for its
fence: should the clock be set back, the next one is still above it.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface import implementer

from rapidrtmp.errors import DirectoryError, OwnerChangedError
from rapidrtmp.interfaces import Claim, DirectoryContext, IOwnerDirectory, IOwnerDirectoryFactory, Node, Owner

__all__ = ["LocalDirectory", "LocalDirectoryFactory"]

T = TypeVar("T")

#: How many locks all names share.
LOCKS = 64
#: A lock is held for microseconds: it is tried so often, so far apart, before something must be wrong with its holder.
_TRIES, _TRY_AGAIN_S = 40, 0.0005
#: How long the file of a name that is free stays.
KEPT_S = 86_400
RENEW_INTERVAL_S = 5.0
_LONGEST_FILE_NAME = 200
_MOST_BYTES = 8192


@implementer(IOwnerDirectory)
class LocalDirectory:
    """
    See :class:`~rapidrtmp.interfaces.IOwnerDirectory`.

    :param folder: shared by all nodes; made if it is not there.
    :raises DirectoryError: that cannot be, or it has no locks.
    """

    lease_s = 0.0
    renew_interval_s = RENEW_INTERVAL_S

    def __init__(self, folder: Path, context: DirectoryContext) -> None:
        self.node = context.node
        self._address = context.address
        self._log = context.log
        self._nodes, self._names, self._locks = (folder / part for part in ("nodes", "names", "locks"))
        self._owned: dict[str, Owner] = {}
        self._descriptor = -1
        with _directory_errors("opening the directory"):
            for part in (self._nodes, self._names, self._locks):
                part.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._enter()
            self._forget_old()

    # ── IOwnerDirectory ──────────────────────────────────────────────────────────────────────────────────────────────

    def claim(self, name: str) -> Deferred[Claim]:
        """See :meth:`IOwnerDirectory.claim <rapidrtmp.interfaces.IOwnerDirectory.claim>`."""
        return _done(f"claiming {name}", self._claim, name)

    def move(self, name: str, former: Owner) -> Deferred[Owner]:
        """See :meth:`IOwnerDirectory.move <rapidrtmp.interfaces.IOwnerDirectory.move>`."""
        return _done(f"moving {name}", self._move, name, former)

    def renew(self) -> Deferred[Sequence[str]]:
        """
        See :meth:`IOwnerDirectory.renew <rapidrtmp.interfaces.IOwnerDirectory.renew>`: there is nothing to renew, but
        an operator may have deleted the files.
        """
        return _done("looking at the directory", self._renew)

    def release(self, name: str) -> Deferred[None]:
        """See :meth:`IOwnerDirectory.release <rapidrtmp.interfaces.IOwnerDirectory.release>`."""
        return _done(f"releasing {name}", self._release, name)

    def abandon(self, name: str) -> None:
        """See :meth:`IOwnerDirectory.abandon <rapidrtmp.interfaces.IOwnerDirectory.abandon>`."""
        self._owned.pop(name, None)

    def find(self, name: str) -> Deferred[Owner | None]:
        """See :meth:`IOwnerDirectory.find <rapidrtmp.interfaces.IOwnerDirectory.find>`."""
        return _done(f"looking for {name}", self._find, name)

    def names(self) -> Deferred[Sequence[str]]:
        """See :meth:`IOwnerDirectory.names <rapidrtmp.interfaces.IOwnerDirectory.names>`."""
        return _done("looking for names", self._find_names)

    def nodes(self) -> Deferred[Sequence[Node]]:
        """See :meth:`IOwnerDirectory.nodes <rapidrtmp.interfaces.IOwnerDirectory.nodes>`."""
        return _done("looking for nodes", self._find_nodes)

    def close(self) -> Deferred[None]:
        """See :meth:`IOwnerDirectory.close <rapidrtmp.interfaces.IOwnerDirectory.close>`."""
        return _done("leaving the directory", self._leave)

    # ── this node ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _enter(self) -> None:
        """Make this node known. Its file has its lock from the first moment in which others can find it."""
        draft = self._nodes / f".{self.node}"
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, json.dumps([self.node, self._address]).encode())
            os.replace(draft, self._nodes / self.node)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def forget(self) -> None:
        """Let go of the lock, as the kernel does when a process ends."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _leave(self) -> None:
        if self._descriptor < 0:
            return
        for name in list(self._owned):
            self._release(name)
        (self._nodes / self.node).unlink(missing_ok=True)
        self.forget()

    def _is_in_place(self) -> bool:
        """Whether the file that is locked is the one that others find."""
        try:
            there, ours = os.stat(self._nodes / self.node), os.fstat(self._descriptor)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def _renew(self) -> Sequence[str]:
        if self._is_in_place():
            return [name for name, owner in list(self._owned.items()) if self._is_lost(name, owner)]
        self._log.error("the files of the directory in {folder} were deleted", folder=str(self._nodes.parent))
        for part in (self._nodes, self._names, self._locks):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.forget()
        self._enter()
        return [name for name, owner in list(self._owned.items()) if self._is_lost(name, owner)]

    def _is_lost(self, name: str, owner: Owner) -> bool:
        """Whether another node has a name; if none has it, it is taken again, under no lower fence."""
        with self._locked(name) as path:
            found = _read(path)
            if found == owner:
                return False
            if found.node and self._address_of(found.node) is not None and found.node != self.node:
                self._owned.pop(name, None)
                return True
            self._write(path, name, Owner(self.node, self._address, max(owner.fence, found.fence + 1)))
            return False

    # ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _claim(self, name: str) -> Claim:
        with self._locked(name) as path:
            found = _read(path)
            if found.node == self.node:
                return Claim(found, is_ours=True)
            if found.node and self._address_of(found.node) is not None:
                return Claim(found, is_ours=False)
            owner = self._write(path, name, self._after(found))
            return Claim(owner, is_ours=True, former=found if found.node else None)

    def _move(self, name: str, former: Owner) -> Owner:
        with self._locked(name) as path:
            found = _read(path)
            if found.node != former.node:
                raise OwnerChangedError(f"{former.node} does not own {name} any more")
            return self._write(path, name, self._after(found))

    def _release(self, name: str) -> None:
        self._owned.pop(name, None)
        with self._locked(name) as path:
            found = _read(path)
            if found.node == self.node:
                _replace(path, name, Owner("", "", found.fence))

    def _find(self, name: str) -> Owner | None:
        owner = _read(self._path(name))
        return owner if owner.node and self._address_of(owner.node) is not None else None

    def _after(self, found: Owner) -> Owner:
        """This node, under a fence above the one that is found, and above those that were forgotten."""
        return Owner(self.node, self._address, max(found.fence + 1, time.time_ns() // 1_000_000))

    def _write(self, path: Path, name: str, owner: Owner) -> Owner:
        _replace(path, name, owner)
        self._owned[name] = owner
        return owner

    def _path(self, name: str) -> Path:
        return self._names / _file_name(name)

    @contextmanager
    def _locked(self, name: str) -> Iterator[Path]:
        """The file of a name, which no other node changes in this block."""
        number = zlib.crc32(name.encode()) % LOCKS
        descriptor = os.open(self._locks / f"{number:02}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            for _ in range(_TRIES):
                with suppress(BlockingIOError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(_TRY_AGAIN_S)
            else:
                raise DirectoryError(f"another process holds a lock of the directory: {self._locks / f'{number:02}'}")
            yield self._path(name)
        finally:
            os.close(descriptor)

    # ── other nodes ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _address_of(self, node: str) -> str | None:
        """Where a node is reached; ``None`` if it lives no more."""
        if node == self.node:
            return self._address
        try:
            descriptor = os.open(self._nodes / node, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return str(json.loads(os.pread(descriptor, _MOST_BYTES, 0))[1])
        finally:
            os.close(descriptor)
        (self._nodes / node).unlink(missing_ok=True)
        return None

    def _find_names(self) -> Sequence[str]:
        living = {node.name for node in self._find_nodes()}
        files = (self._names / each for each in os.listdir(self._names) if not each.startswith("."))
        found = (_read_named(path) for path in files)
        return [name for name, owner in found if owner.node in living]

    def _find_nodes(self) -> Sequence[Node]:
        names = sorted(name for name in os.listdir(self._nodes) if not name.startswith("."))
        found = ((name, self._address_of(name)) for name in names)
        return [Node(name, address) for name, address in found if address is not None]

    def _forget_old(self) -> None:
        """Delete the files of names that were free for long, and of nodes that never entered."""
        before_s = time.time() - KEPT_S
        for folder in (self._names, self._nodes):
            for entry in os.scandir(folder):
                with suppress(OSError):
                    is_free = entry.name.startswith(".") or (folder is self._names and not _read(Path(entry.path)).node)
                    if is_free and entry.stat().st_mtime < before_s:
                        os.unlink(entry.path)


@implementer(IOwnerDirectoryFactory)
class LocalDirectoryFactory:
    """
    ``local:FOLDER``

    :param folder: on a disk of this machine.
    """

    is_shared = True

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder).absolute()

    def open(self, context: DirectoryContext) -> Deferred[IOwnerDirectory]:
        """See :meth:`IOwnerDirectoryFactory.open <rapidrtmp.interfaces.IOwnerDirectoryFactory.open>`."""
        return maybeDeferred(LocalDirectory, self.folder, context)


NO_OWNER = Owner("", "", 0)


def _read(path: Path) -> Owner:
    """What the file of a name says; no owner if there is none, or it is damaged."""
    return _read_named(path)[1]


def _read_named(path: Path) -> tuple[str, Owner]:
    try:
        name, node, address, fence = json.loads(path.read_bytes()[:_MOST_BYTES])
    except (FileNotFoundError, ValueError, TypeError):
        return "", NO_OWNER
    if not (isinstance(node, str) and isinstance(address, str) and type(fence) is int):
        return "", NO_OWNER
    return str(name), Owner(node, address, fence)


def _replace(path: Path, name: str, owner: Owner) -> None:
    """Put what a file says in the place of what it said. No two processes do so at the same time."""
    draft = path.with_name(f".{path.name}")
    draft.write_bytes(json.dumps([name, owner.node, owner.address, owner.fence]).encode())
    os.replace(draft, path)


def _file_name(name: str) -> str:
    """A file's name for any stream's, readable as far as that is possible."""
    quoted = quote(name, safe="").replace(".", "%2E")
    if len(quoted) <= _LONGEST_FILE_NAME:
        return quoted
    return f"{quoted[: _LONGEST_FILE_NAME // 2]}-{sha256(name.encode()).hexdigest()[:40]}"


@contextmanager
def _directory_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DirectoryError(f"{doing}: {error.strerror or error}") from error


def _done(doing: str, call: Callable[..., T], *arguments: Any) -> Deferred[T]:
    """Do something at once."""

    def guarded() -> T:
        with _directory_errors(doing):
            return call(*arguments)

    return maybeDeferred(guarded)
