"""
Decoded pictures and sound of a live stream, for sinks written in Python with numpy: see :class:`DecodingSink`.

Needs the extra ``av``: ``pip install rapidrtmp[av]``.
"""

from rapidrtmp.decoding.base import Cue, DecodingSink, Mark, Note, Result, Upload
from rapidrtmp.decoding.sink import DecodingSinkFactory

__all__ = ["Cue", "DecodingSink", "DecodingSinkFactory", "Mark", "Note", "Result", "Upload"]
