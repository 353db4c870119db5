"""
How far a recording has come that another process writes: reckoned from its journal, of which each full page is read
once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rapidrtmp.archive.journal import Header, RecordedSegment
from rapidrtmp.archive.layout import RecordingId
from rapidrtmp.archive.objects import Page
from rapidrtmp.recording.catalogue import Entry
from rapidrtmp.recording.writer import LINES_PER_PAGE

__all__ = ["Growth", "full_pages"]


@dataclass(frozen=True, slots=True)
class Growth:
    """
    What the first pages of a journal say, in numbers.

    :ivar pages: how many of them are full, and so never change; the numbers are of these.
    :ivar ticks: how much was recorded.
    :ivar size: bytes of all segments; ``segments``: how many, ``gaps`` of them not playable.
    """

    pages: int = 0
    header: Header | None = None
    ticks: int = 0
    size: int = 0
    segments: int = 0
    gaps: int = 0

    def over(self, pages: Sequence[Page]) -> Growth:
        """With those that follow; only the last may be less than full."""
        growth = self
        for page in pages:
            growth = growth._with(page)
        return growth

    def _with(self, page: Page) -> Growth:
        segments = [line for line in page if isinstance(line, RecordedSegment)]
        return replace(
            self,
            pages=self.pages + 1,
            header=self.header or next((line for line in page if isinstance(line, Header)), None),
            ticks=self.ticks + sum(segment.duration for segment in segments),
            size=self.size + sum(segment.size for segment in segments),
            segments=self.segments + len(segments),
            gaps=self.gaps + sum(segment.is_gap for segment in segments),
        )

    def entry(self, id: RecordingId) -> Entry | None:
        """As the catalogue would say it; ``None`` while the first line of the journal is on its way."""
        header = self.header
        if header is None:
            return None
        return replace(
            Entry.begun(id, header),
            duration_ms=self.ticks * 1000 // header.timescale,
            size=len(header.init) + self.size,
            segments=self.segments,
            gaps=self.gaps,
        )


def full_pages(pages: Sequence[Page]) -> Sequence[Page]:
    """Those at the beginning that never change."""
    count = next((at for at, page in enumerate(pages) if len(page) < LINES_PER_PAGE), len(pages))
    return pages[:count]
