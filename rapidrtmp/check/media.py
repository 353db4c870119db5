"""
Whether fragmented MP4 is what its playlist says of it: boxes, decode times, durations, keyframes.

The boxes are read by :mod:`rapidrtmp.cmaf.reader`. Nothing here knows of HTTP.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from fractions import Fraction

from rapidrtmp.cmaf.pictures import find_first_sample
from rapidrtmp.cmaf.reader import FragmentInfo, SampleInfo, TrackInfo, read_fragments, read_init_segment
from rapidrtmp.errors import MediaError
from rapidrtmp.m3u8.model import Part, Segment
from rapidrtmp.m3u8.rules import Rule, Severity, Violation, seconds

__all__ = ["MediaProbe"]

#: A segment's EXTINF may be this far from its samples' durations.
DURATION_TOLERANCE_US = 1_000
#: Durations are written with a few decimals.
ROUNDING_US = 10
#: Decode times that miss each other by less are a matter of rounding.
JOIN_TOLERANCE_US = 1_000


class MediaProbe:
    """
    Looks at the media of one rendition, segment after segment.

    :param independent: whether the playlist claims that every segment can be decoded alone.
    """

    def __init__(self, *, independent: bool) -> None:
        self.independent = independent
        self._tracks: list[TrackInfo] = []
        self._expected: dict[int, int] = {}  # track id: the decode time at which the next segment should begin
        self._last_sequence: int | None = None

    def read_init(self, data: bytes) -> list[Violation]:
        """Take the init segment that holds for what follows."""
        try:
            self._tracks = read_init_segment(data)
        except MediaError as error:
            self._tracks = []
            return [Violation(Rule.MEDIA, f"init segment: {error}")]
        if not self._tracks:
            return [Violation(Rule.MEDIA, "init segment: no tracks")]
        return []

    def check_part(self, segment: Segment, index: int, data: bytes) -> list[Violation]:
        """What is wrong with a part."""
        return list(self._part(segment.parts[index], f"segment {segment.sequence}, part {index}", data, index == 0))

    def check_segment(self, segment: Segment, data: bytes) -> list[Violation]:
        """What is wrong with a complete segment, and with how it joins on to the one before."""
        joins = not segment.discontinuity and self._last_sequence == segment.sequence - 1
        if not joins:
            self._expected = {}
        self._last_sequence = segment.sequence
        return list(self._segment(segment, f"segment {segment.sequence}", data))

    def check_picture(self, segment: Segment, data: bytes) -> list[Violation]:
        """What is wrong with a segment of an I-frame playlist: it holds a whole keyframe, and may end behind it."""
        name = f"segment {segment.sequence}"
        if not self._tracks:
            return []  # its init segment was wrong: reported already
        try:
            sample = find_first_sample(data, self._main)
        except MediaError as error:
            return [Violation(Rule.MEDIA, f"{name}: {error}")]
        if sample is None:
            return [Violation(Rule.MEDIA, f"{name}: no samples of track {self._main.track_id}")]
        if not sample.keyframe:
            return [Violation(Rule.MEDIA, f"{name}: its picture is no keyframe")]
        if sample.end > len(data):
            return [Violation(Rule.MEDIA, f"{name}: {len(data)} bytes, and its picture ends at {sample.end}")]
        return []

    def _part(self, part: Part, name: str, data: bytes, first: bool) -> Iterator[Violation]:
        fragments = yield from self._fragments(name, data)
        samples = self._main_samples(fragments)
        if not samples or not fragments:
            return
        timescale = self._main.timescale
        frame_us = max(sample.duration for sample in samples) * 1_000_000 // timescale
        lasts_us = sum(sample.duration for sample in samples) * 1_000_000 // timescale
        if abs(lasts_us - part.duration_us) > frame_us + ROUNDING_US:
            yield Violation(Rule.MEDIA, f"{name}: lasts {seconds(lasts_us)}, DURATION says {seconds(part.duration_us)}")
        has_keyframe = any(sample.keyframe for sample in samples)
        if part.independent and not has_keyframe:
            yield Violation(Rule.MEDIA, f"{name}: INDEPENDENT, but there is no keyframe in it")
        if first and samples[0].keyframe and not part.independent:
            yield Violation(Rule.MEDIA, f"{name}: begins with a keyframe, but is not INDEPENDENT", Severity.WARNING)

    def _segment(self, segment: Segment, name: str, data: bytes) -> Iterator[Violation]:
        fragments = yield from self._fragments(name, data)
        if fragments is None:
            self._expected = {}
            return
        yield from self._joins(name, fragments)
        samples = self._main_samples(fragments)
        if not samples:
            yield Violation(Rule.MEDIA, f"{name}: no samples of track {self._main.track_id}")
            return
        timescale = self._main.timescale
        lasts_us = sum(sample.duration for sample in samples) * 1_000_000 // timescale
        off_us = abs(lasts_us - segment.duration_us)
        frame_us = max(sample.duration for sample in samples) * 1_000_000 // timescale
        # Where pictures decide, audio cannot be cut but between its frames.
        if off_us > (frame_us + ROUNDING_US if self._main.handler == "soun" else DURATION_TOLERANCE_US):
            yield Violation(
                Rule.MEDIA,
                f"{name}: lasts {seconds(lasts_us)}, EXTINF says {seconds(segment.duration_us)}",
                Severity.ERROR if off_us > frame_us + ROUNDING_US else Severity.WARNING,
            )
        if self._main.handler == "vide" and not samples[0].keyframe:
            severity = Severity.ERROR if self.independent else Severity.WARNING
            yield Violation(Rule.MEDIA, f"{name}: does not begin with a keyframe", severity)

    def _fragments(self, name: str, data: bytes) -> Generator[Violation, None, list[FragmentInfo] | None]:
        """A sub-iterator that returns the fragments; ``None`` if they cannot be read."""
        if not self._tracks:
            return None  # its init segment was wrong: reported already
        try:
            fragments = read_fragments(data, self._tracks)
        except MediaError as error:
            yield Violation(Rule.MEDIA, f"{name}: {error}")
            return None
        if not fragments:
            yield Violation(Rule.MEDIA, f"{name}: no fragments")
            return None
        return fragments

    def _joins(self, name: str, fragments: Sequence[FragmentInfo]) -> Iterator[Violation]:
        """Each fragment's decode time is where the one before ended, track by track."""
        timescales = {track.track_id: track.timescale for track in self._tracks}
        for fragment in fragments:
            for run in fragment.tracks:
                expected = self._expected.get(run.track_id)
                off = 0 if expected is None else run.base_decode_time - expected
                if abs(off) > 1:
                    off_us = int(Fraction(off * 1_000_000, timescales[run.track_id]))
                    yield Violation(
                        Rule.MEDIA,
                        f"{name}: decode time of track {run.track_id} is {seconds(off_us)} off from where the "
                        "fragment before ended",
                        Severity.ERROR if abs(off_us) > JOIN_TOLERANCE_US else Severity.WARNING,
                    )
                self._expected[run.track_id] = run.base_decode_time + sum(one.duration for one in run.samples)

    @property
    def _main(self) -> TrackInfo:
        """The track whose time is the playlist's: video, if there is any."""
        return next((track for track in self._tracks if track.handler == "vide"), self._tracks[0])

    def _main_samples(self, fragments: Sequence[FragmentInfo] | None) -> list[SampleInfo]:
        return [
            sample
            for fragment in fragments or ()
            for run in fragment.tracks
            if run.track_id == self._main.track_id
            for sample in run.samples
        ]
