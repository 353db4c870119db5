"""Which rungs suit a source: sizes and rates, as a spec names them, less what makes no sense beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import Rung
from rapidrtmp.media import VideoConfig
from rapidrtmp.support.units import parse_bitrate

__all__ = ["MOST_RUNGS", "RungSize", "parse_rungs", "suitable_rungs"]

MOST_RUNGS = 8
#: A rung has at most so much of the source's height, and of its bit rate: else it is hardly another one.
LARGEST_PERCENT, DEAREST_PERCENT = 85, 75
_NAME = re.compile(r"(\d{2,4})p", re.ASCII)
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
            raise ConfigurationError(f"there is no argument {name}; rungs are called by their height, as in 720p=3000k")
        bitrate = parse_bitrate(rate)
        if bitrate < 10_000:
            raise ConfigurationError(f"{name}={rate}: at least 10k bits a second")
        rungs.append(Rung(name, bitrate))
    if len(rungs) > MOST_RUNGS:
        raise ConfigurationError(f"{len(rungs)} rungs, at most {MOST_RUNGS}")
    return sorted(rungs, key=_lines, reverse=True)


def _lines(rung: Rung) -> int:
    return int(rung.name.removesuffix("p"))


def suitable_rungs(rungs: Iterable[Rung], config: VideoConfig, bitrate: int) -> Sequence[RungSize]:
    """
    Those that are smaller than the source and take less; of a portrait the shorter side counts.

    :param bitrate: of the source's pictures, as measured, in bits a second.
    """
    if config.colour is not None and config.colour.transfer in _HDR:
        return ()
    horizontal, vertical = config.pixel_aspect if all(config.pixel_aspect) else (1, 1)
    width, height = max(round(config.width * horizontal / vertical), 1), max(config.height, 1)
    shorter = min(width, height)
    suitable = []
    for rung in rungs:
        lines = _lines(rung) // 2 * 2
        if lines * 100 > shorter * LARGEST_PERCENT or rung.bitrate * 100 > bitrate * DEAREST_PERCENT:
            continue
        other = max(round(max(width, height) * lines / shorter / 2) * 2, 2)
        suitable.append(RungSize(rung, *((other, lines) if width >= height else (lines, other))))
    return suitable
