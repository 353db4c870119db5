"""A publisher to try the server with: FFmpeg's test picture with a running clock, and a tone that beeps each second."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import IAuthenticator, ITokenIssuer, TokenTerms
from rapidrtmp.names import StreamName
from rapidrtmp.server.listeners import Address
from rapidrtmp.support.ffmpeg import find_ffmpeg

__all__ = ["DEMO", "DemoPublisher", "make_demo"]

DEMO = StreamName("live", "demo")
TOKEN_LIFETIME_S = 3600

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
#: A run this long was a good one: the next pause is short again.
GOOD_RUN_S = 20.0
#: Between the request to terminate and the kill.
KILL_AFTER_S = 3.0

_PICTURE = "testsrc2=size=1280x720:rate=30"
_TONE = "sine=frequency=440:beep_factor=2:sample_rate=48000"
_VIDEO = (
    "-c:v libx264 -preset superfast -tune zerolatency -profile:v high -pix_fmt yuv420p "
    "-g 30 -keyint_min 30 -sc_threshold 0 -b:v 2500k -maxrate 2500k -bufsize 2500k"
)
_AUDIO = "-c:a aac -b:a 128k -ar 48000 -ac 2"
#: It cannot go back in a live stream to write how long it was, and would complain.
_OUTPUT = "-flvflags no_duration_filesize -f flv"


def demo_arguments(ffmpeg: str, url: str) -> list[str]:
    """The command that publishes at ``url``: 720p30 H.264 with a keyframe a second, and 48 kHz AAC, in real time."""
    inputs = ["-re", "-f", "lavfi", "-i", _PICTURE, "-re", "-f", "lavfi", "-i", _TONE]
    quiet = ["-hide_banner", "-nostdin", "-loglevel", "warning"]
    return [ffmpeg, *quiet, *inputs, *_VIDEO.split(), *_AUDIO.split(), *_OUTPUT.split(), url]


def make_demo(reactor: Any, authenticator: IAuthenticator, addresses: Callable[[], Iterable[Address]]) -> DemoPublisher:
    """
    The demo of a server: it comes through the front door, with a token like any publisher's.

    :param authenticator: of the application it publishes to.
    :param addresses: tells, once they are open, where the server takes RTMP; one that is not encrypted is preferred.
    :raises ConfigurationError: the authenticator issues no tokens.
    """
    issuer = ITokenIssuer(authenticator, None)
    if issuer is None:
        raise ConfigurationError(
            f"--demo publishes {DEMO} with a token of this server, and none of apps.{DEMO.app}.auth issues any: "
            "add token or open to it"
        )

    def make_url() -> str | None:
        token = issuer.issue_token(DEMO, TOKEN_LIFETIME_S, TokenTerms())
        query = f"?token={token}" if token else ""
        reachable = [address for address in addresses() if not address.is_socket]
        if not reachable:
            return None
        address = min(reachable, key=lambda address: address.is_encrypted)
        return f"{'rtmps' if address.is_encrypted else 'rtmp'}://{address.text}/{DEMO}{query}"

    return DemoPublisher(reactor, make_url, Logger("rapidrtmp.demo"))


class DemoPublisher(Service):
    """
    Keeps one FFmpeg publishing for as long as it runs.

    :param reactor: provides ``IReactorProcess`` and ``IReactorTime``.
    :param make_url: asked before every start for where to publish, with a token that is good now; ``None`` for nowhere.
    :param log: hears of starts, ends and, at debug level, what FFmpeg says, never with the URL.
    :param find: finds FFmpeg.
    """

    name = "demo"

    def __init__(
        self,
        reactor: Any,
        make_url: Callable[[], str | None],
        log: Logger,
        *,
        find: Callable[[], str | None] = find_ffmpeg,
    ) -> None:
        self._reactor = reactor
        self._make_url = make_url
        self._log = log
        self._find = find
        self._child: _Child | None = None
        self._pending: Any = None
        self._pause_s = FIRST_PAUSE_S

    def startService(self) -> None:
        """Start FFmpeg, or say that there is none."""
        super().startService()  # type: ignore[no-untyped-call]
        # Listening begins with the other services of this moment: let it.
        self._pending = self._reactor.callLater(0, self._spawn)

    def stopService(self) -> Deferred[None] | None:
        """Terminate FFmpeg; the Deferred fires when it is gone."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        return None if self._child is None else self._child.terminate()

    def _spawn(self) -> None:
        self._pending = None
        ffmpeg = self._find()
        if ffmpeg is None:
            self._log.error("no demo: there is no ffmpeg on the PATH; pip install imageio-ffmpeg brings one")
            return
        url = self._make_url()
        if url is None:
            self._log.error("no demo: FFmpeg publishes over TCP, and RTMP is taken on UNIX sockets only")
            return
        self._child = _Child(self._reactor, self._ended, self._log, url)
        self._log.info("the demo publisher starts {ffmpeg}", ffmpeg=ffmpeg)
        self._reactor.spawnProcess(self._child, ffmpeg, demo_arguments(ffmpeg, url), env=dict(os.environ))

    def _ended(self, reason: Failure, ran_s: float) -> None:
        self._child = None
        if not self.running:
            return
        if ran_s >= GOOD_RUN_S:
            self._pause_s = FIRST_PAUSE_S
        self._log.warn(
            "the demo publisher ended ({status}) and starts again in {pause} s",
            status=reason.getErrorMessage(),
            pause=self._pause_s,
        )
        self._pending = self._reactor.callLater(self._pause_s, self._spawn)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)


class _Child(ProcessProtocol):
    """One run of FFmpeg."""

    def __init__(self, reactor: Any, ended: Callable[[Failure, float], None], log: Logger, url: str) -> None:
        self._reactor = reactor
        self._tell_ended = ended
        self._log = log
        self._secrets = [secret for secret in (url, url.partition("?")[2]) if secret]
        self._line = b""
        self._started_s: float = reactor.seconds()
        self._waiting: list[Deferred[None]] = []
        self._kill: Any = None

    def terminate(self) -> Deferred[None]:
        """Ask it to end; kill it if it does not. The Deferred fires when it has ended."""
        self._waiting.append(Deferred())
        if self._kill is None:
            self._kill = self._reactor.callLater(KILL_AFTER_S, self._signal, "KILL")
            self._signal("TERM")
        return self._waiting[-1]

    def _signal(self, signal: str) -> None:
        try:
            self.transport.signalProcess(signal)  # type: ignore[union-attr]
        except ProcessExitedAlready:
            pass

    def errReceived(self, data: bytes) -> None:
        """Log whole lines; one that has no end is dropped."""
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > 4096:
            self._line = b""
        for line in lines:
            text = line.decode("utf-8", "replace").rstrip()
            for secret in self._secrets:
                text = text.replace(secret, "***")
            self._log.debug("ffmpeg: {text}", text=text)

    def processEnded(self, reason: Failure) -> None:
        """Tell all who wait."""
        if self._kill is not None and self._kill.active():
            self._kill.cancel()
        self._tell_ended(reason, self._reactor.seconds() - self._started_s)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)
