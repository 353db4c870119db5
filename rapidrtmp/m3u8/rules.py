"""
The rules that one version of a media playlist must keep by itself (RFC 8216 bis), as functions of parsed values.

Rules between one version and the next are in ``rapidrtmp.m3u8.transitions``. Each function yields what it finds.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from rapidrtmp.m3u8.model import MediaPlaylist, MultivariantPlaylist, Part, Segment

__all__ = [
    "Rule",
    "Severity",
    "Violation",
    "head_violations",
    "hint_violations",
    "multivariant_violations",
    "part_violations",
    "repeated_uris",
    "seconds",
    "segment_violations",
    "syntax_violations",
]

#: Shortest part in relation to the part target, in percent (4.4.4.9).
SHORTEST_PART_PERCENT = 85
#: How far parts may miss the duration of their segment: by the rounding of each, and a little.
SUM_TOLERANCE_US, SUM_TOLERANCE_PER_PART_US = 1_000, 500
#: From here on a date that does not follow from the one before is worth a word; from here on it is wrong.
DATE_DOUBT_US, DATE_ERROR_US = 100_000, 1_000_000
#: These cannot be played without an init segment.
_FRAGMENTED_SUFFIXES = (".m4s", ".mp4", ".m4v", ".m4a", ".cmfv", ".cmfa")


class Rule(enum.StrEnum):
    """The families of rules: few, and their names are final."""

    SYNTAX = "syntax"
    VERSION = "version"
    FROZEN = "frozen"
    TARGET_DURATION = "target_duration"
    SEQUENCE = "sequence"
    FINAL = "final"
    PARTS = "parts"
    HOLD_BACK = "hold_back"
    HINT = "preload_hint"
    INIT = "init_segment"
    DATE = "date"
    WINDOW = "window"
    DELTA = "delta"
    MEDIA = "media"
    HTTP = "http"
    TIMING = "timing"
    BANDWIDTH = "bandwidth"


class Severity(enum.StrEnum):
    """How bad it is: an ``ERROR`` breaks a MUST, or some player; a ``WARNING`` is what authors are advised against."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Violation:
    """
    One broken rule.

    :ivar detail: one line with the numbers in it.
    """

    rule: Rule
    detail: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        return f"{self.severity} [{self.rule}] {self.detail}"


def _warning(rule: Rule, detail: str) -> Violation:
    return Violation(rule, detail, Severity.WARNING)


def seconds(duration_us: int) -> str:
    """A duration for people."""
    return f"{duration_us / 1_000_000:.6f}".rstrip("0").rstrip(".") + " s"


def syntax_violations(playlist: MediaPlaylist | MultivariantPlaylist) -> Iterator[Violation]:
    """What the parser stumbled on."""
    for problem in playlist.problems:
        yield Violation(Rule.SYNTAX, f"line {problem.line}: {problem.detail}" if problem.line else problem.detail)


# ── the head ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def head_violations(playlist: MediaPlaylist) -> Iterator[Violation]:
    """What the head promises: hold-backs (4.4.3.8) and the protocol version (8)."""
    yield from _hold_back_violations(playlist)
    needed = 1
    if playlist.skipped:
        needed = 9
    elif any(segment.init for segment in playlist.segments[-1:]) or (playlist.open and playlist.open.init):
        needed = 5 if playlist.i_frames_only else 6
    elif any(segment.byte_range for segment in playlist.segments[-1:]) or playlist.i_frames_only:
        needed = 4
    if playlist.version < needed:
        yield Violation(Rule.VERSION, f"EXT-X-VERSION {playlist.version}, but what is used needs {needed}")
    if playlist.kind == "VOD" and not playlist.ended:
        yield _warning(Rule.FINAL, "EXT-X-PLAYLIST-TYPE is VOD, but there is no EXT-X-ENDLIST")


def _hold_back_violations(playlist: MediaPlaylist) -> Iterator[Violation]:
    target_us, part_us = playlist.target_s * 1_000_000, playlist.part_target_us
    hold_back, skip = playlist.control_us("HOLD-BACK"), playlist.control_us("CAN-SKIP-UNTIL")
    part_hold_back = playlist.control_us("PART-HOLD-BACK")
    if hold_back is not None and hold_back < 3 * target_us:
        yield Violation(Rule.HOLD_BACK, f"HOLD-BACK {seconds(hold_back)} is less than 3 target durations")
    if skip is not None and skip < 6 * target_us:
        yield Violation(Rule.HOLD_BACK, f"CAN-SKIP-UNTIL {seconds(skip)} is less than 6 target durations")
    if not part_us:
        return
    if part_us > target_us:
        yield Violation(Rule.PARTS, f"PART-TARGET {seconds(part_us)} is more than the target duration")
    if part_hold_back is None:
        yield Violation(Rule.HOLD_BACK, "EXT-X-PART-INF without PART-HOLD-BACK")
    elif part_hold_back < 2 * part_us:
        yield Violation(Rule.HOLD_BACK, f"PART-HOLD-BACK {seconds(part_hold_back)} is less than 2 part targets")
    elif part_hold_back < 3 * part_us:
        yield _warning(Rule.HOLD_BACK, f"PART-HOLD-BACK {seconds(part_hold_back)} is less than 3 part targets")


# ── segments and parts ───────────────────────────────────────────────────────────────────────────────────────────────


def segment_violations(playlist: MediaPlaylist, segment: Segment, before: Segment | None) -> Iterator[Violation]:
    """
    What is wrong with a segment, complete or open.

    :param playlist: only its head is looked at.
    :param before: the segment listed before it, if there is one.
    """
    name = f"segment {segment.sequence}"
    if segment.uri and (segment.duration_us + 500_000) // 1_000_000 > playlist.target_s:
        yield Violation(
            Rule.TARGET_DURATION,
            f"{name}: EXTINF {seconds(segment.duration_us)} rounds to more than the target duration "
            f"{playlist.target_s} s",
        )
    yield from part_violations(playlist, segment, 0)
    if segment.init is None and _any_uri(segment).partition("?")[0].endswith(_FRAGMENTED_SUFFIXES):
        yield Violation(Rule.INIT, f"{name}: fragmented MP4 without an EXT-X-MAP before it")
    if before is not None and segment.init != before.init and not segment.discontinuity:
        yield _warning(Rule.INIT, f"{name}: another init segment without EXT-X-DISCONTINUITY")
    yield from _date_violations(segment, before)


def _any_uri(segment: Segment) -> str:
    return segment.uri or (segment.parts[0].uri if segment.parts else "")


def part_violations(playlist: MediaPlaylist, segment: Segment, known: int) -> Iterator[Violation]:
    """
    What is wrong with the parts of a segment (4.4.4.9), and with their sum.

    :param known: how many of its parts have been judged before, as parts of the open segment.
    """
    parts, target_us = segment.parts, playlist.part_target_us
    if not parts:
        return
    name = f"segment {segment.sequence}"
    if not target_us:
        yield Violation(Rule.PARTS, f"{name}: EXT-X-PART without EXT-X-PART-INF")
        return
    for index in range(known, len(parts)):
        if parts[index].duration_us > target_us:
            yield Violation(
                Rule.PARTS,
                f"{name}, part {index}: {seconds(parts[index].duration_us)} is more than PART-TARGET "
                f"{seconds(target_us)}",
            )
    for index in range(max(known - 1, 0), len(parts) - 1):  # one is the last of its parent until another follows
        if _too_short(parts[index], parts[index + 1], target_us):
            yield Violation(
                Rule.PARTS,
                f"{name}, part {index}: {seconds(parts[index].duration_us)} is less than {SHORTEST_PART_PERCENT} % "
                f"of PART-TARGET {seconds(target_us)}",
            )
    if segment.uri:
        tolerance_us = SUM_TOLERANCE_US + SUM_TOLERANCE_PER_PART_US * len(parts)
        if abs(segment.parts_us - segment.duration_us) > tolerance_us:
            yield Violation(
                Rule.PARTS,
                f"{name}: its parts last {seconds(segment.parts_us)}, its EXTINF says {seconds(segment.duration_us)}",
            )


def _too_short(part: Part, after: Part, target_us: int) -> bool:
    """Whether a part is shorter than one that another follows may be (4.4.4.9)."""
    exempt = part.independent or part.gap or after.gap
    return not exempt and part.duration_us * 100 < target_us * SHORTEST_PART_PERCENT


def _date_violations(segment: Segment, before: Segment | None) -> Iterator[Violation]:
    """EXT-X-PROGRAM-DATE-TIME follows from the one before and the time that has passed, but for a discontinuity."""
    name = f"segment {segment.sequence}"
    if segment.date_us is None:
        if segment.discontinuity:
            yield _warning(Rule.DATE, f"{name}: no EXT-X-PROGRAM-DATE-TIME after EXT-X-DISCONTINUITY")
        return
    if before is None or before.date_us is None or segment.discontinuity:
        return
    off_us = segment.date_us - before.date_us - before.duration_us
    if segment.date_us <= before.date_us and before.duration_us:
        yield Violation(Rule.DATE, f"{name}: its date goes back by {seconds(before.date_us - segment.date_us)}")
    elif abs(off_us) > DATE_ERROR_US:
        yield Violation(Rule.DATE, f"{name}: its date is {seconds(off_us)} off from the one before and its duration")
    elif abs(off_us) > DATE_DOUBT_US:
        yield _warning(Rule.DATE, f"{name}: its date is {seconds(off_us)} off from the one before and its duration")


def repeated_uris(playlist: MediaPlaylist) -> Iterator[Violation]:
    """Two segments of one name, whole both of them, cannot hold different media."""
    seen: dict[str, int] = {}
    for segment in playlist.segments:
        if segment.byte_range is None and not segment.gap and segment.uri in seen:
            yield Violation(
                Rule.FINAL, f"segments {seen[segment.uri]} and {segment.sequence} have one URI: {segment.uri}"
            )
        seen[segment.uri] = segment.sequence


# ── the live edge ────────────────────────────────────────────────────────────────────────────────────────────────────


def hint_violations(playlist: MediaPlaylist) -> Iterator[Violation]:
    """Exactly one part is hinted at where parts are listed: players wait for it."""
    parts = [hint for hint in playlist.hints if hint.kind == "PART"]
    if len(parts) > 1:
        yield Violation(Rule.HINT, f"{len(parts)} parts are hinted at")
    if playlist.ended and parts:
        yield Violation(Rule.HINT, "a part is hinted at after the end")
    if playlist.part_target_us and not playlist.ended and not parts:
        yield Violation(Rule.HINT, "no EXT-X-PRELOAD-HINT for the next part")
    listed = {part.uri for part in playlist.open.parts if part.byte_range is None} if playlist.open else set()
    for hint in parts:
        if hint.uri in listed:
            yield Violation(Rule.HINT, f"the part hinted at is listed already: {hint.uri}")


# ── multivariant playlists ───────────────────────────────────────────────────────────────────────────────────────────


def multivariant_violations(playlist: MultivariantPlaylist) -> Iterator[Violation]:
    """What is wrong with a multivariant playlist (4.4.6, and what Apple asks of authors)."""
    yield from syntax_violations(playlist)
    if not playlist.variants:
        yield Violation(Rule.SYNTAX, "no variants")
    for variant in (*playlist.variants, *playlist.i_frames):
        if not variant.bandwidth:
            yield Violation(Rule.BANDWIDTH, f"{variant.uri}: BANDWIDTH is 0")
        if variant.average_bandwidth > variant.bandwidth:
            yield Violation(Rule.BANDWIDTH, f"{variant.uri}: AVERAGE-BANDWIDTH is more than BANDWIDTH")
        if not variant.codecs:
            yield _warning(Rule.SYNTAX, f"{variant.uri}: no CODECS")
    names = sorted((rendition.kind, rendition.group, rendition.name) for rendition in playlist.renditions)
    for one, other in pairwise(names):
        if one == other:
            yield Violation(Rule.SYNTAX, f"two renditions of group {one[1]!r} are called {one[2]!r}")
