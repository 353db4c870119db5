"""What a receiver of FLV messages takes: the classic codecs in any case, and of Enhanced RTMP what it says it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ANYTHING", "CLASSIC", "FIRST_TRACKS", "WEB", "FlvCapabilities", "read_flv_capabilities"]

#: Codecs that the classic form has: those who take FLV at all take them.
_CLASSIC_CODECS = frozenset({"avc1", "mp4a", ".mp3"})
_MAPS = ("videoFourCcInfoMap", "audioFourCcInfoMap")
#: In those maps: decodes it, or hands it on.
_CAN_DECODE, _CAN_FORWARD = 1, 4
#: In ``capsEx``; ModEx and the offset in nanoseconds that it carries are two.
_MULTITRACK, _NANOSECONDS = 2, 4 | 8
#: In ``videoFunction``: HDR, and the packets that describe it.
_METADATA = 2 | 4
_ANY = "*"


@dataclass(frozen=True, slots=True)
class FlvCapabilities:
    """
    What one receiver takes. Those that are equal can be sent the same bytes.

    :ivar codecs: the FourCCs that it takes in the enhanced form; ``None`` for all.
    :ivar multitrack: whether it takes more than one track of a kind.
    :ivar metadata: whether it takes packets that tell of colour and brightness.
    :ivar nanoseconds: whether it takes timestamps that are finer than milliseconds.
    :ivar is_declared: whether it says itself what it takes of Enhanced RTMP, and so takes the packets that tell of
        channels and of the end of a track.
    """

    codecs: frozenset[str] | None = frozenset()
    multitrack: bool = False
    metadata: bool = False
    nanoseconds: bool = False
    is_declared: bool = False

    def takes(self, codec: str) -> bool:
        """Whether a codec can be sent in the enhanced form."""
        return self.codecs is None or codec in self.codecs

    def plays(self, codec: str) -> bool:
        """Whether a codec can be sent at all, as the first track of its kind."""
        return codec in _CLASSIC_CODECS or self.takes(codec)


#: H.264, AAC and MP3 as they were sent before Enhanced RTMP.
CLASSIC = FlvCapabilities()
#: The first track of each kind, in whatever codec it is: for a receiver that says nothing of what it takes.
FIRST_TRACKS = FlvCapabilities(codecs=None)
#: What the players of web pages read of FLV (mpegts.js): other codecs and further tracks are errors to them.
WEB = FlvCapabilities(codecs=frozenset({"hvc1", "Opus"}))
#: All that there is: for what is read back by this server, or kept.
ANYTHING = FlvCapabilities(codecs=None, multitrack=True, metadata=True, nanoseconds=True, is_declared=True)


def read_flv_capabilities(properties: Mapping[str, object], silent: FlvCapabilities = FIRST_TRACKS) -> FlvCapabilities:
    """
    What the peer says it takes (Enhanced RTMP v2, "Enhancing NetConnection connect Command").

    :param properties: those of a client's connect, or of a server's answer to one.
    :param silent: what is assumed of a peer that says nothing.
    """
    codecs, says_so = _codecs(properties)
    if not says_so:
        return silent
    caps, function = _flags(properties.get("capsEx")), properties.get("videoFunction")
    return FlvCapabilities(
        codecs=None if _ANY in codecs else codecs,
        multitrack=bool(caps & _MULTITRACK),
        metadata=function is None or bool(_flags(function) & _METADATA),
        nanoseconds=caps & _NANOSECONDS == _NANOSECONDS,
        is_declared=bool(codecs),
    )


def _codecs(properties: Mapping[str, object]) -> tuple[frozenset[str], bool]:
    """The codecs of lists and maps, and whether there is any of those. A list may be an object with numbers as keys."""
    listed = properties.get("fourCcList")
    names = list(listed.values()) if isinstance(listed, Mapping) else listed
    codecs = {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()
    says_so = isinstance(names, list)
    for key in _MAPS:
        known = properties.get(key)
        if isinstance(known, Mapping):
            says_so = True
            codecs |= {name for name, flags in known.items() if _flags(flags) & (_CAN_DECODE | _CAN_FORWARD)}
    return frozenset(codecs), says_so


def _flags(value: object) -> int:
    """Flags that came as an AMF number; 0 for what is none."""
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**31 else 0
