"""Which streams of an application go to other servers, and which come from there, as its settings have it."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["AppRelays", "PullSource", "PushTarget"]


@dataclass(frozen=True, slots=True)
class PushTarget:
    """
    Where streams are pushed to. ``{key}``, in the URL or the key, stands for the stream's name.

    :ivar url: ``rtmp://HOST/APP`` or ``rtmps://HOST/APP``; with ``/KEY`` behind it, if there is no key.
    :ivar key: what they are published as there: a secret.
    :ivar key_file: a file with the key instead; likewise ``key_env``, a name in the environment.
    :ivar streams: a pattern of the names of streams, as in a shell.
    :ivar rendition: which rendition is pushed; ``""`` for the source.
    :ivar ca: a file of certificates to trust instead of the system's.
    :ivar others: URLs that are as good, for when the first one fails.
    """

    url: str = field(repr=False)
    key: str = field(default="", repr=False)
    key_file: str = ""
    key_env: str = ""
    streams: str = "*"
    rendition: str = ""
    ca: str = ""
    others: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class PullSource:
    """
    Where a stream comes from.

    :ivar stream: what it is called here.
    :ivar urls: asked in turn; each may hold a secret.
    :ivar on_demand: whether it is pulled only while it is watched.
    :ivar hold_ms: how long a request for it waits until it is there.
    :ivar close_after_ms: how long it is pulled on when no one watches.
    :ivar ca: a file of certificates to trust instead of the system's.
    """

    stream: str
    urls: tuple[str, ...] = field(repr=False)
    on_demand: bool = False
    hold_ms: int = 10_000
    close_after_ms: int = 30_000
    ca: str = ""


@dataclass(frozen=True, slots=True)
class AppRelays:
    """
    Those of one application.

    :ivar origins: URLs of the application on other servers, where streams are asked for that are not here.
    """

    push: tuple[PushTarget, ...] = ()
    pull: tuple[PullSource, ...] = ()
    origins: tuple[str, ...] = field(default=(), repr=False)
