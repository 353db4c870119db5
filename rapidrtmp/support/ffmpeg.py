"""Where FFmpeg is."""

from __future__ import annotations

import shutil

__all__ = ["find_ffmpeg"]


def find_ffmpeg() -> str | None:
    """Path of FFmpeg: the one on the PATH, else the one that ``imageio-ffmpeg`` brings, else ``None``."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        path: str = get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        return None
    return path
