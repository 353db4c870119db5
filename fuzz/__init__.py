"""
Fuzzing: bytes that no one has thought of, for everything that reads what strangers send.

``python -m fuzz TARGET`` looks for such bytes with atheris, guided by coverage, until it is stopped; the targets are
the modules of this package that have a function ``run``. Each takes one input, and returns whatever is in it: an
exception that its docstring does not promise, or a broken invariant, escapes and is a finding.

Findings go to the target's corpus (``fuzz/corpus/TARGET``), beside inputs to start from. The unit tests run all of it,
so that what was found once stays fixed.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["CORPUS", "TARGETS"]

#: One folder for each target.
CORPUS = Path(__file__).parent / "corpus"
TARGETS = (
    "rtmp",
    "amf",
    "flv",
    "demuxer",
    "avc",
    "hevc",
    "av1",
    "vp9",
    "colour",
    "aac",
    "opus",
    "flac",
    "mp3",
    "ac3",
    "proxies",
    "directives",
    "names",
    "stored",
    "gcs",
)
