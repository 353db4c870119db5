"""Live streams as the JSON objects that the API shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime

from rapidrtmp.codec.table import CODECS
from rapidrtmp.http.params import rfc3339
from rapidrtmp.live.stream import LiveStream, StreamState
from rapidrtmp.media import AudioConfig, MediaKind, Rhythm, Track, VideoConfig

__all__ = ["camel_case", "describe_stream"]

#: Encoder metadata is a stranger's: how deep, how wide and how long it may be before it is cut.
MAX_DEPTH, MAX_ITEMS, MAX_TEXT = 4, 64, 512


def describe_stream(stream: LiveStream, now_ms: int, players: Mapping[str, int]) -> dict[str, object]:
    """
    All that is public about a stream.

    :param now_ms: the time on the clock that its frames are stamped with.
    """
    video = next((track.config for track in stream.tracks if isinstance(track.config, VideoConfig)), None)
    audio = next((track.config for track in stream.tracks if isinstance(track.config, AudioConfig)), None)
    ended = stream.state is StreamState.ENDED
    counts = stream.statistics
    return {
        "streamKey": stream.name.key,
        "app": stream.name.app,
        "active": stream.publisher is not None,
        "state": stream.state.value,
        "viewers": stream.viewers.count(now_ms),
        "players": dict(players),
        "startedAt": rfc3339(stream.started_at_ms),
        "duration": (stream.end_ms if ended else max(now_ms - stream.begun_ms, 0)) / 1000,
        "videoCodec": video.codec_string if video else None,
        "audioCodec": audio.codec_string if audio else None,
        "resolution": f"{video.width}x{video.height}" if video else None,
        "bitrate": counts.bits_per_second(now_ms),
        "frameRate": _frame_rate(stream, now_ms),
        "audioSampleRate": audio.sample_rate if audio else None,
        "audioChannels": audio.channels if audio else None,
        "keyframes": counts.keyframes,
        "frames": counts.frames,
        "bytesReceived": counts.byte_count,
        "discontinuities": stream.discontinuities,
        "tracks": [_describe_track(track, stream.rhythm(track, now_ms)) for track in stream.tracks],
        "renditions": [
            {camel_case(name): value for name, value in asdict(report).items()} for report in stream.rungs()
        ],
        "sinks": [
            {"name": load.name, "msPerFrame": round(load.ms_per_frame, 3), "state": load.state.value}
            for load in stream.fan_out.loads
        ],
        "playbackUrl": f"/{stream.name.app}/{stream.name.key}/index.m3u8",
        "pageUrl": f"/{stream.name.app}/{stream.name.key}",
        "peer": stream.publisher.peer if stream.publisher is not None else None,
        "health": _health(stream),
        "metadata": _plain(stream.metadata),
    }


def _frame_rate(stream: LiveStream, now_ms: int) -> float:
    """Frames a second of the video that leads, as measured lately; 0 without."""
    video = next((track for track in stream.tracks if track.kind is MediaKind.VIDEO), None)
    rate = stream.rhythm(video, now_ms).frame_rate if video is not None else None
    return round(float(rate), 3) if rate is not None else 0.0


def _describe_track(track: Track, rhythm: Rhythm) -> dict[str, object]:
    """What one track is, and what has been measured of it."""
    codec, config = CODECS.get(track.codec), track.config
    common: dict[str, object] = {
        "id": track.id,
        "kind": track.kind.value,
        "codec": config.codec_string,
        "codecName": codec.name if codec is not None else track.codec,
        "language": track.language,
        "name": track.name,
    }
    if isinstance(config, AudioConfig):
        return common | {"sampleRate": config.sample_rate, "channels": config.channels}
    return common | {
        "width": config.width,
        "height": config.height,
        "frameRate": round(float(rhythm.frame_rate), 3) if rhythm.frame_rate is not None else 0.0,
        "keyframeInterval": round(rhythm.keyframe_interval / track.timescale, 3),
    }


def _health(stream: LiveStream) -> dict[str, object]:
    """How its publisher does: what is wrong, with advice, and the numbers behind it."""
    numbers = asdict(stream.health) if stream.health is not None else {}
    return {
        "verdict": "attention" if stream.findings else "good" if numbers else "unknown",
        "findings": [{"kind": finding.kind.value, "advice": finding.advice} for finding in stream.findings],
        **{camel_case(name): value for name, value in numbers.items()},
    }


def camel_case(name: str) -> str:
    """A field's name as JSON has it."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _plain(value: object, depth: int = 0) -> object:
    """What an encoder said, as JSON can say it: no NaN, no foreign types, no more than fits."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value[:MAX_TEXT].encode("utf-8", "replace").decode()
    if isinstance(value, int | float):
        return value if math.isfinite(value) else None
    if depth < MAX_DEPTH and isinstance(value, Mapping):
        return {str(name)[:MAX_TEXT]: _plain(item, depth + 1) for name, item in list(value.items())[:MAX_ITEMS]}
    if depth < MAX_DEPTH and isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value[:MAX_ITEMS]]
    return str(value)[:MAX_TEXT] if isinstance(value, datetime) else None
