"""The FFmpeg that there is, and whether it can make ladders."""

from __future__ import annotations

import re
import subprocess

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.support.ffmpeg import find_ffmpeg

__all__ = ["check_ffmpeg", "usable_ffmpeg"]

#: The first that has every option that is needed (``-fps_mode``).
OLDEST = (5, 1)
LONGEST_CHECK_S = 10
_TONE_FILTERS = {"tonemap", "zscale"}
_VERSION = re.compile(r"ffmpeg version n?(\d+)\.(\d+)")


def usable_ffmpeg(path: str = "", *, maps_tones: bool = False) -> str:
    """
    The path of an FFmpeg that can make ladders.

    :param path: of the one that is wanted; empty for the one that is found.
    :param maps_tones: whether it needs the filters for that.
    :raises ConfigurationError: there is none, or it cannot, with what would help.
    """
    found = path or find_ffmpeg()
    if found is None:
        raise ConfigurationError(
            "there is no ffmpeg on the PATH: install FFmpeg 5.1 or later, or pip install imageio-ffmpeg"
        )
    check_ffmpeg(found)
    if maps_tones and not set(_say(found, "-filters").split()) >= _TONE_FILTERS:
        raise ConfigurationError(f"{found} has no {' and '.join(sorted(_TONE_FILTERS))}, which hdr=tonemap needs")
    return found


def check_ffmpeg(path: str) -> None:
    """
    See that an FFmpeg is new enough, and has the encoder that always works.

    :raises ConfigurationError: it is not, or cannot be run.
    """
    version = _say(path, "-version")
    match = _VERSION.search(version)
    if match is not None and tuple(map(int, match.groups())) < OLDEST:  # builds between releases have no number
        raise ConfigurationError(f"{path} is FFmpeg {match[1]}.{match[2]}; ladders need 5.1 or later")
    if match is None and not version.startswith("ffmpeg version"):
        raise ConfigurationError(f"{path} is no FFmpeg")
    if " libx264 " not in _say(path, "-encoders"):
        raise ConfigurationError(f"{path} has no libx264, which ladders need")


def _say(path: str, option: str) -> str:
    """What a program says when it is run with an option."""
    command = [path, "-hide_banner", option]
    try:
        done = subprocess.run(command, capture_output=True, timeout=LONGEST_CHECK_S, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(f"{path} cannot be run: {error}") from error
    return done.stdout.decode("utf-8", "replace")
