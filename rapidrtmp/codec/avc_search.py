"""
Where H.264 keeps its configuration if not in a proper sequence header: parameter sets anywhere in what is sent.

They may stand in front of pictures, in messages of their own, or in sequence headers that hold one of them, or none.
"""

from __future__ import annotations

from rapidrtmp.codec.avc import config_of_sets, sets_of_record
from rapidrtmp.codec.avc_nal import PPS, SLICES, SPS, nal_type, split_nals
from rapidrtmp.errors import MediaError
from rapidrtmp.media import VideoConfig

__all__ = ["AvcSearch"]

_USUAL_LENGTH_SIZE = 4
#: Of the sets that do not make a configuration yet, so many are kept.
_MOST_SETS = 64


class AvcSearch:
    """
    Gathers parameter sets until they make a configuration.

    :ivar is_warm: whether what was looked at last was for the configuration, and no picture was lost with it.
    """

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
            length_size, nals = sets_of_record(body)
        except MediaError:
            return self._learn(split_nals(body, self._length_size)) if body else None
        self._length_size = length_size
        self.is_warm = True
        return self._learn(nals)

    def look_at_frame(self, body: bytes) -> VideoConfig | None:
        """
        Look at the body of a frames packet; returns the configuration as soon as there is one.

        :raises MediaError: it cannot be read.
        """
        return self._learn(split_nals(body, self._length_size))

    def _learn(self, nals: list[bytes]) -> VideoConfig | None:
        sets = [nal for nal in nals if nal_type(nal) in (SPS, PPS)]
        self.is_warm = bool(sets) or not any(nal_type(nal) in SLICES for nal in nals)
        if not sets:
            return None
        self._sets = (self._sets + sets)[-_MOST_SETS:]
        if not {SPS, PPS} <= {nal_type(nal) for nal in self._sets}:
            return None
        found, self._sets = self._sets, []
        return config_of_sets(found, self._length_size)
