"""How many channels an audio track has, by Enhanced RTMP's packets of that; see its "MultichannelConfig"."""

from __future__ import annotations

__all__ = ["read_channel_count"]

#: In no order that is known; in the order of a mask of speakers; in that of a list of them.
_UNSPECIFIED, _NATIVE, _CUSTOM = 0, 1, 2


def read_channel_count(body: bytes) -> int | None:
    """
    The number of channels that a packet tells.

    :param body: the order, the number of channels, and the mask of speakers or one speaker for each channel.
    :returns: 1..255; ``None`` if it is cut short, of an unknown order, or contradicts itself.
    """
    order, channels, layout = body[:1], body[1:2], body[2:]
    if not channels or not channels[0]:
        return None
    count = channels[0]
    if order[0] == _NATIVE:
        is_whole = len(layout) >= 4 and int.from_bytes(layout[:4], "big").bit_count() == count
    elif order[0] == _CUSTOM:
        is_whole = len(layout) >= count
    else:
        is_whole = order[0] == _UNSPECIFIED
    return count if is_whole else None
