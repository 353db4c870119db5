"""What ``onMetaData`` says of a publisher's tracks (Enhanced RTMP v2, "Multitrack"): which come, and their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from rapidrtmp.media import MediaKind

__all__ = ["Label", "read_track_labels"]

_MAPS = {MediaKind.AUDIO: "audioTrackIdInfoMap", MediaKind.VIDEO: "videoTrackIdInfoMap"}
_NAMES = ("name", "title", "label")
_LANGUAGES = ("language", "lang")
_LONGEST_NAME = 64
_MOST_TRACKS = 16
_ISO_639_2 = re.compile(r"[a-z]{3}", re.ASCII)
#: Languages by the two letters that some say instead of three (ISO 639-1).
_BY_TWO_LETTERS = {
    "ar": "ara",
    "cs": "ces",
    "da": "dan",
    "de": "deu",
    "el": "ell",
    "en": "eng",
    "es": "spa",
    "fa": "fas",
    "fi": "fin",
    "fr": "fra",
    "he": "heb",
    "hi": "hin",
    "hu": "hun",
    "id": "ind",
    "it": "ita",
    "ja": "jpn",
    "ko": "kor",
    "nb": "nob",
    "nl": "nld",
    "no": "nor",
    "pl": "pol",
    "pt": "por",
    "ro": "ron",
    "ru": "rus",
    "sv": "swe",
    "th": "tha",
    "tr": "tur",
    "uk": "ukr",
    "vi": "vie",
    "zh": "zho",
}


class Label(NamedTuple):
    """What a track is called: ``language`` as in ISO 639-2, ``und`` for unknown; ``name`` for people, or empty."""

    language: str = "und"
    name: str = ""


def read_track_labels(values: Mapping[str, object]) -> dict[tuple[MediaKind, int], Label]:
    """
    The tracks that metadata announces, by kind and the publisher's number, with what they are called.

    What is not understood is passed over: encoders say this in many ways, or not at all.
    """
    found: dict[tuple[MediaKind, int], Label] = {}
    for kind, key in _MAPS.items():
        tracks = values.get(key)
        for number, facts in list(tracks.items())[:_MOST_TRACKS] if isinstance(tracks, Mapping) else ():
            if isinstance(number, str) and number.isascii() and number.isdecimal() and int(number) <= 255:
                found[kind, int(number)] = _label(facts if isinstance(facts, Mapping) else {})
    return found


def _label(facts: Mapping[str, object]) -> Label:
    name, language = (_first_text(facts, keys) for keys in (_NAMES, _LANGUAGES))
    spoken = language.lower().partition("-")[0]
    spoken = _BY_TWO_LETTERS.get(spoken, spoken)
    name = "".join(char for char in name[:_LONGEST_NAME] if char.isprintable()).strip()
    return Label(spoken if _ISO_639_2.fullmatch(spoken) else "und", name)


def _first_text(facts: Mapping[str, object], keys: tuple[str, ...]) -> str:
    return next((text for key in keys if isinstance(text := facts.get(key), str) and text), "")
