"""
What ended presentations left in the storage, until another one of the same name makes it superfluous.

A final playlist stays there with all that it names, for players that are not through with it. The next presentation of
the stream puts its own playlist in the place of that one, and then nothing names the old media any more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from rapidrtmp.names import StreamName

__all__ = ["OrphanedMedia"]

#: Of how many streams this is remembered; what is forgotten is found again when the server starts.
MOST_STREAMS = 10_000


class OrphanedMedia:
    """The names of media that ended presentations left, by stream."""

    def __init__(self) -> None:
        self._names: OrderedDict[StreamName, tuple[str, ...]] = OrderedDict()

    def leave(self, stream: StreamName, names: Iterable[str]) -> None:
        """Add the names that a presentation left when it ended to those that are not taken yet."""
        self._names[stream] = tuple({**dict.fromkeys(self._names.get(stream, ())), **dict.fromkeys(names)})
        self._names.move_to_end(stream)
        while len(self._names) > MOST_STREAMS:
            self._names.popitem(last=False)

    def take(self, stream: StreamName) -> tuple[str, ...]:
        """Take what there is of a stream: the caller deletes it."""
        return self._names.pop(stream, ())
