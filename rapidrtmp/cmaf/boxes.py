"""
One short writer per box of an init segment: values in, bytes out.

Each is named after its box and writes the version and fields that fragmented files need, no more. Clauses are those of
ISO/IEC 14496-12 unless another part is named; all integers are big-endian. A value that its field cannot hold raises
``struct.error``: the callers know what the value was and turn it into a ``MediaError``.
"""

from __future__ import annotations

from struct import pack

from rapidrtmp.codec.hdr import write_light, write_mastering
from rapidrtmp.media import Colour, ContentLight, MasteringDisplay

#: The identity transformation, in 16.16 and 2.30 fixed point (8.2.2.2).
_UNITY_MATRIX = pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_UNDETERMINED_LANGUAGE = "und"
#: Enabled, and part of the movie (8.3.2.3).
_TRACK_IN_USE = 0x000003
#: The media data is in the file that holds this box (8.7.2.3).
_SELF_CONTAINED = 0x000001


def box(kind: bytes, *payload: bytes) -> bytes:
    """A box: its size (u32, header included), its four-character code, its payload (4.2)."""
    return b"".join((pack(">I4s", 8 + sum(map(len, payload)), kind), *payload))


def full_box(kind: bytes, version: int, flags: int, *payload: bytes) -> bytes:
    """A box whose payload begins with a version (u8) and flags (u24) (4.2)."""
    return box(kind, pack(">I", version << 24 | flags), *payload)


# ── the file and the movie ───────────────────────────────────────────────────────────────────────────────────────────


def ftyp(major_brand: bytes, *compatible_brands: bytes) -> bytes:
    """What specifications a file keeps to (4.3); the major brand belongs among the compatible ones as well."""
    return box(b"ftyp", pack(">4sI", major_brand, 0), *compatible_brands)


def mvhd(next_track_id: int) -> bytes:
    """The movie header (8.2.2): times in milliseconds, no duration (it still grows), natural rate and volume."""
    times = pack(">4I", 0, 0, 1000, 0)
    presentation = pack(">IH10x", 0x10000, 0x100)
    return full_box(b"mvhd", 0, 0, times, presentation, _UNITY_MATRIX, pack(">24xI", next_track_id))


def mvex(*trex_boxes: bytes) -> bytes:
    """The announcement that fragments follow (8.8.1)."""
    return box(b"mvex", *trex_boxes)


def trex(track_id: int) -> bytes:
    """Defaults for a track's fragments (8.8.3): sample entry 1; each fragment states the rest itself."""
    return full_box(b"trex", 0, 0, pack(">5I", track_id, 1, 0, 0, 0))


# ── one track ────────────────────────────────────────────────────────────────────────────────────────────────────────


def tkhd(track_id: int, *, width: int = 0, height: int = 0, audible: bool = False) -> bytes:
    """
    The track header (8.3.2).

    :param width: display width in pixels as 16.16 fixed point, pixel aspect applied; likewise ``height``; 0 for audio.
    :param audible: whether the track has a volume, which is then full.
    """
    times = pack(">5I", 0, 0, track_id, 0, 0)
    mixing = pack(">8x2hH2x", 0, 0, 0x100 if audible else 0)
    return full_box(b"tkhd", 0, _TRACK_IN_USE, times, mixing, _UNITY_MATRIX, pack(">II", width, height))


def mdhd(timescale: int, language: str = _UNDETERMINED_LANGUAGE) -> bytes:
    """
    The media header (8.4.2): ticks a second, no duration, a language.

    :param language: three letters (ISO 639-2); anything else is written as undetermined.
    """
    if not (len(language) == 3 and language.isascii() and language.islower()):
        language = _UNDETERMINED_LANGUAGE
    first, second, third = (ord(letter) - 0x60 for letter in language)  # five bits each
    return full_box(b"mdhd", 0, 0, pack(">4IHH", 0, 0, timescale, 0, first << 10 | second << 5 | third, 0))


def hdlr(handler: bytes, name: bytes) -> bytes:
    """The kind of media (8.4.3): ``vide`` or ``soun``, and a name for people."""
    return full_box(b"hdlr", 0, 0, pack(">4x4s12x", handler), name, b"\0")


def vmhd() -> bytes:
    """The video media header (12.1.2): copied onto the screen, no colour key. Its flags are 1 by definition."""
    return full_box(b"vmhd", 0, 1, bytes(8))


def smhd() -> bytes:
    """The sound media header (12.2.2): balanced in the centre."""
    return full_box(b"smhd", 0, 0, bytes(4))


def dinf() -> bytes:
    """Where the media data is (8.7.1, 8.7.2): in this very file."""
    return box(b"dinf", full_box(b"dref", 0, 0, pack(">I", 1), full_box(b"url ", 0, _SELF_CONTAINED)))


def stbl(sample_entry: bytes) -> bytes:
    """The sample table (8.5.1): one entry, and the four mandatory tables, empty: all samples are in fragments."""
    no_entries = bytes(4)
    return box(
        b"stbl",
        full_box(b"stsd", 0, 0, pack(">I", 1), sample_entry),
        full_box(b"stts", 0, 0, no_entries),
        full_box(b"stsc", 0, 0, no_entries),
        full_box(b"stsz", 0, 0, bytes(4), no_entries),
        full_box(b"stco", 0, 0, no_entries),
    )


# ── sample entries and what they hold ────────────────────────────────────────────────────────────────────────────────


def visual_sample_entry(kind: bytes, width: int, height: int, *children: bytes) -> bytes:
    """A video sample entry (12.1.3): coded size in pixels, 72 dpi, one frame a sample, 24-bit colour, no alpha."""
    head = pack(">6xH16xHHII4xH", 1, width, height, 0x480000, 0x480000, 1)
    return box(kind, head, pack(">32xHh", 0x18, -1), *children)


def audio_sample_entry(kind: bytes, channels: int, sample_rate: int, *children: bytes) -> bytes:
    """
    An audio sample entry (12.2.3), nominally of 16-bit samples.

    :param sample_rate: in Hz; one beyond 65535 does not fit the 16.16 field and is written 0: the codec's own
        configuration says it.
    """
    rate = sample_rate << 16 if sample_rate <= 0xFFFF else 0
    return box(kind, pack(">6xH8xHH4xI", 1, channels, 16, rate), *children)


def colr(colour: Colour) -> bytes:
    """The colour description, ``nclx`` (12.1.5): code points of ITU-T H.273, and the range."""
    code_points = pack(">4s3H", b"nclx", colour.primaries, colour.transfer, colour.matrix)
    return box(b"colr", code_points, b"\x80" if colour.full_range else b"\0")


def pasp(horizontal: int, vertical: int) -> bytes:
    """The pixel aspect ratio (12.1.4)."""
    return box(b"pasp", pack(">II", horizontal, vertical))


def mdcv(display: MasteringDisplay) -> bytes:
    """The display that pictures were mastered on (12.1.7)."""
    return box(b"mdcv", write_mastering(display))


def clli(light: ContentLight) -> bytes:
    """The content light level (12.1.6)."""
    return box(b"clli", write_light(light))
