"""
What is wrong with a publish, in words that help: numbers of the demuxer in, findings with advice out.

A finding is for the person at the encoder, so it says what is seen and what to change. Its name comes from a fixed set:
it labels a metric.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rapidrtmp.cmaf.segmenter import packaged_tracks
from rapidrtmp.codec.table import CODECS
from rapidrtmp.live.demuxer import LeftOut, refusal_of
from rapidrtmp.live.fan_out import SinkLoad
from rapidrtmp.media import MediaKind, Track
from rapidrtmp.timeline.health import PublishHealth

__all__ = [
    "Finding",
    "FindingKind",
    "diagnose",
    "diagnose_codecs",
    "diagnose_overload",
    "diagnose_renditions",
    "diagnose_sinks",
    "diagnose_tracks",
    "notice_of",
]


#: What the topics of advice begin with that is not about what is left out of playlists.
RELAY_TOPIC = "relay "


class FindingKind(enum.StrEnum):
    """What can be wrong."""

    LONG_KEYFRAME_INTERVAL = "long_keyframe_interval"
    TRACK_LEFT_OUT = "track_left_out"
    OPEN_GOPS = "open_gops"
    SKEW = "skew"
    SKEW_DRIFT = "skew_drift"
    CLOCK_DRIFT = "clock_drift"
    TOO_FAST = "too_fast"
    UNDERRUN = "underrun"
    JITTER = "jitter"
    REPAIRED_TIMESTAMPS = "repaired_timestamps"
    DROPPED_FRAMES = "dropped_frames"
    GAPS = "gaps"
    AUDIO_MISSING = "audio_missing"
    VIDEO_MISSING = "video_missing"
    AUDIO_STOPPED = "audio_stopped"
    VIDEO_STOPPED = "video_stopped"
    UNPLAYABLE_CODEC = "unplayable_codec"
    SLOW_SINK = "slow_sink"
    OVERLOADED = "overloaded"
    UNSUPPORTED_CODEC = "unsupported_codec"
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One thing that is wrong.

    :ivar advice: one or two sentences: what is seen, and what to do about it.
    """

    kind: FindingKind
    advice: str


#: Beyond which a number is a finding.
LONG_KEYFRAME_INTERVAL_MS = 5_000
NO_KEYFRAMES_MS = 10_000
OPEN_GOPS = 3
SKEW_MS, SKEW_DRIFT_MS = 500, 100
CLOCK_DRIFT_MS = 30  # in a minute: 500 ppm
TOO_FAST_MS, UNDERRUN_MS = 4_000, -2_000
JITTER_MS = 100
STOPPED_MS = 2_000
#: Whose lead grows or shrinks faster than this in a minute does not have a wrong clock but sends too fast or too slow.
NOT_A_CLOCK_MS = 3_000


def diagnose(now: PublishHealth, before: PublishHealth | None) -> tuple[Finding, ...]:
    """
    What is wrong now.

    :param before: the numbers at the last look; counters that have grown since are findings, old sins are not.
    """
    found = ((kind, rule(now, before)) for kind, rule in _RULES.items())
    return tuple(Finding(kind, advice) for kind, advice in found if advice)


def diagnose_sinks(slow: Sequence[SinkLoad]) -> tuple[Finding, ...]:
    """Which sinks delay the stream: nothing that the person at the encoder can mend, and nothing to look for there."""
    if not slow:
        return ()
    sinks = ", ".join(f"{load.name} ({load.ms_per_frame:.0f} ms per frame)" for load in slow)
    advice = f"The server is late because of its sink {sinks}; the encoder is not the cause, and need not be changed."
    return (Finding(FindingKind.SLOW_SINK, advice),)


def diagnose_overload(refused: int) -> tuple[Finding, ...]:
    """
    Whether this server has time for those who want to watch: nothing that the person at the encoder can mend.

    :param refused: how many it had none for lately.
    """
    if not refused:
        return ()
    advice = (
        f"{refused} new viewers were asked to come later, because this server is too busy for more; "
        "the encoder is not the cause, and need not be changed."
    )
    return (Finding(FindingKind.OVERLOADED, advice),)


_REFUSED = "Most browsers and phones refuse"
_PLAIN_AAC = "set the encoder to AAC-LC"
_FOR_ALL = "set the encoder to H.264 if all viewers are to see it"
_FEW_PLAY = "Safari plays, and most other browsers refuse,"
_SOUND_FOR_ALL = "set the encoder to AAC if all viewers are to hear it"
_PLAIN_AVC = "set the encoder's pixel format to yuv420p and its profile to High"
#: Codecs that browsers refuse, or that decode in few of them, by what their codec strings begin with: up to a point
#: that ends it, or anywhere within for the profiles of H.264. Which browsers those are, the name, and what to do.
_UNPLAYABLE = {
    "mp4a.40.1": (_REFUSED, "AAC Main", _PLAIN_AAC),
    "mp4a.40.3": (_REFUSED, "AAC SSR", _PLAIN_AAC),
    "mp4a.40.4": (_REFUSED, "AAC LTP", _PLAIN_AAC),
    "avc1.58": (_REFUSED, "H.264 Extended", "set the encoder's profile to High, Main or Baseline"),
    "avc1.6e": (_REFUSED, "H.264 of 10 bits", _PLAIN_AVC),
    "avc1.7a": (_REFUSED, "H.264 4:2:2", _PLAIN_AVC),
    "avc1.f4": (_REFUSED, "H.264 4:4:4", _PLAIN_AVC),
    "avc1.2c": (_REFUSED, "H.264 of intra pictures 4:4:4", _PLAIN_AVC),
    "hvc1.": (
        "Safari plays, and other browsers refuse unless their machine decodes it,",
        "HEVC",
        _FOR_ALL,
    ),
    "av01.": ("iPhones, iPads and Macs without a decoder for it refuse, and other browsers play,", "AV1", _FOR_ALL),
    **{
        codec.fourcc: (_FEW_PLAY, codec.name, _SOUND_FOR_ALL)
        for codec in CODECS.values()
        if codec.name in ("AC-3", "E-AC-3")
    },
    "mp4a.40.34": (_REFUSED, "MP3 within MP4", _SOUND_FOR_ALL),
    "vp09.": ("iPhones and iPads refuse, and other browsers play,", "VP9", _FOR_ALL),
}


def diagnose_tracks(tracks: Sequence[Track]) -> tuple[Finding, ...]:
    """Which tracks browsers will not play, however well they arrive."""
    strings = dict.fromkeys(track.config.codec_string for track in tracks)
    found = [(each, *said) for each in strings for prefix, said in _UNPLAYABLE.items() if _begins(each, prefix)]
    if not found:
        return ()
    advice = " ".join(f"{browsers} {name} ({string}): {cure}." for string, browsers, name, cure in found)
    return (Finding(FindingKind.UNPLAYABLE_CODEC, advice),)


def diagnose_renditions(tracks: Sequence[Track], advice: Iterable[str] = ()) -> tuple[Finding, ...]:
    """
    Which tracks viewers cannot choose, because they are no further audio or size of the picture that leads.

    :param advice: what sinks say of those that they leave out.
    """
    packaged = {track.id for track in packaged_tracks(tracks)} if tracks else set()
    left_out = [track for track in tracks if track.id not in packaged]
    sentences = list(advice)
    if left_out:
        named = ", ".join(f"{track.kind.value} track {(track.id - 1) // 2}" for track in left_out)
        sentences.append(
            f"Viewers do not get {named}: beside the first video track only further audio, and video of the same "
            "shape, are published; send another picture as a stream of its own."
        )
    return (Finding(FindingKind.TRACK_LEFT_OUT, " ".join(sentences)),) if sentences else ()


def diagnose_relays(advice: Mapping[str, str]) -> tuple[Finding, ...]:
    """
    What relays have to say to the encoder.

    :param advice: what sinks say, by topic.
    """
    said = [text for topic, text in advice.items() if topic.startswith(RELAY_TOPIC)]
    return (Finding(FindingKind.RELAY, " ".join(said)),) if said else ()


def _begins(codec_string: str, prefix: str) -> bool:
    """Whether a codec string is of this object type or profile, and not of ``mp4a.40.42``."""
    is_open = prefix.endswith(".") or prefix.startswith("avc1.")
    return codec_string == prefix or (is_open and codec_string.startswith(prefix))


def diagnose_codecs(left_out: Sequence[LeftOut]) -> tuple[Finding, ...]:
    """What of a publish is not carried, and what would be."""
    return (Finding(FindingKind.UNSUPPORTED_CODEC, refusal_of(left_out)),) if left_out else ()


def notice_of(left_out: Sequence[LeftOut], tracks: Sequence[Track]) -> str:
    """
    What viewers see of a publish: why there is no picture, or no sound; empty if there are both.

    :param left_out: what of it is not carried.
    :param tracks: what is.
    """
    unseen = [each for each in left_out if all(track.kind is not each.kind for track in tracks)]
    missing = [f"no {word}" for kind, word in _SEEN_AS.items() if any(each.kind is kind for each in unseen)]
    codecs = " and ".join(each.codec for each in unseen)
    words = f"{' and '.join(missing)}: the encoder sends {codecs}, which this server does not carry"
    return words[0].upper() + words[1:] if missing else ""


_SEEN_AS = {MediaKind.VIDEO: "picture", MediaKind.AUDIO: "sound"}
_Rule = Callable[[PublishHealth, PublishHealth | None], str]


_SET_KEYFRAME_INTERVAL = "Set its keyframe interval to 1 or 2 seconds, without intra refresh."


def _awaits_keyframe(now: PublishHealth, before: PublishHealth | None) -> bool:
    """Whether pictures come, but none that decoding could begin with."""
    return now.video_missing and now.keyframe_waits > (before.keyframe_waits if before is not None else 0)


def _long_keyframe_interval(now: PublishHealth, before: PublishHealth | None) -> str:
    if _awaits_keyframe(now, before):
        return f"Viewers cannot join: the encoder sends no keyframes. {_SET_KEYFRAME_INTERVAL}"
    interval_ms = max(now.keyframe_interval_ms, now.since_keyframe_ms)
    if interval_ms <= LONG_KEYFRAME_INTERVAL_MS:
        return ""
    if now.since_keyframe_ms > max(NO_KEYFRAMES_MS, 2 * now.keyframe_interval_ms):
        return (
            "Viewers cannot join: the encoder sends no keyframes, "
            f"the last one {now.since_keyframe_ms / 1000:.1f} s ago. {_SET_KEYFRAME_INTERVAL}"
        )
    return (
        f"Keyframes are {interval_ms / 1000:.1f} s apart, so viewers start late and segments are long: "
        "set the encoder's keyframe interval to 1 or 2 seconds."
    )


def _open_gops(now: PublishHealth, _: PublishHealth | None) -> str:
    if now.open_gops < OPEN_GOPS:
        return ""
    return (
        "Keyframes are no IDR pictures (open GOP), where not every player can begin, Chromium with H.264 for one, so "
        "viewers may not be able to join: set the encoder to closed GOPs (with x265, open-gop=0)."
    )


def _skew(now: PublishHealth, _: PublishHealth | None) -> str:
    if abs(now.skew_ms) <= SKEW_MS:
        return ""
    side = "ahead of" if now.skew_ms > 0 else "behind"
    return f"Audio is sent {abs(now.skew_ms)} ms {side} video: check the encoder's sync offset and its load."


def _skew_drift(now: PublishHealth, _: PublishHealth | None) -> str:
    if abs(now.skew_drift_ms) <= SKEW_DRIFT_MS:
        return ""
    return (
        f"Audio and video drift apart by {abs(now.skew_drift_ms)} ms a minute: "
        "their devices' clocks differ; let the encoder resample its audio."
    )


def _clock_drift(now: PublishHealth, _: PublishHealth | None) -> str:
    if not CLOCK_DRIFT_MS < abs(now.clock_drift_ms) <= NOT_A_CLOCK_MS:
        return ""
    pace = "fast" if now.clock_drift_ms > 0 else "slow"
    return f"The encoder's clock runs {pace} by {abs(now.clock_drift_ms)} ms a minute: synchronise it."


def _too_fast(now: PublishHealth, _: PublishHealth | None) -> str:
    if now.lead_ms <= TOO_FAST_MS:
        return ""
    return (
        f"Media is {now.lead_ms / 1000:.1f} s ahead of time: it is sent faster than real time, as from a file; "
        "with FFmpeg, use -re."
    )


def _underrun(now: PublishHealth, _: PublishHealth | None) -> str:
    if now.lead_ms >= UNDERRUN_MS:
        return ""
    return (
        f"Media is {-now.lead_ms / 1000:.1f} s behind time: the encoder or the network cannot keep up; "
        "lower the bitrate, the resolution or the encoder's preset."
    )


def _jitter(now: PublishHealth, _: PublishHealth | None) -> str:
    if now.jitter_ms <= JITTER_MS:
        return ""
    return f"Frames arrive unevenly, by {now.jitter_ms} ms on average: the network is unsteady; try a cable."


def _grown(name: str, words: str) -> _Rule:
    def rule(now: PublishHealth, before: PublishHealth | None) -> str:
        grown = getattr(now, name) - (getattr(before, name) if before is not None else 0)
        return f"{grown} {words}" if grown > 0 else ""

    return rule


def _audio_missing(now: PublishHealth, _: PublishHealth | None) -> str:
    return "Audio is announced but none is sent: check the encoder's audio source." if now.audio_missing else ""


def _video_missing(now: PublishHealth, before: PublishHealth | None) -> str:
    if not now.video_missing or _awaits_keyframe(now, before):
        return ""
    if now.dropped_frames > (before.dropped_frames if before is not None else 0):
        return "Video is sent, but no picture of it can be read: check the encoder's codec and its output format."
    return "Video is announced but none is sent: check the encoder's video source."


def _audio_stopped(now: PublishHealth, _: PublishHealth | None) -> str:
    silent_ms = now.audio_silent_ms
    return f"No audio has come for {silent_ms / 1000:.0f} s." if silent_ms > STOPPED_MS else ""


def _video_stopped(now: PublishHealth, _: PublishHealth | None) -> str:
    silent_ms = now.video_silent_ms
    return f"No video has come for {silent_ms / 1000:.0f} s." if silent_ms > STOPPED_MS else ""


_RULES: dict[FindingKind, _Rule] = {
    FindingKind.LONG_KEYFRAME_INTERVAL: _long_keyframe_interval,
    FindingKind.OPEN_GOPS: _open_gops,
    FindingKind.SKEW: _skew,
    FindingKind.SKEW_DRIFT: _skew_drift,
    FindingKind.CLOCK_DRIFT: _clock_drift,
    FindingKind.TOO_FAST: _too_fast,
    FindingKind.UNDERRUN: _underrun,
    FindingKind.JITTER: _jitter,
    FindingKind.REPAIRED_TIMESTAMPS: _grown(
        "repaired_timestamps", "timestamps had to be mended: the encoder's clock stalls or goes back."
    ),
    FindingKind.DROPPED_FRAMES: _grown(
        "dropped_frames", "frames could not be used: they came unreadable, out of time, or before their keyframe."
    ),
    FindingKind.GAPS: _grown("gaps", "gaps in what was sent: the encoder or the network drops media."),
    FindingKind.AUDIO_MISSING: _audio_missing,
    FindingKind.VIDEO_MISSING: _video_missing,
    FindingKind.AUDIO_STOPPED: _audio_stopped,
    FindingKind.VIDEO_STOPPED: _video_stopped,
}
