"""
The renditions of a stream, as players find them: each is to them what a stream is.

There are rungs of its ladder, and the sizes that the publisher sends itself, as several video tracks. Those have the
names that they have over HLS (``video-1``), and their height is a name as well (``360p``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from zope.interface import implementer

from rapidrtmp.cmaf.rung_frames import RungFrames
from rapidrtmp.interfaces import ISink
from rapidrtmp.media import Frame, MediaKind, Track, VideoConfig

__all__ = ["Rendition", "Renditions"]


class _Source(Protocol):
    """Where the frames of a rendition come from."""

    def tracks(self, stream: Any) -> tuple[Track, ...]:
        """Its tracks now; empty as long as they are not known."""

    def feed(self, sink: Any, gone: Callable[[], object]) -> Any:
        """
        A sink of the stream that hands them on to a sink of the rendition.

        :param gone: called when the stream has the rendition no longer.
        """


class _Rung:
    """A rung of the ladder."""

    def __init__(self, name: str) -> None:
        self._name = name

    def tracks(self, stream: Any) -> tuple[Track, ...]:
        """Its tracks; empty until its first picture is described."""
        tracks: tuple[Track, ...] = stream.tracks_of_rung(self._name)
        return tracks

    def feed(self, sink: Any, gone: Callable[[], object]) -> RungFrames:
        """Hand on its frames, from somewhere in its open segment on."""
        del gone
        return RungFrames(self._name, sink)


class _Size:
    """One of the publisher's own video tracks, with all audio."""

    def __init__(self, track_id: int) -> None:
        self._track_id = track_id

    def tracks(self, stream: Any) -> tuple[Track, ...]:
        """That video and the audio; empty where the publisher does not send it any more."""
        return _with_audio(stream.tracks, self._track_id)

    def feed(self, sink: Any, gone: Callable[[], object]) -> _SizeFrames:
        """Hand on its frames, and those of audio."""
        return _SizeFrames(self._track_id, sink, gone)


def _with_audio(tracks: tuple[Track, ...], track_id: int) -> tuple[Track, ...]:
    picked = tuple(track for track in tracks if track.id == track_id or track.kind is MediaKind.AUDIO)
    return picked if any(track.id == track_id for track in picked) else ()


@implementer(ISink)
class _SizeFrames:
    """Leaves out the other video tracks."""

    def __init__(self, track_id: int, sink: Any, gone: Callable[[], object]) -> None:
        self._track_id = track_id
        self._sink = sink
        self._gone = gone

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """See :class:`~rapidrtmp.interfaces.ISink`; likewise the other methods."""
        picked = _with_audio(tracks, self._track_id)
        if picked:
            self._sink.tracks_changed(picked)
        else:
            self._gone()

    def frame_received(self, frame: Frame) -> None:
        """One frame, if it belongs here."""
        if frame.track.id == self._track_id or frame.track.kind is MediaKind.AUDIO:
            self._sink.frame_received(frame)

    def discontinuity(self) -> None:
        """What follows does not join on."""
        self._sink.discontinuity()

    def interrupted(self) -> None:
        """The publisher is gone, and may return."""
        self._sink.interrupted()

    def finish(self) -> None:
        """The end."""
        self._sink.finish()


class Rendition:
    """
    One of them: it has tracks, and sinks are attached to it.

    :ivar source: the stream.
    """

    def __init__(self, source: Any, name: str, frames: _Source, owner: Renditions) -> None:
        self.source = source
        self.name = name
        self._frames = frames
        self._owner = owner

    @property
    def tracks(self) -> tuple[Track, ...]:
        """Its tracks; empty as long as they are not known."""
        return self._frames.tracks(self.source)

    @property
    def has_ended(self) -> bool:
        """Whether its stream has."""
        has_ended: bool = self.source.has_ended
        return has_ended

    def attach(self, name: str, sink: Any, *, with_past: bool = False) -> None:
        """Let an ``ISink`` have its frames; see ``LiveStream.attach``. A rung has no past."""
        self._owner.in_use[id(self.source), self.name] = self
        with_past = with_past and not isinstance(self._frames, _Rung)
        frames = self._frames.feed(sink, lambda: self.detach(name))
        self.source.attach(f"{name}:{self.name}", frames, with_past=with_past)

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
        """The rendition of that name; ``None`` if the stream has none of that name."""
        if any(report.name == name for report in stream.rungs()):
            return self._found(stream, name, _Rung(name))
        size = _find_size(stream.tracks, name)
        return None if size is None else self._found(stream, size.rendition_name, _Size(size.id))

    def _found(self, stream: Any, name: str, frames: _Source) -> Rendition:
        return self.in_use.get((id(stream), name)) or Rendition(stream, name, frames, self)


def _find_size(tracks: tuple[Track, ...], name: str) -> Track | None:
    """The video track that a name stands for; of several of one height the first."""
    return next((track for track in tracks if track.kind is MediaKind.VIDEO and name in _names_of(track)), None)


def _names_of(track: Track) -> tuple[str, ...]:
    config = track.config
    height = f"{config.height}p" if isinstance(config, VideoConfig) else ""
    return track.rendition_name, height
