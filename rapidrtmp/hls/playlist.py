"""
Media playlists: a window of segments as text (RFC 8216 bis).

A segment's lines are written once, when it is complete, and joined from then on; only the open segment's parts and the
few header lines that count are new in each version. Nothing that was listed ever changes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from rapidrtmp.interfaces import Constants, Playlist
from rapidrtmp.m3u8.write import render_date_time, render_seconds

__all__ = [
    "ListedPart",
    "ListedSegment",
    "PlaylistWindow",
    "render_control",
    "render_head",
]

#: Delta updates (EXT-X-SKIP) need protocol version 9; all playlists of a stream say the same.
VERSION = 9
#: A delta update leaves out what is older than this many target durations (4.4.3.8 wants six at least).
SKIP_TARGETS = 6


@dataclass(frozen=True, slots=True)
class ListedPart:
    """One EXT-X-PART; ``seconds`` is its rendered duration, ``gap`` says that there are no bytes behind its name."""

    uri: str
    seconds: str
    independent: bool
    gap: bool = False

    def render(self) -> str:
        """Its line."""
        flags = (",INDEPENDENT=YES" if self.independent else "") + (",GAP=YES" if self.gap else "")
        return f'#EXT-X-PART:DURATION={self.seconds},URI="{self.uri}"{flags}\n'


@dataclass(slots=True)
class ListedSegment:
    """
    One segment of the window, open or complete.

    :ivar sequence: its media sequence number.
    :ivar map_uri: its init segment.
    :ivar utc_ms: the wall-clock time at which it begins.
    :ivar discontinuity: whether it does not join on to the one before.
    :ivar start: in ticks; likewise ``end``, once it is complete.
    :ivar uri: its name, once it is complete.
    :ivar keyframe: whether it begins with a keyframe.
    :ivar gap: whether there is nothing behind its name.
    """

    sequence: int
    map_uri: str
    utc_ms: int
    discontinuity: bool
    start: int
    timescale: int
    keyframe: bool
    end: int = 0
    uri: str = ""
    gap: bool = False
    parts: list[ListedPart] = field(default_factory=list)
    _head: str = field(default="", init=False)
    _parts_text: str = field(default="", init=False)
    _tail: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self._head = (
            ("#EXT-X-DISCONTINUITY\n" if self.discontinuity else "")
            + (self.map_line if self.discontinuity else "")
            + f"#EXT-X-PROGRAM-DATE-TIME:{render_date_time(self.utc_ms)}\n"
        )

    @property
    def map_line(self) -> str:
        """Its EXT-X-MAP."""
        return f'#EXT-X-MAP:URI="{self.map_uri}"\n'

    def add(self, part: ListedPart) -> None:
        """List one more part."""
        self.parts.append(part)
        self._parts_text += part.render()

    def complete(self, uri: str, end: int) -> None:
        """Nothing follows in this segment."""
        self.uri, self.end = uri, end
        gap = "#EXT-X-GAP\n" if self.gap else ""
        self._tail = f"{gap}#EXTINF:{render_seconds(self.start, end, self.timescale)},\n{uri}\n"

    def as_gap(self) -> ListedSegment:
        """The same stretch of time with nothing behind its name (EXT-X-GAP)."""
        lost = replace(self, gap=True, parts=[])
        lost.complete(self.uri, self.end)
        return lost

    def render(self, *, first: bool, with_parts: bool) -> str:
        """Its lines; the first of a playlist names its init segment in any case."""
        head = self.map_line + self._head if first and not self.discontinuity else self._head
        return head + (self._parts_text if with_parts else "") + self._tail

    @property
    def duration_ms(self) -> int:
        """How long it lasts."""
        return (self.end - self.start) * 1000 // self.timescale


def render_control(constants: Constants) -> str:
    """What a server that holds requests promises of a playlist (4.4.3.7, 4.4.3.8)."""
    target_s, part_ms = constants.target_s, constants.part_target_ms
    control = f"CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={SKIP_TARGETS * target_s:.1f},HOLD-BACK={3 * target_s:.1f}"
    if not part_ms:
        return f"#EXT-X-SERVER-CONTROL:{control}\n"
    return (
        f"#EXT-X-SERVER-CONTROL:{control},PART-HOLD-BACK={3 * part_ms / 1000:.3f}\n"
        f"#EXT-X-PART-INF:PART-TARGET={part_ms / 1000:.3f}\n"
    )


def render_head(
    constants: Constants, control: str, first: int, discontinuity_sequence: int, *, independent: bool
) -> str:
    """
    The lines before the first segment.

    :param control: from :func:`render_control`, or nothing where no server holds requests.
    :param first: the media sequence number of the first segment.
    :param independent: whether EXT-X-INDEPENDENT-SEGMENTS is true of all that was ever listed; once it is not, it can
        not be claimed again (6.2.1).
    """
    claim = "#EXT-X-INDEPENDENT-SEGMENTS\n" if independent else ""
    return (
        f"#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-TARGETDURATION:{constants.target_s}\n{control}{claim}"
        f"#EXT-X-MEDIA-SEQUENCE:{first}\n#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuity_sequence}\n"
    )


class PlaylistWindow:
    """
    The last segments of a stream and the one that is open, as a playlist.

    :ivar constants: what it promises.
    :ivar size: how many complete segments it lists, at least; never less than three target durations of them.
    :ivar next_sequence: the media sequence number of the next segment that begins.
    :ivar discontinuity_sequence: of the first segment listed.
    :ivar ended: whether nothing follows.
    """

    def __init__(self, constants: Constants, size: int, first_sequence: int, discontinuity_sequence: int = 0) -> None:
        self.constants = constants
        self.size = max(size, 1)
        self.segments: deque[ListedSegment] = deque()
        self.open: ListedSegment | None = None
        self.next_sequence = first_sequence
        self.discontinuity_sequence = discontinuity_sequence
        self.ended = False
        self._independent = True
        self._control = render_control(constants)

    @property
    def has_parts(self) -> bool:
        """Whether this is a low-latency playlist."""
        return self.constants.part_target_ms > 0

    @property
    def last_discontinuity(self) -> int:
        """The discontinuity sequence number of the last segment listed, open or complete."""
        opened = self.open is not None and self.open.discontinuity
        return self.discontinuity_sequence + sum(segment.discontinuity for segment in self.segments) + opened

    # ── what the packager does ───────────────────────────────────────────────────────────────────────────────────────

    def begin_segment(
        self, *, map_uri: str, utc_ms: int, discontinuity: bool, start: int, timescale: int, keyframe: bool
    ) -> ListedSegment:
        """Open the next segment."""
        self._independent &= keyframe
        self.open = ListedSegment(self.next_sequence, map_uri, utc_ms, discontinuity, start, timescale, keyframe)
        self.next_sequence += 1
        return self.open

    def complete_segment(self, uri: str, end: int) -> list[ListedSegment]:
        """Complete the open segment; return those that left the window, oldest first."""
        segment = self.open
        assert segment is not None
        segment.complete(uri, end)
        self.open = None
        return self.append(segment)

    def append(self, segment: ListedSegment) -> list[ListedSegment]:
        """List a complete segment; return those that left the window, oldest first."""
        self._independent &= segment.keyframe
        self.segments.append(segment)
        return self._slide()

    def forget_before(self, sequence: int) -> None:
        """List no segment before this one any more, however much is left."""
        while self.segments and self.segments[0].sequence < sequence:
            self.discontinuity_sequence += self.segments.popleft().discontinuity

    def _slide(self) -> list[ListedSegment]:
        removed = []
        listed_ms = sum(segment.duration_ms for segment in self.segments)
        while len(self.segments) > self.size:
            listed_ms -= self.segments[0].duration_ms
            if listed_ms < 3000 * self.constants.target_s:
                break
            segment = self.segments.popleft()
            self.discontinuity_sequence += segment.discontinuity
            removed.append(segment)
        return removed

    # ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def render(self, hint: str = "") -> Playlist:
        """
        The playlist as it is now.

        :param hint: the name of the part that comes next; empty where there are no parts, or nothing comes.
        """
        with_parts = self._parts_listed_from()
        text = [
            segment.render(first=index == 0, with_parts=index >= with_parts)
            for index, segment in enumerate(self.segments)
        ]
        tail = self._render_tail(hint)
        skipped = self._skippable()
        delta = None
        if skipped:
            first_kept = self.segments[skipped].render(first=True, with_parts=skipped >= with_parts)
            skip = f"#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n"
            delta = "".join((self._render_head(), skip, first_kept, *text[skipped + 1 :], tail)).encode()
        return Playlist(
            body="".join((self._render_head(), *text, tail)).encode(),
            delta=delta,
            last_sequence=self.next_sequence - (2 if self.open else 1),
            open_parts=len(self.open.parts) if self.open and self.has_parts else 0,
            last_segment_parts=len(self.segments[-1].parts) if self.segments and self.has_parts else 0,
            target_ms=1000 * self.constants.target_s,
            part_target_ms=self.constants.part_target_ms,
            ended=self.ended,
        )

    def _render_head(self) -> str:
        first = self.segments[0].sequence if self.segments else self.next_sequence - bool(self.open)
        return render_head(
            self.constants, self._control, first, self.discontinuity_sequence, independent=self._independent
        )

    def _render_tail(self, hint: str) -> str:
        if self.ended:
            return "#EXT-X-ENDLIST\n"
        if not self.has_parts:
            return ""
        opened = self.open.render(first=not self.segments, with_parts=True) if self.open else ""
        return opened + (f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{hint}"\n' if hint else "")

    def _parts_listed_from(self) -> int:
        """The index of the first segment whose parts are listed: they go when three target durations follow them."""
        if not self.has_parts:
            return len(self.segments)
        left_ms = 3000 * self.constants.target_s
        index = len(self.segments)
        while index and left_ms > 0:
            index -= 1
            left_ms -= self.segments[index].duration_ms
        return index

    def _skippable(self) -> int:
        """How many segments a delta update leaves out: those wholly before the skip boundary (4.4.3.8)."""
        if self.ended:
            return 0
        left_ms = SKIP_TARGETS * 1000 * self.constants.target_s
        index = len(self.segments)
        while index and left_ms > 0:
            index -= 1
            left_ms -= self.segments[index].duration_ms
        return index

    def render_plain(self) -> bytes:
        """The complete segments alone, for a web server that can not hold requests."""
        text = [segment.render(first=index == 0, with_parts=False) for index, segment in enumerate(self.segments)]
        first = self.segments[0].sequence if self.segments else self.next_sequence
        head = render_head(self.constants, "", first, self.discontinuity_sequence, independent=self._independent)
        return "".join((head, *text, "#EXT-X-ENDLIST\n" if self.ended else "")).encode()
