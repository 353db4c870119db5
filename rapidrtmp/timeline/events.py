"""What a publisher's media turns into: frames, and what there is to know between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from rapidrtmp.media import Frame, Track

__all__ = ["Coded", "Discontinuity", "MediaEvent", "MediaProblem", "PublisherUnusable", "TracksChanged"]


@dataclass(frozen=True, slots=True)
class TracksChanged:
    """
    What the frames that follow are: video first, and of that the leading track.

    From the second time on, a ``Discontinuity`` comes just before.
    """

    tracks: tuple[Track, ...]


@dataclass(frozen=True, slots=True)
class Discontinuity:
    """What follows does not join on to what came before; decode times still rise. ``reason`` is for the log."""

    reason: str


@dataclass(frozen=True, slots=True)
class MediaProblem:
    """
    Something that was lost, mended or left out.

    :ivar kind: one of a few words, fit for the label of a metric:
        ``malformed`` a payload, config or access unit that cannot be read (dropped);
        ``too_many_pieces`` a message of more units or frames than any encoder sends in one (dropped);
        ``unknown_packet`` a message of a packet type that is not known (skipped);
        ``no_config`` a frame before its codec config (dropped);
        ``no_picture`` a video message with no picture in it (dropped);
        ``waiting_for_keyframe`` a picture that no player could decode yet (dropped);
        ``waiting_for_cut`` audio of a new config, which begins where the video can be cut (dropped);
        ``trimmed`` a frame from before the place where the stream begins (dropped);
        ``timestamp_jump`` a frame held back, or still on the old clock, when the clock jumped (dropped);
        ``config_replaced`` a frame held back whose codec config was replaced before the start (dropped);
        ``audio_overlap`` audio for a time that has been filled (dropped);
        ``audio_gap`` a pause in the audio;
        ``timestamp_repaired`` a decode time that did not rise, or was far from those around it;
        ``timestamp_clamped`` one of the first decode times, which a muxer wrote as the first because it writes none
        below zero;
        ``timestamp_frozen`` a decode time made from the arrival, because timestamps stand still;
        ``timestamp_shifted`` the first decode time behind a jump of one track's clock alone, which is moved back to
        where it was from there on;
        ``clamped_composition`` a composition offset that cannot be true;
        ``timed_metadata`` a data message that is too large, one of too many, or cannot be said in JSON (dropped);
        ``track_skew`` audio and video that arrive far apart, or drift apart: reported when it begins;
        ``unsupported_codec``, ``extra_track``: a track that is left out, reported once for each codec.
    :ivar detail: one sentence with the numbers, for the log.
    """

    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class PublisherUnusable:
    """
    There is nothing to watch, since the timeline breaks off so often, or no track can be carried: end the publish.
    Reported once.

    :ivar reason: one sentence for the publisher and the log.
    """

    reason: str


MediaEvent = TracksChanged | Discontinuity | Frame | MediaProblem | PublisherUnusable


class Coded(NamedTuple):
    """
    One coded frame that has no place on the stream's timeline yet.

    :ivar track: its track, with the config it was sent under.
    :ivar time_ns: decode time in nanoseconds on the publisher's unwrapped clock.
    :ivar composition_ms: presentation minus decode time, as it came.
    :ivar keyframe: decoding may start here; true for all audio.
    :ivar samples: how long it lasts, in samples of the track's clock; 0 for video, which does not say.
    :ivar data: the sample as MP4 stores it.
    :ivar now_ms: when it arrived, on the server's monotonic clock.
    """

    track: Track
    time_ns: int
    composition_ms: int
    keyframe: bool
    samples: int
    data: bytes
    now_ms: int

    @property
    def pts_ns(self) -> int:
        """Presentation time in nanoseconds on the publisher's unwrapped clock."""
        return self.time_ns + self.composition_ms * 1_000_000
