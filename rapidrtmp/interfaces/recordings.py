"""Recorders: what sets a sink that leaves recordings apart from any other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zope.interface import Attribute

from rapidrtmp.interfaces.sinks import ISinkFactory

__all__ = ["IRecorderFactory", "RetentionRules"]


@dataclass(frozen=True)
class RetentionRules:
    """
    How long the recordings of one application are kept; 0 for no limit.

    :ivar age_ms: after their end.
    :ivar max_bytes: of all of them together.
    :ivar min_free_bytes: to be kept free in the storage; of all applications that say so, the most counts.
    """

    age_ms: int = 0
    max_bytes: int = 0
    min_free_bytes: int = 0

    @classmethod
    def strictest(cls, rules: Iterable[RetentionRules]) -> RetentionRules:
        """Every limit that any of them sets."""
        several = list(rules)
        return cls(
            min((each.age_ms for each in several if each.age_ms), default=0),
            min((each.max_bytes for each in several if each.max_bytes), default=0),
            max((each.min_free_bytes for each in several), default=0),
        )


class IRecorderFactory(ISinkFactory):
    """
    A sink factory whose sinks leave recordings that the library finds, retention deletes and the API starts and stops,
    whatever the plugin is called.

    It provides ``IStoringSinkFactory`` besides, with ``Purpose.RECORDINGS``. Its sinks write what
    ``rapidrtmp.recording`` reads: mostly by handing on to sinks of ``rapidrtmp.recording.sink.RecorderFactory``.
    """

    retention: RetentionRules = Attribute("How long the recordings of the application are kept.")
