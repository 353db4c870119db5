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
        self._is_made = False

    def write(self, number: int, data: bytes) -> None:
        """Write a piece. :raises OSError: there is no room for it."""
        if not self._is_made:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._is_made = True
        (self.path / f"{number}").write_bytes(data)

    def delete(self, number: int) -> None:
        """Delete a piece, if it was written."""
        with suppress(OSError):
            os.unlink(self.path / f"{number}")

    def close(self) -> None:
        """Delete everything."""
        if self._is_made:
            shutil.rmtree(self.path, ignore_errors=True)


class PiecedObject(ShelfObject):
    """
    An object whose bytes are read when they are first asked for.

    :ivar files: its pieces, in order.
    """

    def __init__(self, files: tuple[Path, ...], size: int, content_type: str, cache_control: str) -> None:
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
                pieces = tuple(path.read_bytes() for path in self.files)
            except OSError:
                return False
            if sum(map(len, pieces)) != self.size:
                return False
            self._pieces = pieces or (b"",)
        return True
