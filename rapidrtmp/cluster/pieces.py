"""
The bytes of a followed stream, as nodes of the same machine read them: a file for each piece, in memory.

A segment consists of the pieces that its parts were, so nothing is written twice; and nothing is written for a stream
that no node of this machine follows. A node reads a piece when one of its viewers asks for it first.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from rapidrtmp.live.shelf import ShelfObject

__all__ = ["PieceFolder", "PiecedObject", "memory_folder"]

_IN_MEMORY = Path("/dev/shm")


def memory_folder(prefix: str) -> Path:
    """Make a folder of this user's alone, in memory where the system has such a place."""
    where = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix=prefix, dir=where))


class PieceFolder:
    """
    The files of one node.

    :param path: made when the first piece is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._root = str(path)
        self._is_made = False

    def write(self, number: int, data: bytes) -> None:
        """Write a piece. :raises OSError: there is no room for it."""
        if not self._is_made:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._is_made = True
        descriptor = os.open(f"{self._root}/{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            written = 0
            while written < len(data):
                written += os.write(descriptor, memoryview(data)[written:])
        finally:
            os.close(descriptor)

    def delete(self, number: int) -> None:
        """Delete a piece, if it was written."""
        with suppress(OSError):
            os.unlink(f"{self._root}/{number}")

    def close(self) -> None:
        """Delete everything."""
        if self._is_made:
            shutil.rmtree(self.path, ignore_errors=True)


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


class PiecedObject(ShelfObject):
    """
    An object whose bytes are read when they are first asked for.

    :ivar files: the paths of its pieces, in order.
    """

    def __init__(self, files: tuple[str, ...], size: int, content_type: str, cache_control: str) -> None:
        super().__init__((), content_type, cache_control)
        self.files = files
        self.size = size

    @property
    def is_loaded(self) -> bool:
        """Whether its bytes are here."""
        return bool(self._pieces)

    def load(self) -> bool:
        """Read its bytes, if that has not been done; whether they are there."""
        if not self._pieces:
            try:
                pieces = tuple(map(_read, self.files))
            except OSError:
                return False
            if sum(map(len, pieces)) != self.size:
                return False
            self._pieces = pieces or (b"",)
        return True
