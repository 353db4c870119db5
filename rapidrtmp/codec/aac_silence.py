"""A frame of AAC without any sound, for where a track pauses: all channels there, no band of any of them coded."""

from __future__ import annotations

from functools import lru_cache

from rapidrtmp.codec.bits import BitReader
from rapidrtmp.errors import MediaError
from rapidrtmp.media import AudioConfig

__all__ = ["silent_frame"]

# Syntactic elements (ISO/IEC 14496-3, table 4.85)
_SINGLE, _PAIR, _LOW_FREQUENCY, _END = 0, 1, 3, 7
#: In the order in which frames have them, by channelConfiguration (table 1.19); with 0 a program config lists them.
_ELEMENTS: dict[int, tuple[int, ...]] = {
    1: (_SINGLE,),
    2: (_PAIR,),
    3: (_SINGLE, _PAIR),
    4: (_SINGLE, _PAIR, _SINGLE),
    5: (_SINGLE, _PAIR, _PAIR),
    6: (_SINGLE, _PAIR, _PAIR, _LOW_FREQUENCY),
    7: (_SINGLE, _PAIR, _PAIR, _PAIR, _LOW_FREQUENCY),
    11: (_SINGLE, _PAIR, _PAIR, _SINGLE, _LOW_FREQUENCY),
    12: (_SINGLE, _PAIR, _PAIR, _PAIR, _LOW_FREQUENCY),
    14: (_SINGLE, _PAIR, _PAIR, _LOW_FREQUENCY, _PAIR),
}
_EXPLICIT_FREQUENCY = 15
_SBR_TYPES = (5, 29)

#: ``ics_info`` (4.4.2.1): one long window, no band of it, nothing predicted.
_ICS_INFO = "0" + "00" + "0" + "000000" + "0"
_GLOBAL_GAIN = "00000000"
#: No pulses, no noise shaping, no gain control.
_NO_TOOLS = "000"
_SINGLE_STREAM = _GLOBAL_GAIN + _ICS_INFO + _NO_TOOLS
#: ``common_window``, and no band in mid/side stereo.
_PAIR_STREAM = "1" + _ICS_INFO + "00" + 2 * (_GLOBAL_GAIN + _NO_TOOLS)


@lru_cache(maxsize=64)
def silent_frame(config: AudioConfig) -> bytes:
    """
    One raw frame of silence (ISO/IEC 14496-3, 4.4.2), as long as every other frame of the track.

    Without data for spectral band replication, which decoders take for none in this frame.

    :returns: ``b""`` if the configuration does not say which channels there are.
    """
    try:
        elements = _read_elements(config.record)
    except MediaError:
        return b""
    if not elements:
        return b""
    bits = "".join(
        f"{element:03b}{tag:04b}" + (_PAIR_STREAM if element == _PAIR else _SINGLE_STREAM) for element, tag in elements
    )
    bits += f"{_END:03b}"
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _read_elements(record: bytes) -> list[tuple[int, int]]:
    """The elements of a track's frames, each with its tag (AudioSpecificConfig, 1.6.2.1)."""
    bits = BitReader(record)
    object_type = bits.u(5)
    _skip_frequency(bits)
    configuration = bits.u(4)
    if object_type in _SBR_TYPES:
        _skip_frequency(bits)
        bits.u(5)
    if configuration:
        return _tagged(_ELEMENTS.get(configuration, ()))
    bits.u(1)  # frameLengthFlag
    if bits.flag():  # dependsOnCoreCoder
        bits.u(14)
    bits.u(1)  # extensionFlag
    return _read_program_config(bits)


def _skip_frequency(bits: BitReader) -> None:
    if bits.u(4) == _EXPLICIT_FREQUENCY:
        bits.u(24)


def _read_program_config(bits: BitReader) -> list[tuple[int, int]]:
    """The elements that a program_config_element tells (4.4.1.1)."""
    bits.u(4 + 2 + 4)
    positioned = bits.u(4) + bits.u(4) + bits.u(4)
    low_frequency = bits.u(2)
    bits.u(3 + 4)
    for mixdown_width in (4, 4, 3):
        if bits.flag():
            bits.u(mixdown_width)
    elements = [(_PAIR if bits.flag() else _SINGLE, bits.u(4)) for _ in range(positioned)]
    return elements + [(_LOW_FREQUENCY, bits.u(4)) for _ in range(low_frequency)]


def _tagged(elements: tuple[int, ...]) -> list[tuple[int, int]]:
    """Elements with the tags that tell those of one kind apart."""
    return [(element, elements[:index].count(element)) for index, element in enumerate(elements)]
