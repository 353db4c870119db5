"""
Where H.264 and HEVC keep their configuration if not in a proper sequence header: parameter sets, anywhere.

They may stand in front of pictures, in messages of their own, or in sequence headers that hold one of them, or none.
"""

from __future__ import annotations

import abc
from typing import ClassVar

from rapidrtmp.codec.nal import NalSyntax, split_nals
from rapidrtmp.errors import MediaError
from rapidrtmp.media import VideoConfig

__all__ = ["NalSearch"]

_USUAL_LENGTH_SIZE = 4
#: Of the sets that do not make a configuration yet, so many are kept.
_MOST_SETS = 64


class NalSearch(abc.ABC):
    """
    Gathers parameter sets until they make a configuration.

    :cvar syntax: what the codec's units are.
    :ivar is_warm: whether what was looked at last was for the configuration, and no picture was lost with it.
    """

    syntax: ClassVar[NalSyntax]

    def __init__(self) -> None:
        self.is_warm = False
        self._sets: list[bytes] = []
        self._length_size = _USUAL_LENGTH_SIZE

    def look_at_config(self, body: bytes) -> VideoConfig | None:
        """
        Look at the body of a sequence header that is no configuration.

        :raises MediaError: there is nothing of use in it.
        """
        try:
            length_size, nals = self.syntax.sets_of_record(body)
        except MediaError:
            return self._learn(split_nals(self.syntax, body, self._length_size)) if body else None
        self._length_size = length_size
        self.is_warm = True
        return self._learn(nals)

    def look_at_frame(self, body: bytes) -> VideoConfig | None:
        """
        Look at the body of a frames packet; returns the configuration as soon as there is one.

        :raises MediaError: it cannot be read.
        """
        return self._learn(split_nals(self.syntax, body, self._length_size))

    def _learn(self, nals: list[bytes]) -> VideoConfig | None:
        syntax = self.syntax
        sets = [nal for nal in nals if syntax.type_of(nal) in syntax.sets]
        self.is_warm = bool(sets) or not syntax.slices_of(nals)
        if not sets:
            return None
        self._sets = (self._sets + sets)[-_MOST_SETS:]
        if not syntax.needed <= {syntax.type_of(nal) for nal in self._sets}:
            return None
        found, self._sets = self._sets, []
        return syntax.config_of_sets(found, self._length_size)
