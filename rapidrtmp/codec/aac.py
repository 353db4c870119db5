"""
AAC: from AudioSpecificConfig and frames, as FLV carries them, to what an ``mp4a`` track stores.

The config (ISO/IEC 14496-3, 1.6.2.1) goes into the track as it came; it is read to know how long a frame lasts. With
spectral band replication (SBR: HE-AAC) a frame holds N samples of a core at half the rate, which decoders put out as 2N
at the full rate. Where the config says so outright we count in the full rate, else in the core's, whatever a decoder
finds out later: both make the same seconds.
"""

from __future__ import annotations

from collections.abc import Iterator

from rapidrtmp.codec.adts import LATM, SEVERAL, AdtsFrame, has_several, is_adts, is_latm, read_adts, split_adts
from rapidrtmp.codec.bits import BitReader
from rapidrtmp.errors import MediaError, UnsupportedCodecError
from rapidrtmp.media import AudioConfig

__all__ = ["REFUSED_KINDS", "AacReader", "AacSearch", "read_audio_config"]

# Audio object types (ISO/IEC 14496-3, table 1.17)
_MAIN, _LOW_COMPLEXITY, _SCALABLE_RATE, _LONG_TERM_PREDICTION, _SBR, _PARAMETRIC_STEREO = 1, 2, 3, 4, 5, 29
_CORES = (_MAIN, _LOW_COMPLEXITY, _SCALABLE_RATE, _LONG_TERM_PREDICTION)
_ESCAPE = 31
#: Kinds that encoders make and that are not carried, by codec string.
REFUSED_KINDS = {
    "mp4a.40.23": "AAC-LD",
    "mp4a.40.39": "AAC-ELD",
    "mp4a.40.42": "xHE-AAC",
    LATM: "AAC in LATM",
    SEVERAL: "AAC with several frames behind one ADTS header",
}
#: What frames begin with that are not raw.
_SYNC = frozenset({b"\xff", b"\x56"})

#: By samplingFrequencyIndex (table 1.18); 13 and 14 are reserved, 15 escapes to 24 bits.
_FREQUENCIES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
_EXPLICIT_FREQUENCY = 15
#: By channelConfiguration (table 1.19); 0 says that a program config element follows, the others are reserved.
_CHANNELS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 8, 11: 7, 12: 8, 13: 24, 14: 8}
#: The syncExtensionType that announces SBR behind a config, to those who look (1.6.6.1): 0x2B7 in 11 bits.
_SYNC_EXTENSION = f"{0x2B7:011b}"
#: Far above any config that means something: 300 bytes with every channel element and the longest comment.
_MAX_CONFIG_SIZE = 4096


def read_audio_config(data: bytes) -> AudioConfig:
    """
    Read an AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1).

    ``record`` is ``data``, without what is behind the config if that announces nothing: some encoders pad with junk.

    :raises UnsupportedCodecError: it is of a kind that is known, but not carried: LD, ELD, USAC.
    :raises MediaError: it ends early, names no usable frequency or channels, or an object type other than 1..4, 5, 29.
    """
    if len(data) > _MAX_CONFIG_SIZE:
        raise MediaError(f"AudioSpecificConfig of {len(data)} bytes, limit {_MAX_CONFIG_SIZE}")
    bits = BitReader(data)
    signalled = object_type = _read_object_type(bits)
    core_rate = sample_rate = _read_frequency(bits)
    channel_configuration = bits.u(4)
    if object_type in (_SBR, _PARAMETRIC_STEREO):
        sample_rate = _read_frequency(bits)
        object_type = _read_object_type(bits)
    if object_type not in _CORES:
        problem, codec = f"AAC object type {object_type}, one of {_CORES} is wanted", f"mp4a.40.{object_type}"
        raise UnsupportedCodecError(problem, codec) if codec in REFUSED_KINDS else MediaError(problem)
    if sample_rate not in (core_rate, 2 * core_rate):
        raise MediaError(f"AAC of {core_rate} Hz with SBR of {sample_rate} Hz, twice as much or the same is possible")
    core_samples = 960 if bits.flag() else 1024  # frameLengthFlag
    if bits.flag():  # dependsOnCoreCoder
        bits.u(14)
    extended = bits.flag()  # extensionFlag, which these object types do not have
    channels = _read_channels(bits, channel_configuration)
    if signalled == _PARAMETRIC_STEREO and channels == 1:
        channels = 2  # made of one by the decoder
    return AudioConfig(
        record=data if extended else _without_junk(data, bits.bits_left),
        codec_string=f"mp4a.40.{signalled}",
        sample_rate=sample_rate,
        channels=channels,
        samples_per_frame=core_samples * sample_rate // core_rate,
    )


class AacReader:
    """
    Reads the frames of one AAC track: raw, or behind ADTS headers, which are taken off.

    :ivar config: the configuration in force; another one behind an ADTS header that says another thing than the one
        before. Raw frames never change it.
    :ivar keyframe: true: decoding may start anywhere.
    :ivar samples: how long a frame lasts.
    """

    __slots__ = ("_described", "config", "keyframe", "samples")

    def __init__(self, config: AudioConfig) -> None:
        self.config = config
        self.keyframe = True
        self.samples = config.samples_per_frame
        self._described = b""  # what the latest header said

    def read(self, body: bytes) -> bytes | None:
        """
        The raw AAC frame in the body of a frames packet: ``body`` itself if it has no header. ``b""`` stays ``b""``.

        :returns: ``None`` if there are several.
        :raises UnsupportedCodecError: it is LATM.
        :raises MediaError: a header promises more bytes than there are, or names no usable configuration.
        """
        if body[:1] not in _SYNC:
            return body
        _refuse_latm(body)
        if not is_adts(body):
            return body
        if has_several(body):
            return None
        frame = read_adts(body)
        return self.read_described(frame) if frame.end == len(body) else None

    def split(self, body: bytes) -> Iterator[bytes]:
        """See :class:`~rapidrtmp.codec.several.SplittingReader`."""
        for frame in split_adts(body):
            yield self.read_described(frame)

    def read_described(self, frame: AdtsFrame) -> bytes:
        """
        The raw frame behind a header, after a look at what that says.

        :raises MediaError: it names no usable configuration.
        """
        if frame.config != self._described:
            if self._described:
                self.config = read_audio_config(frame.config)
                self.samples = self.config.samples_per_frame
            self._described = frame.config
        return frame.data


class AacSearch:
    """
    Finds the configuration of AAC that was sent without one, or with another thing in its place: ADTS headers have it.

    :ivar is_warm: whether what was looked at last was for the configuration: false, for frames are lost without one.
    """

    is_warm = False

    def look_at_config(self, body: bytes) -> AudioConfig | None:
        """
        Look at the body of a sequence header that is no configuration, but maybe an ADTS header.

        :raises MediaError: it is neither, or names no usable configuration.
        """
        if not is_adts(body):
            read_audio_config(body)  # tells what is wrong with it
        head = body[:3] + bytes([body[3] & 0xFC, 0, 7 << 5, 0xFC]) if len(body) > 3 else body  # of a frame of no bytes
        return read_audio_config(read_adts(head[:1] + b"\xf1" + head[2:]).config)

    def look_at_frame(self, body: bytes) -> AudioConfig | None:
        """
        Look at the body of a frames packet.

        :raises MediaError: it begins with a header, but that cannot be used.
        """
        _refuse_latm(body)
        return read_audio_config(read_adts(body).config) if is_adts(body) else None


def _refuse_latm(body: bytes) -> None:
    """:raises UnsupportedCodecError: it is LATM, which no decoder takes for what an MP4 track holds."""
    if is_latm(body):
        raise UnsupportedCodecError(f"LATM of {len(body)} bytes", LATM)


def _read_object_type(bits: BitReader) -> int:
    object_type = bits.u(5)
    return 32 + bits.u(6) if object_type == _ESCAPE else object_type


def _read_frequency(bits: BitReader) -> int:
    index = bits.u(4)
    if index == _EXPLICIT_FREQUENCY:
        frequency = bits.u(24)
        if not _FREQUENCIES[-1] <= frequency <= _FREQUENCIES[0]:
            raise MediaError(f"AAC of {frequency} Hz, {_FREQUENCIES[-1]}..{_FREQUENCIES[0]} Hz are possible")
        return frequency
    if index >= len(_FREQUENCIES):
        raise MediaError(f"AAC frequency index {index} is reserved")
    return _FREQUENCIES[index]


def _read_channels(bits: BitReader, configuration: int) -> int:
    channels = _CHANNELS.get(configuration, 0) if configuration else _read_program_config(bits)
    if not channels:
        raise MediaError(f"AAC with channel configuration {configuration} has no channels")
    return channels


def _read_program_config(bits: BitReader) -> int:
    """Read a program_config_element (ISO/IEC 14496-3, 4.4.1.1): how many channels its elements have."""
    bits.u(4 + 2 + 4)  # element_instance_tag, object_type, sampling_frequency_index
    positioned = bits.u(4) + bits.u(4) + bits.u(4)  # front, side, back
    low_frequency, data, coupling = bits.u(2), bits.u(3), bits.u(4)
    for mixdown_width in (4, 4, 3):  # mono, stereo, matrix
        if bits.flag():
            bits.u(mixdown_width)
    channels = low_frequency
    for _ in range(positioned):
        channels += 2 if bits.flag() else 1  # is_cpe: a pair of channels
        bits.u(4)
    bits.u(4 * low_frequency + 4 * data + 5 * coupling)
    bits.u(bits.bits_left % 8)
    bits.u(8 * bits.u(8))  # comment
    return channels


def _without_junk(data: bytes, bits_left: int) -> bytes:
    """
    The config without the whole bytes behind it, unless the extension is announced anywhere among them.

    Decoders search for the announcement bit by bit, so where it is found nothing behind the config is certain.
    """
    tail = int.from_bytes(data, "big") & ((1 << bits_left) - 1)
    announced = bits_left and _SYNC_EXTENSION in f"{tail:0{bits_left}b}"
    return data if announced else data[: len(data) - bits_left // 8]
