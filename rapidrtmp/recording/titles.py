"""
What people call a recording: an empty object in the catalogue, which has the title in its name.

So a list of the catalogue has all titles, and to search them nothing is read.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

from rapidrtmp.archive.layout import CATALOGUE, RecordingId
from rapidrtmp.errors import NotFoundError
from rapidrtmp.interfaces import BadRequestError

__all__ = ["MOST_BYTES", "check_title", "fold", "read_title_key", "searched", "title_key", "title_prefix"]

#: In UTF-8: file systems take names of 255 bytes.
MOST_BYTES = 150
MAX_SEARCH = 200


def check_title(value: object) -> str:
    """
    A title as a client sent it, without spaces that say nothing; empty for none.

    :raises BadRequestError: it is no text, or too long.
    """
    if not isinstance(value, str):
        raise BadRequestError("title is missing or no text")
    title = " ".join("".join(char if char.isprintable() else " " for char in value).split())
    size = len(title.encode("utf-8", "surrogatepass"))
    if size > MOST_BYTES or not _is_text(title):
        raise BadRequestError(f"title has {size} bytes of UTF-8; {MOST_BYTES} at most")
    return title


def _is_text(title: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in title)


def fold(text: str) -> str:
    """What is looked for, in the form in which it is."""
    return " ".join(text[:MAX_SEARCH].casefold().split())


def searched(id: RecordingId, title: str) -> str:
    """What a recording is found by: its stream, its day, its title."""
    return f"{id.app}/{id.key} {id.start[:4]}-{id.start[4:6]}-{id.start[6:8]} {title}".casefold()


def title_prefix(id: RecordingId) -> str:
    """What the keys of its titles begin with; there is one at most, but while it changes."""
    return f"{CATALOGUE}/{id}.title."


def title_key(id: RecordingId, title: str) -> str:
    """The key of the object that gives a recording its title."""
    return title_prefix(id) + urlsafe_b64encode(title.encode()).decode().rstrip("=")


def read_title_key(object_key: str) -> tuple[RecordingId, str] | None:
    """The recording and the title; ``None`` if an object of the catalogue says something else."""
    path, separator, coded = object_key.removeprefix(f"{CATALOGUE}/").partition(".title.")
    parts = path.split("/")
    if not separator or len(parts) != 3:
        return None
    try:
        title = urlsafe_b64decode(coded + "=" * (-len(coded) % 4)).decode()
        return RecordingId.checked(*parts), title
    except (NotFoundError, ValueError):
        return None
