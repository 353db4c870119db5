"""
Which modules may be compiled to C, by mypyc, and whether they are.

They are those that every message of a publish goes through and that are plain Python: bytes and values in, values out.
Compiled they do the same for less; a build does it where it is asked to (``RAPIDRTMP_COMPILE=1``, see ``setup.py``,
which reads this file without importing the package). A class of theirs cannot be derived from, and none of its objects
patched, by what is not compiled itself.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

__all__ = ["is_compiled", "modules"]

_PACKAGES = ("rtmp", "rtmp/session", "codec", "timeline", "cmaf", "m3u8")
#: What is the hot path's besides.
_MODULES = (
    "hls/discontinuities.py",
    "hls/invariants.py",
    "hls/playlist.py",
    "hls/segment.py",
    "hls/segment_list.py",
    "hls/stored_window.py",
    "live/announced_tracks.py",
    "live/channel_layout.py",
    "live/colour_info.py",
    "live/demuxer.py",
    "live/statistics.py",
)
#: What stays as it is: it derives from tuples or takes part in interfaces, or has other rooms derive from it.
_PLAIN = frozenset({"cmaf/fragment.py", "cmaf/packager.py", "cmaf/rung_frames.py", "m3u8/rate.py"})


def modules(package: Path) -> list[Path]:
    """
    Find what may be compiled.

    :param package: the folder of ``rapidrtmp``.
    :returns: files, in order.
    """
    found = [path for room in _PACKAGES for path in (package / room).glob("*.py") if path.name != "__init__.py"]
    found += [package / name for name in _MODULES]
    return sorted(path for path in found if path.relative_to(package).as_posix() not in _PLAIN)


def is_compiled() -> bool:
    """Whether this build is a compiled one."""
    spec = find_spec("rapidrtmp.rtmp.chunk_span")
    return spec is not None and not str(spec.origin).endswith(".py")
