"""Reading objects of a storage whole, and the pages of a journal one after another."""

from __future__ import annotations

from rapidrtmp.archive.journal import Header, Journal, RecordedSegment, parse_page
from rapidrtmp.archive.layout import RecordingId, page_name
from rapidrtmp.errors import NotFoundError
from rapidrtmp.interfaces import IStorage

__all__ = ["Page", "journal_of", "read_journal", "read_object", "read_page"]

#: What a page of a journal says.
Page = list[Header | RecordedSegment]


async def read_object(storage: IStorage, key: str) -> bytes:
    """
    A whole object; only for small ones.

    :raises NotFoundError: there is none.
    :raises StorageError: the storage failed.
    """
    stored = await storage.get(key)
    return b"".join([chunk async for chunk in stored.chunks])


async def read_page(storage: IStorage, id: RecordingId, number: int) -> Page | None:
    """
    One page of a journal; ``None`` if there is none of that number.

    :raises MediaError: it cannot be read.
    :raises StorageError: the storage failed.
    """
    try:
        return parse_page(await read_object(storage, f"{id.folder}/{page_name(number)}"))
    except NotFoundError:
        return None


async def read_journal(storage: IStorage, id: RecordingId) -> Journal:
    """
    A whole journal.

    :raises NotFoundError: there is none.
    :raises MediaError: it cannot be read.
    :raises StorageError: the storage failed.
    """
    lines: Page = []
    number = 0
    while (page := await read_page(storage, id, number)) is not None:
        lines += page
        number += 1
    return journal_of(id, lines)


def journal_of(id: RecordingId, lines: Page) -> Journal:
    """Put a journal together. :raises NotFoundError: its first line is missing."""
    header = next((line for line in lines if isinstance(line, Header)), None)
    if header is None:
        raise NotFoundError(f"there is no recording {id}, or its journal is lost")
    return Journal(header, (line for line in lines if isinstance(line, RecordedSegment)))
