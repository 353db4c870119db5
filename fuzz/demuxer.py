"""
The demuxer: a publish of any messages at any times.

An input is a run of messages: one byte (bit 0 audio, bit 1 a great step, bit 2 that time passes), the step of the
clock in one or four bytes, the payload behind its length. Nothing at all may escape; and of each track the decode
times rise, tracks are announced before their frames, and video begins with a keyframe.
"""

from __future__ import annotations

from collections.abc import Iterable

from fuzz.reading import Input
from rapidrtmp.live.demuxer import Demuxer, MediaEvent, TimelinePolicy, TracksChanged
from rapidrtmp.media import Frame, MediaKind, Track

__all__ = ["run"]

#: Little is held, for short inputs should see the whole life of a stream.
POLICY = TimelinePolicy(start_media_ms=400, announced_media_ms=600, rate_hold_ms=200, start_frames=40)
START_MS = 250


def run(data: bytes) -> None:
    """One publish. :raises AssertionError: an invariant does not hold."""
    messages, demuxer, timestamp, now_ms = Input(data), Demuxer(POLICY, START_MS), 0, 0
    events: list[MediaEvent] = []
    while messages:
        flags = messages.number()
        timestamp = (timestamp + messages.number(4 if flags & 2 else 1)) % 2**32
        now_ms += 700 if flags & 4 else 14
        receive = demuxer.audio_received if flags & 1 else demuxer.video_received
        events += receive(timestamp, messages.sized(), now_ms)
        events += demuxer.poll(now_ms)
    check([*events, *demuxer.finish()])


def check(events: Iterable[MediaEvent]) -> None:
    """Hold events to what sinks are promised."""
    tracks: tuple[Track, ...] = ()
    latest: dict[int, int] = {}
    begun: set[int] = set()
    for event in events:
        if isinstance(event, TracksChanged):
            assert event.tracks, "no tracks"
            tracks, latest = event.tracks, {}
            begun.clear()
        elif isinstance(event, Frame):
            track = event.track
            assert any(track is each for each in tracks), "a frame of no track"
            assert event.dts > latest.get(track.id, -1), "decode times that do not rise"
            assert event.duration > 0
            latest[track.id] = event.dts
            if track.kind is MediaKind.VIDEO:
                assert event.keyframe or track.id in begun, "video that does not begin with a keyframe"
            begun.add(track.id)
