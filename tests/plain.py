"""The mark of tests that look into how Python carries out what a compiled build does otherwise."""

from __future__ import annotations

from typing import TypeVar

from rapidrtmp.support.compiled import is_compiled

__all__ = ["plain_only"]

Marked = TypeVar("Marked")


def plain_only(test: Marked) -> Marked:
    """Mark a test that counts Python's steps, or stands in for a part of a class: it is skipped where those are C."""
    if is_compiled():
        test.skip = "this build is compiled"  # type: ignore[attr-defined]
    return test
