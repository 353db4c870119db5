"""The rungs of a stream's ladder, as players find them: each is to them what a stream is."""

from __future__ import annotations

from typing import Any

from rapidrtmp.cmaf.rung_frames import RungFrames
from rapidrtmp.media import Track

__all__ = ["Rendition", "Renditions"]


class Rendition:
    """
    One rung: it has tracks, and sinks are attached to it.

    :ivar source: the stream.
    """

    def __init__(self, source: Any, name: str, owner: Renditions) -> None:
        self.source = source
        self.name = name
        self._owner = owner

    @property
    def tracks(self) -> tuple[Track, ...]:
        """Its tracks; empty until its first picture is described."""
        tracks: tuple[Track, ...] = self.source.tracks_of_rung(self.name)
        return tracks

    @property
    def has_ended(self) -> bool:
        """Whether its stream has."""
        has_ended: bool = self.source.has_ended
        return has_ended

    def attach(self, name: str, sink: Any, *, with_past: bool = False) -> None:
        """Let an ``ISink`` have its frames, from somewhere in its open segment on; there is no past of it."""
        del with_past
        self._owner.in_use[id(self.source), self.name] = self
        self.source.attach(f"{name}:{self.name}", RungFrames(self.name, sink))

    def has_sink(self, name: str) -> bool:
        """Whether the sink of that name works."""
        has_sink: bool = self.source.has_sink(f"{name}:{self.name}")
        return has_sink

    def detach(self, name: str) -> None:
        """Finish and let go of a sink."""
        self.source.detach(f"{name}:{self.name}")


class Renditions:
    """
    Finds them.

    :ivar in_use: those with a sink, by the id of their stream and their name: it is always the same object.
    """

    def __init__(self) -> None:
        self.in_use: dict[tuple[int, str], Rendition] = {}

    def forget(self, rendition: Rendition) -> None:
        """Learn that one has no sink any more."""
        self.in_use.pop((id(rendition.source), rendition.name), None)

    def find(self, stream: Any, name: str) -> Rendition | None:
        """The rung of that name; ``None`` if the stream has none of that name."""
        found = self.in_use.get((id(stream), name))
        if found is not None:
            return found
        return Rendition(stream, name, self) if any(report.name == name for report in stream.rungs()) else None
