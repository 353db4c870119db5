"""
What Enhanced RTMP's metadata packets say of colour and brightness, for what the bitstream leaves open.

A packet holds an AMF0 string and an object, ``colorInfo`` (Enhanced RTMP v2, "Metadata Frame"). Every part of it is
optional and some encoders send few, so nothing is required; a new object takes the place of the one before. The
bitstream is believed first: it is what decoders see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rapidrtmp.codec.vui import UNSPECIFIED, known_colour
from rapidrtmp.errors import MediaError, PeerProtocolError
from rapidrtmp.media import Colour, ContentLight, MasteringDisplay, VideoConfig
from rapidrtmp.rtmp.amf0 import read_values

__all__ = ["ColourInfo", "coloured", "read_colour_info"]

_NAME = "colorInfo"
_MOST_BYTES = 16_384
#: Chromaticities of green, blue, red and white in steps of 0.00002, by colour primaries: BT.709, BT.2020, P3 (H.273).
_PRIMARIES = {
    1: ((15_000, 30_000), (7_500, 3_000), (32_000, 16_500), (15_635, 16_450)),
    9: ((8_500, 39_850), (6_550, 2_300), (35_400, 14_600), (15_635, 16_450)),
    12: ((13_250, 34_500), (7_500, 3_000), (34_000, 16_000), (15_635, 16_450)),
}
_BT_2020 = 9


@dataclass(frozen=True, slots=True)
class ColourInfo:
    """
    What one packet says.

    :ivar primaries: as code point of ITU-T H.273, 2 if it does not say; likewise ``transfer`` and ``matrix``.
    :ivar light: ``None`` if it does not say.
    :ivar chroma: where green, blue, red and white of the display lie, as
        :class:`~rapidrtmp.media.MasteringDisplay` has it; empty if it does not say.
    :ivar luminance: of the display, the highest and the lowest, likewise; ``None`` if it does not say.
    """

    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    matrix: int = UNSPECIFIED
    light: ContentLight | None = None
    chroma: tuple[tuple[int, int], ...] = ()
    luminance: tuple[int, int] | None = None


def read_colour_info(body: bytes) -> ColourInfo | None:
    """
    Read the body of a video metadata packet.

    :returns: ``None`` if it is about something else.
    :raises MediaError: it is no AMF0, or longer than any that says it all.
    """
    if len(body) > _MOST_BYTES:
        raise MediaError(f"metadata of {len(body)} bytes, {_MOST_BYTES} are the most")
    try:
        name, *values = read_values(body)
    except (PeerProtocolError, ValueError) as error:
        raise MediaError(f"metadata that is no AMF0: {error}") from error
    if name != _NAME:
        return None
    info: Mapping[str, object] = values[0] if values and isinstance(values[0], dict) else {}
    config, light, display = (_part(info, key) for key in ("colorConfig", "hdrCll", "hdrMdcv"))
    # A matrix of 0, RGB, is sent by FFmpeg of pictures that it copies and knows nothing of: it is left to bitstreams.
    primaries, transfer, matrix = (
        _whole(config.get(key), 255) or UNSPECIFIED
        for key in ("colorPrimaries", "transferCharacteristics", "matrixCoefficients")
    )
    return ColourInfo(primaries, transfer, matrix, _read_light(light), *_read_display(display))


def coloured(config: VideoConfig, info: ColourInfo | None) -> VideoConfig:
    """A configuration with what a packet says beyond it; the very object if that is nothing."""
    if info is None:
        return config
    own = config.colour or Colour(UNSPECIFIED, UNSPECIFIED, UNSPECIFIED, full_range=False)
    pairs = ((own.primaries, info.primaries), (own.transfer, info.transfer), (own.matrix, info.matrix))
    primaries, transfer, matrix = (said if known == UNSPECIFIED else known for known, said in pairs)
    colour = known_colour(Colour(primaries, transfer, matrix, own.full_range))
    mastering = config.mastering or _mastering(info, primaries)
    found = replace(config, colour=colour, mastering=mastering, light=config.light or info.light)
    return config if found == config else found


def _mastering(info: ColourInfo, primaries: int) -> MasteringDisplay | None:
    """The display; OBS says how bright it is and nothing else, so its primaries are those of the pictures."""
    if info.luminance is None:
        return None
    green, blue, red, white = info.chroma or _PRIMARIES.get(primaries, _PRIMARIES[_BT_2020])
    return MasteringDisplay(green, blue, red, white, *info.luminance)


def _part(info: Mapping[str, object], key: str) -> Mapping[str, object]:
    part = info.get(key)
    return part if isinstance(part, Mapping) else {}


def _read_light(part: Mapping[str, object]) -> ContentLight | None:
    most, average = _whole(part.get("maxCLL"), 0xFFFF), _whole(part.get("maxFall"), 0xFFFF)
    return ContentLight(most, average) if most or average else None


def _read_display(part: Mapping[str, object]) -> tuple[tuple[tuple[int, int], ...], tuple[int, int] | None]:
    """Chromaticities, if all are there, and luminances, if the highest is."""
    points = [
        (_whole(part.get(f"{name}X"), 0xFFFF, 50_000), _whole(part.get(f"{name}Y"), 0xFFFF, 50_000))
        for name in ("green", "blue", "red", "whitePoint")
    ]
    highest, lowest = (_whole(part.get(f"{name}Luminance"), 0xFFFFFFFF, 10_000) for name in ("max", "min"))
    return tuple(points) if all(x and y for x, y in points) else (), (highest, lowest) if highest else None


def _whole(value: object, most: int, scale: int = 1) -> int:
    """A number in steps of ``1 / scale``; 0 for what is none, or too large."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value * scale <= most:
        return 0
    return round(value * scale)
