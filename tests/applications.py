"""An application for tests that need no plugins and no storages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zope.interface import implementer

from rapidrtmp.interfaces import AppLimits, AppRelays, IApplication, IStorage, Purpose
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.live.stream import LiveStream
from rapidrtmp.live.viewers import Viewers
from rapidrtmp.names import StreamName
from rapidrtmp.storage.memory import MemoryStorage

__all__ = ["FakeApplication"]


def _bare_stream(name: StreamName) -> LiveStream:
    return LiveStream(name, Shelf(), Viewers(b""), started_at_ms=0, begun_ms=0)


@implementer(IApplication)
@dataclass
class FakeApplication:
    """Makes streams as a test wants; without a word, streams without sinks."""

    name: str = "live"
    make: Callable[[StreamName], LiveStream] = _bare_stream
    limits: AppLimits = field(default_factory=AppLimits)
    authenticator: Any = None
    play_authenticator: Any = None
    names: Mapping[str, str] | None = None
    sinks: Mapping[str, Any] = field(default_factory=dict)
    stored: IStorage = field(default_factory=MemoryStorage)
    is_leaving: bool = False
    relays: AppRelays = field(default_factory=AppRelays)

    @property
    def has_secret_keys(self) -> bool:
        return self.names is not None or bool(getattr(self.authenticator, "takes_secret_keys", False))

    def public_name(self, key: str) -> str | None:
        return key if self.names is None else self.names.get(key)

    def storage(self, purpose: Purpose) -> IStorage:
        return self.stored

    def make_stream(self, name: StreamName) -> LiveStream:
        return self.make(name)
