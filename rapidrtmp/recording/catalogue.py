"""One entry of the catalogue: what can be said of a recording without reading its journal."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass

from rapidrtmp.archive.journal import MOST_CODECS, MOST_PIXELS, Header, Journal
from rapidrtmp.archive.layout import RecordingId
from rapidrtmp.errors import MediaError, NotFoundError
from rapidrtmp.storage.process import PROCESS
from rapidrtmp.support.stored_json import MOST_MS, StoredObjectFields

__all__ = ["WRITER", "Entry", "RecordingState"]

#: A recording has no more of them.
MOST_RENDITIONS = 32
#: This process. What a process left unfinished that is no more is for recovery.
WRITER = PROCESS


class RecordingState(enum.Enum):
    """Where a recording is in its life."""

    RECORDING = "recording"
    FINISHED = "finished"
    RECOVERED = "recovered"  # its server died, and it was closed from what is stored
    DAMAGED = "damaged"  # nothing of it can be played: neither journal nor init segment is there
    DELETING = "deleting"  # it is being deleted, or that was interrupted

    @property
    def is_over(self) -> bool:
        """Whether nothing is added any more."""
        return self is not RecordingState.RECORDING


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One entry; while a recording grows, it says no more than that.

    :ivar writer: the process that made it; see :data:`WRITER`.
    :ivar started_ms: in milliseconds since 1970; likewise ``ended_ms``, 0 while it grows.
    :ivar size: in bytes, with all renditions.
    :ivar segments: how many, ``gaps`` of them not playable.
    :ivar renditions: the folders of its other renditions.
    """

    id: RecordingId
    state: RecordingState
    writer: str
    started_ms: int
    ended_ms: int = 0
    duration_ms: int = 0
    size: int = 0
    segments: int = 0
    gaps: int = 0
    codecs: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    renditions: tuple[str, ...] = ()

    @classmethod
    def begun(cls, id: RecordingId, header: Header) -> Entry:
        """The entry of a recording that this process begins."""
        return cls(
            id,
            RecordingState.RECORDING,
            WRITER,
            header.started_ms,
            codecs=header.codecs,
            width=header.width,
            height=header.height,
        )

    @classmethod
    def of_journal(cls, id: RecordingId, state: RecordingState, journal: Journal) -> Entry:
        """The entry of a recording of which its journal says all."""
        header = journal.header
        return cls(
            id,
            state,
            WRITER,
            started_ms=header.started_ms,
            ended_ms=journal.ended_ms if state.is_over else 0,
            duration_ms=journal.duration_ms,
            size=journal.size,
            segments=len(journal.segments),
            gaps=len(journal.segments) - len(journal.playable),
            codecs=header.codecs,
            width=header.width,
            height=header.height,
        )

    def render(self) -> bytes:
        """The entry as it is stored: one JSON object."""
        value = {
            "format": 1,
            "state": self.state.value,
            "writer": self.writer,
            "startedMs": self.started_ms,
            "endedMs": self.ended_ms,
            "durationMs": self.duration_ms,
            "size": self.size,
            "segments": self.segments,
            "gaps": self.gaps,
            "codecs": list(self.codecs),
            "width": self.width,
            "height": self.height,
            **({"renditions": list(self.renditions)} if self.renditions else {}),
        }
        return json.dumps(value, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def parse(cls, id: RecordingId, data: bytes) -> Entry:
        """
        Read what :meth:`render` wrote.

        :raises MediaError: it is cut off, or no entry.
        """
        try:
            fields = StoredObjectFields(data)
            return cls(
                id,
                RecordingState(fields.text("state")),
                fields.text("writer"),
                fields.whole("startedMs", most=MOST_MS),
                fields.whole("endedMs", most=MOST_MS),
                fields.whole("durationMs", most=MOST_MS),
                fields.whole("size"),
                fields.whole("segments"),
                fields.whole("gaps"),
                fields.texts("codecs", MOST_CODECS),
                fields.whole("width", most=MOST_PIXELS),
                fields.whole("height", most=MOST_PIXELS),
                _renditions(id, fields),
            )
        except (MediaError, NotFoundError, ValueError) as error:
            raise MediaError(f"the catalogue's entry of {id} cannot be read: {error}") from error


def _renditions(id: RecordingId, fields: StoredObjectFields) -> tuple[str, ...]:
    names = fields.texts("renditions", MOST_RENDITIONS) if "renditions" in fields else ()
    return tuple(id.of(name).rendition for name in names)
