"""Which rungs suit a source: sizes and rates, as a spec names them, less what makes no sense beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rapidrtmp.codec.table import AVC
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import Rung
from rapidrtmp.media import Track, VideoConfig
from rapidrtmp.support.units import parse_bitrate

__all__ = ["MOST_RUNGS", "RungSize", "hdr_transfer", "is_common", "parse_rungs", "suitable_rungs"]

MOST_RUNGS = 8
#: A rung has at most so much of the source's height, and of its bit rate: else it is hardly another one.
LARGEST_PERCENT, DEAREST_PERCENT = 85, 75
#: Of a source that not all players can play it may have as much of both as H.264 needs.
LARGEST_OTHER_PERCENT, DEAREST_OTHER_PERCENT = 100, 200
#: The rung of a source's own size; there is one only where not all players can play that.
SOURCE = "source"
#: Baseline, Main, Extended and High.
_COMMON_PROFILES = ("42", "4d", "58", "64")
_NAME = re.compile(rf"(\d{{2,4}})p|{SOURCE}", re.ASCII)
#: Transfer characteristics of HDR (H.273): they would look wrong without tone mapping.
_HDR = (16, 18)


@dataclass(frozen=True, slots=True)
class RungSize:
    """A rung for one source: even ``width`` and ``height`` of square pixels."""

    rung: Rung
    width: int
    height: int


def parse_rungs(options: Mapping[str, str]) -> Sequence[Rung]:
    """
    Read ``720p=3000k`` and its like, the largest first.

    :raises ConfigurationError: an option that is no rung, or too many of them.
    """
    rungs = []
    for name, rate in options.items():
        if _NAME.fullmatch(name) is None:
            raise ConfigurationError(
                f"there is no argument {name}; rungs are called by their height, as in 720p=3000k, or source=5000k"
            )
        bitrate = parse_bitrate(rate)
        if bitrate < 10_000:
            raise ConfigurationError(f"{name}={rate}: at least 10k bits a second")
        rungs.append(Rung(name, bitrate))
    if len(rungs) > MOST_RUNGS:
        raise ConfigurationError(f"{len(rungs)} rungs, at most {MOST_RUNGS}")
    return sorted(rungs, key=_lines, reverse=True)


def _lines(rung: Rung) -> int:
    return 1 << 16 if rung.name == SOURCE else int(rung.name.removesuffix("p"))


def is_common(track: Track) -> bool:
    """Whether all players can play a picture: it is H.264 of eight bits, with half as many colours each way."""
    return track.codec == AVC.fourcc and track.config.codec_string[5:7].lower() in _COMMON_PROFILES


def hdr_transfer(config: VideoConfig) -> int:
    """The transfer characteristics (H.273) of a picture in HDR; 0 for one that is not."""
    return config.colour.transfer if config.colour is not None and config.colour.transfer in _HDR else 0


def suitable_rungs(
    rungs: Iterable[Rung], config: VideoConfig, bitrate: int, *, common: bool = True, maps_tones: bool = False
) -> Sequence[RungSize]:
    """
    Those that are smaller than the source and take less; of a portrait the shorter side counts.

    :param bitrate: of the source's pictures, as measured, in bits a second.
    :param common: whether all players have the source's codec. If not, a rung of the same size makes sense.
    :param maps_tones: whether there are rungs of HDR.
    """
    if hdr_transfer(config) and not maps_tones:
        return ()
    largest, dearest = LARGEST_PERCENT, DEAREST_PERCENT
    if not common:
        largest, dearest = LARGEST_OTHER_PERCENT, DEAREST_OTHER_PERCENT
    horizontal, vertical = config.pixel_aspect if all(config.pixel_aspect) else (1, 1)
    width, height = max(round(config.width * horizontal / vertical), 1), max(config.height, 1)
    shorter = min(width, height)
    suitable = []
    for rung in rungs:
        is_source = rung.name == SOURCE
        lines = (shorter if is_source else _lines(rung)) // 2 * 2
        if is_source and common:
            continue
        if not is_source and (lines * 100 > shorter * largest or rung.bitrate * 100 > bitrate * dearest):
            continue
        other = max(round(max(width, height) * lines / shorter / 2) * 2, 2)
        suitable.append(RungSize(rung, *((other, lines) if width >= height else (lines, other))))
    return suitable
