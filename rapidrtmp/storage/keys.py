"""What a key may be, what it says of its object, and which bytes a range means: the same for every storage."""

from __future__ import annotations

import re
from posixpath import splitext

from rapidrtmp.errors import MisuseError, StorageError

__all__ = ["MAX_KEY_BYTES", "byte_range", "check_key", "guess_content_type"]

MAX_KEY_BYTES = 1024
#: C0 and C1 controls, DEL and the backslash: what no key may hold. A storage may use them in names of its own.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_CONTENT_TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mp4": "video/mp4",
    ".m4s": "video/iso.segment",
    ".m4a": "audio/mp4",
    ".ts": "video/mp2t",
    ".aac": "audio/aac",
    ".vtt": "text/vtt",
    ".json": "application/json",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".html": "text/html; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}


def check_key(key: str) -> str:
    """
    Return ``key`` if it is one that :class:`~rapidrtmp.interfaces.IStorage` allows.

    :raises StorageError: not retryable; a name between slashes is empty, ``.`` or ``..``, a character is a control
        or a backslash or cannot be written as UTF-8, or the whole is longer than 1024 bytes of UTF-8.
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise StorageError(f"key {key!r}: {error.reason}", retryable=False) from error
    if size > MAX_KEY_BYTES:
        raise StorageError(f"key {key[:32]!r}...: {size} bytes, limit {MAX_KEY_BYTES}", retryable=False)
    if found := _FORBIDDEN.search(key):
        raise StorageError(f"key {key!r}: {found[0]!r} is not allowed", retryable=False)
    for name in key.split("/"):
        if name in ("", ".", ".."):
            raise StorageError(f"key {key!r}: {name!r} cannot be a name in it", retryable=False)
    return key


def guess_content_type(key: str) -> str:
    """The media type that the suffix of ``key`` stands for; ``application/byte-stream`` if it is not one of ours."""
    return _CONTENT_TYPES.get(splitext(key)[1].lower(), "application/byte-stream")


def byte_range(size: int, start: int, length: int | None) -> tuple[int, int]:
    """
    Clip the range that :meth:`~rapidrtmp.interfaces.IStorage.get` takes to an object of ``size`` bytes.

    :returns: ``(start, stop)``, half open, ``0 <= start <= stop <= size``.
    :raises MisuseError: ``start`` or ``length`` is negative.
    """
    if start < 0 or (length is not None and length < 0):
        raise MisuseError(f"bytes from {start}, {length} of them")
    stop = size if length is None else min(size, start + length)
    return min(start, stop), stop
