"""The mark of the tests that ``python -m tests`` leaves to ``python -m tests --slow``."""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = ["is_slow", "slow"]

Marked = TypeVar("Marked")


def slow(test: Marked) -> Marked:
    """Mark a test, or a class of tests, that takes more than half a second on a quiet machine."""
    test.slow = True  # type: ignore[attr-defined]
    return test


def is_slow(test: Any) -> bool:
    """Whether a test, or its class, is marked; a test that could not be loaded is not."""
    method = getattr(test, getattr(test, "_testMethodName", ""), None)
    return getattr(method, "slow", False) or getattr(type(test), "slow", False)
