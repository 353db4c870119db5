"""What a check has found, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rapidrtmp.m3u8.rules import Rule, Severity, Violation, seconds

__all__ = ["Measurements", "Report"]

#: So many violations of one rule are shown in full; the rest are counted.
SHOWN_PER_RULE = 5


@dataclass(slots=True)
class Measurements:
    """
    What was measured of one media playlist.

    :ivar versions: playlists read; ``deltas`` of them were delta updates.
    :ivar latencies_us: from the date of the last listed moment until its listing was here, for each version.
    :ivar waits_us: how much longer than its own duration new media was waited for, for each version.
    :ivar peak: the highest bitrate of a segment, in bits a second.
    :ivar is_of_i_frames: whether the playlist says that its segments are single pictures.
    """

    versions: int = 0
    deltas: int = 0
    segments: int = 0
    parts: int = 0
    hints_kept: int = 0
    byte_count: int = 0
    peak: int = 0
    is_of_i_frames: bool = False
    latencies_us: list[int] = field(default_factory=list)
    waits_us: list[int] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; times in seconds."""
        found: dict[str, Any] = {
            "versions": self.versions,
            "deltaUpdates": self.deltas,
            "segments": self.segments,
            "parts": self.parts,
            "hintsKept": self.hints_kept,
            "bytes": self.byte_count,
            "peakBitrate": self.peak,
        }
        if self.latencies_us:
            found["latency"] = {
                "least": min(self.latencies_us) / 1e6,
                "median": median(self.latencies_us) / 1e6,
                "most": max(self.latencies_us) / 1e6,
            }
        if self.waits_us:
            found["latestBy"] = max(self.waits_us) / 1e6
        return found

    def sentences(self) -> Iterable[str]:
        """For people."""
        yield f"{self.versions} versions ({self.deltas} delta updates), {self.segments} segments, {self.parts} parts"
        if self.parts:
            yield f"{self.hints_kept} parts came by their preload hint"
        if self.latencies_us:
            low, middle, high = min(self.latencies_us), int(median(self.latencies_us)), max(self.latencies_us)
            yield f"latency by the dates: {seconds(low)} to {seconds(high)}, {seconds(middle)} in the median"
            if low < 0:
                yield "its dates are ahead of this machine's clock"
        if self.waits_us:
            yield f"new media was late by {seconds(max(self.waits_us))} at most"
        if self.peak:
            yield f"peak bitrate of a segment: {self.peak // 1000} kbit/s"


class Report:
    """
    All that was found.

    :ivar violations: with the playlist each belongs to.
    :ivar measured: per media playlist.
    :ivar notes: what could not be looked at.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.violations: list[tuple[str, Violation]] = []
        self.measured: dict[str, Measurements] = {}
        self.notes: list[str] = []

    def add(self, where: str, violations: Iterable[Violation]) -> None:
        """Take what was found in a playlist, or in what belongs to it; the same thing counts once."""
        known = set(self.violations)
        self.violations += dict.fromkeys((where, one) for one in violations if (where, one) not in known)

    def note(self, text: str) -> None:
        """Take something to tell that is no violation; once."""
        if text not in self.notes:
            self.notes.append(text)

    def count(self, severity: Severity) -> int:
        """How many violations are of this severity."""
        return sum(violation.severity is severity for _, violation in self.violations)

    @property
    def exit_status(self) -> int:
        """0 if there are no errors, else 1. Warnings do not count."""
        return 1 if self.count(Severity.ERROR) else 0

    def render(self) -> str:
        """For people."""
        lines = [self.url]
        counts: dict[tuple[str, Rule, Severity], int] = {}
        for where, violation in self.violations:
            key = (where, violation.rule, violation.severity)
            counts[key] = counts.get(key, 0) + 1
            if counts[key] <= SHOWN_PER_RULE:
                lines.append(f"  {where}: {violation}")
        for (where, rule, severity), count in counts.items():
            if count > SHOWN_PER_RULE:
                lines.append(f"  {where}: {count - SHOWN_PER_RULE} more of {severity} [{rule}]")
        for where, measured in self.measured.items():
            lines.append(f"{where}:")
            lines += [f"  {sentence}" for sentence in measured.sentences()]
        lines += self.notes
        errors, warnings = self.count(Severity.ERROR), self.count(Severity.WARNING)
        lines.append(f"{errors} errors, {warnings} warnings" if errors or warnings else "clean")
        return "\n".join(lines)

    def render_json(self) -> str:
        """For programs."""
        found = {
            "url": self.url,
            "errors": self.count(Severity.ERROR),
            "warnings": self.count(Severity.WARNING),
            "violations": [
                {"playlist": where, "rule": one.rule, "severity": one.severity, "detail": one.detail}
                for where, one in self.violations
            ],
            "playlists": {where: measured.as_dict() for where, measured in self.measured.items()},
            "notes": self.notes,
        }
        return json.dumps(found, indent=2)
