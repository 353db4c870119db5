"""Parts of the packager's joined to those of a recording, which are longer, and written as one fragment each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rapidrtmp.cmaf.event_messages import write_event_messages
from rapidrtmp.cmaf.fragment import join_runs, write_fragment
from rapidrtmp.interfaces import Part, TrackRun
from rapidrtmp.media import TimedMetadata, Track
from rapidrtmp.recording.writer import RecordingWriter

__all__ = ["PartJoiner"]


@dataclass(slots=True)
class _OpenPart:
    """
    Parts of the packager's that are joined to one of the recording.

    :ivar keyframe: whether playing can begin with it; ``open``: whether some of it needs what is before nevertheless.
    :ivar runs: its samples by the id of their track.
    :ivar duration: in ticks of the leading track.
    """

    keyframe: bool
    open: bool
    runs: dict[int, TrackRun] = field(default_factory=dict)
    duration: int = 0
    metadata: list[TimedMetadata] = field(default_factory=list)

    def is_continued_by(self, part: Part) -> bool:
        """Whether each track's samples begin where those that are here end: one fragment can hold them."""
        joints = [(self.runs[run.track.id], run) for run in part.runs if run.track.id in self.runs]
        return all(_end(before) == after.samples[0].frame.dts for before, after in joints)

    def add(self, part: Part) -> None:
        """Join a part."""
        self.duration += part.duration
        self.metadata += part.metadata
        for run in part.runs:
            before = self.runs.get(run.track.id)
            self.runs[run.track.id] = run if before is None else join_runs(before, run)


def _end(run: TrackRun) -> int:
    """The decode time behind the last sample of a run."""
    return run.samples[0].frame.dts + sum(duration for _, duration in run.samples)


class PartJoiner:
    """
    Joins the parts of one recording.

    :param tracks: of it, in order.
    :param base_s: what decode times are moved back by.
    :param shortest: a part is written when it is so long, in ticks of the leading track.
    :param written: called with the size of each that is written.
    """

    def __init__(
        self,
        writer: RecordingWriter,
        tracks: Sequence[Track],
        base_s: int,
        shortest: int,
        written: Callable[[int], object],
    ) -> None:
        self._writer = writer
        self._tracks = tracks
        self._base_s = base_s
        self._shortest = shortest
        self._written = written
        self._part: _OpenPart | None = None
        self._fragments = 0

    def join(self, part: Part) -> None:
        """Add a part to the one that grows; that is written when it is long enough."""
        if self._part is not None and not self._part.is_continued_by(part):
            self.put()
        opened = self._part
        if opened is None:
            opened = self._part = _OpenPart(part.is_start, open=part.is_start and not part.is_closed)
        opened.add(part)
        if opened.duration >= self._shortest:
            self.put()

    def add_empty(self, duration: int) -> None:
        """Write what there is, and a moment without media behind it."""
        self.put()
        self._writer.add((), duration, keyframe=False)

    def put(self) -> None:
        """Write what there is."""
        part, self._part = self._part, None
        if part is not None:
            self._fragments += 1
            runs = [part.runs[track.id] for track in self._tracks if track.id in part.runs]
            messages = write_event_messages(part.metadata, self._base_s)
            data = [*messages, *write_fragment(self._fragments, runs, self._base_s)]
            self._written(sum(map(len, data)))
            self._writer.add(data, part.duration, keyframe=part.keyframe, open=part.open)
