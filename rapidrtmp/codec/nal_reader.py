"""
Access units of NAL units, as FLV carries them, to what a track stores whose parameter sets are in its record alone.

Parameter sets found in access units are taken out, and make a new record when they say something new. Every frame
passes through ``read``, which each codec writes for itself: of most frames it looks at NAL unit headers only and hands
back the very object it was given; only frames that may have to change are taken apart here.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from typing import ClassVar

from rapidrtmp.codec.nal import NalSyntax, join_lengths, split_nals
from rapidrtmp.errors import MediaError
from rapidrtmp.media import VideoConfig

__all__ = ["NalReader"]


class NalReader(abc.ABC):
    """
    Reads the access units of one track: NAL units behind lengths or, as broken encoders send them, behind start codes,
    which also stand inside of what one length covers.

    :param length_size: how many bytes lengths have, by the configuration.
    :cvar syntax: what the codec's units are.
    :cvar header_size: of its units, in bytes.
    :ivar config: the configuration in force; another one behind an access unit whose parameter sets are new, or at
        which others of them come into use.
    :ivar keyframe: whether decoding may start at the access unit read last.
    :ivar samples: 0: access units do not say how long they last.
    :ivar open_gops: how many keyframes in a row, up to the last one, were such that pictures behind them may need
        others from before.
    :ivar continues: whether the body read last, of which nothing was returned, continues a picture that an earlier
        one began.
    """

    __slots__ = ("_glance_size", "config", "continues", "keyframe", "length_size", "open_gops", "samples")

    syntax: ClassVar[NalSyntax]
    header_size: ClassVar[int]

    def __init__(self, config: VideoConfig, length_size: int) -> None:
        self.config = config
        self.keyframe = False
        self.samples = 0
        self.continues = False
        self.open_gops = 0
        self.length_size = length_size
        self._glance_size = length_size  # 0 where every access unit has to be looked at closely

    @abc.abstractmethod
    def read(self, body: bytes) -> bytes | None:
        """
        Read the body of a frames packet.

        Empty NAL units and parameter sets are removed, all else (SEI and delimiters too) stays byte by byte.

        :returns: the sample, NAL units behind their lengths; ``body`` itself whenever nothing had to be removed.
            ``None`` if no picture begins in it: it holds no slice, or only further ones.
        :raises MediaError: a NAL unit reaches past the end, or a new parameter set cannot be used.
        """

    def _read_closely(self, body: bytes) -> bytes | None:
        """Do what :meth:`read` promises for an access unit that may not be able to stay as it is."""
        syntax = self.syntax
        nals = split_nals(syntax, body, self.length_size)
        slices = syntax.slices_of(nals)
        self.continues = bool(slices) and not syntax.begins_picture(slices[0])
        if not slices or self.continues:
            return None
        return self.read_unit(nals, body)

    def read_unit(self, nals: Sequence[bytes], body: bytes = b"") -> bytes | None:
        """
        Read the NAL units of one access unit.

        :param body: what they were found in, if it was one.
        :returns: as :meth:`read` does, ``body`` itself if it is the sample.
        :raises MediaError: a new parameter set cannot be used.
        """
        syntax, dropped = self.syntax, self.syntax.dropped
        in_band = [nal for nal in nals if syntax.type_of(nal) in dropped]
        pictures = [nal for nal in nals if syntax.type_of(nal) not in dropped] if in_band else nals
        slices = syntax.slices_of(pictures)
        if not slices:
            return None
        data = join_lengths(pictures, self.length_size)
        if in_band:
            self.config = self._update(in_band) or self.config
        self.keyframe = self._judge(pictures, slices)
        if self.keyframe:
            self.config = self._activate(pictures, slices[0]) or self.config
        if data == body:
            return body
        if body and join_lengths(nals, self.length_size) != body:
            self._glance_size = 0  # this encoder's lengths are not to be trusted
        return data

    @abc.abstractmethod
    def _judge(self, pictures: Sequence[bytes], slices: Sequence[bytes]) -> bool:
        """Whether decoding may start at an access unit; keeps :attr:`open_gops`."""

    # ── parameter sets in band ───────────────────────────────────────────────────────────────────────────────────────

    def _update(self, in_band: Iterable[bytes]) -> VideoConfig | None:
        """
        The configuration with an access unit's parameter sets in it, or ``None`` if they tell nothing new.

        Headers do not count: some encoders give a set another importance (``nal_ref_idc``) in band.
        """
        size, (known, others) = self.header_size, self._known()
        in_band_sets = self.syntax.index_sets(in_band)
        fresh = {key: nal for key, nal in in_band_sets.items() if known.get(key, b"")[size:] != nal[size:]}
        if not fresh:
            return None
        # The fresh ones come first, for they are most likely in use: an encoder may change its picture and its id at
        # once.
        return self.syntax.config_of_sets([*(fresh | known | fresh).values(), *others], self.length_size)

    def _activate(self, pictures: Sequence[bytes], first_slice: bytes) -> VideoConfig | None:  # noqa: ARG002
        """The configuration with the SPS that a keyframe uses as the first, or ``None`` if that is so, or unknown."""
        sets, others = self._known()
        *_, sps, pps = self.syntax.sets
        every = [(key, nal) for key, nal in sets.items() if key[0] == sps]
        if len(every) < 2:
            return None
        try:
            pps_id = self.syntax.slice_start(first_slice).pps_id
            key = (sps, self.syntax.references(sets[pps, pps_id])[1])
            used = sets[key]
        except (MediaError, KeyError):
            return None
        if every[0][1] == used:
            return None
        return self.syntax.config_of_sets([*({key: used} | sets).values(), *others], self.length_size)

    def _known(self) -> tuple[dict[tuple[int, int], bytes], list[bytes]]:
        """The parameter sets of the configuration in force, and the other units in its record."""
        _, nals = self.syntax.sets_of_record(self.config.record)
        return self.syntax.index_sets(nals), [nal for nal in nals if self.syntax.type_of(nal) not in self.syntax.sets]
