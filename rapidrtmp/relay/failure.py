"""Why a relay does not work, and how long it waits before it tries again."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass

from OpenSSL import SSL
from twisted.internet.error import ConnectError, ConnectionClosed, ConnectionDone, ConnectionLost, DNSLookupError
from twisted.python.failure import Failure

from rapidrtmp.rtmp.events import Status

__all__ = ["FailureKind", "Patience", "RelayFailure", "failure_of", "refusal_of"]

#: What is shorter is no secret, and may be part of any word.
SECRET_LENGTH = 3
#: The words that a refusal for a loop contains, our own and those of other servers of ours.
LOOP = "relay loop"
#: Between attempts over a bad network, in seconds: the first wait, doubled each time up to the longest.
FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 30.0
#: So long a relay must have worked before its next failure counts as the first, in seconds.
HEALTHY_S = 60.0
#: After "already publishing": the other side has not missed the session before this one; in seconds.
BUSY_DELAY_S = 10.0
#: After a refusal that only its operator can take back, in seconds.
REFUSED_DELAY_S = 60.0
#: While the stream is not there to be played: the first wait, doubled each time up to the longest, in seconds.
ABSENT_DELAY_S, LONGEST_ABSENT_DELAY_S = 5.0, 60.0


class FailureKind(enum.Enum):
    """What kind of trouble it is."""

    NETWORK = "network"  # no connection, no answer, or it broke
    CERTIFICATE = "certificate"  # the other side is not the one that it should be
    BUSY = "busy"  # the name is in use there
    REFUSED = "refused"  # the other side does not want us
    ABSENT = "absent"  # there is no such stream to play
    LOOP = "loop"  # the stream would come back to where it was
    MOVED = "moved"  # the other side asks us to connect again, perhaps elsewhere


@dataclass(frozen=True, slots=True)
class RelayFailure:
    """
    Why an attempt, or what it had begun, is over.

    :ivar reason: one sentence without anything secret.
    :ivar redirect: where to go instead, for ``MOVED``; may hold a secret.
    """

    kind: FailureKind
    reason: str
    redirect: str = ""


_BUSY = ("NetStream.Publish.BadName",)
_ABSENT = ("NetStream.Play.StreamNotFound", "NetStream.Play.UnpublishNotify", "NetStream.Play.Stop")
_PLAIN = (ConnectionDone, ConnectionLost, ConnectionClosed)


def refusal_of(status: Status, secrets: tuple[str, ...]) -> RelayFailure:
    """
    What a status of the other side means that ends an attempt.

    :param secrets: what its words must not show: some servers repeat what they were sent.
    """
    said = " ".join(filter(None, (status.code, status.description)))
    said = LOOP.join(_masked(each, secrets) for each in re.split(LOOP, said, flags=re.IGNORECASE))
    if LOOP in said:
        kind = FailureKind.LOOP
    elif status.code in _BUSY:
        kind = FailureKind.BUSY
    elif status.code in _ABSENT:
        kind = FailureKind.ABSENT
    else:
        kind = FailureKind.REFUSED
    return RelayFailure(kind, said or "refused without a reason")


def _masked(said: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        if len(secret) >= SECRET_LENGTH:
            said = said.replace(secret, "****")
    return said


def failure_of(failure: Failure) -> RelayFailure:
    """What the loss of a connection, or one that could not be made, means."""
    error = failure.value
    if type(error).__module__.startswith("service_identity"):
        return RelayFailure(FailureKind.CERTIFICATE, "its certificate is for another name")
    if isinstance(error, SSL.Error):
        said = ", ".join(dict.fromkeys(each[-1] for each in error.args[0] if each)) if error.args else ""
        is_trust = "certificate" in said
        return RelayFailure(FailureKind.CERTIFICATE if is_trust else FailureKind.NETWORK, f"TLS: {said or 'failed'}")
    if isinstance(error, DNSLookupError):
        return RelayFailure(FailureKind.NETWORK, "its host name is not known")
    if isinstance(error, _PLAIN):
        return RelayFailure(FailureKind.NETWORK, "it closed the connection")
    if isinstance(error, ConnectError):
        return RelayFailure(FailureKind.NETWORK, f"no connection: {_first_sentence(str(error))}")
    return RelayFailure(FailureKind.NETWORK, f"no connection: {_first_sentence(str(error)) or type(error).__name__}")


def _first_sentence(said: str) -> str:
    return " ".join(said.split()).rstrip(".")[:200]


class Patience:
    """
    How long a relay waits before it tries again.

    :param random: 0 up to 1: half of each wait over the network is left to chance, so that a server which comes back
        is not met by all at once.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._failures = 0

    def delay_s(self, kind: FailureKind, worked_s: float) -> float:
        """
        Tell the wait after a failure, in seconds.

        :param worked_s: how long the relay had worked before.
        """
        if worked_s >= HEALTHY_S:
            self._failures = 0
        if kind is FailureKind.MOVED:
            return 0.0
        if kind is FailureKind.BUSY:
            return BUSY_DELAY_S
        if kind in (FailureKind.REFUSED, FailureKind.CERTIFICATE, FailureKind.LOOP):
            return REFUSED_DELAY_S
        first, longest = (
            (ABSENT_DELAY_S, LONGEST_ABSENT_DELAY_S) if kind is FailureKind.ABSENT else (FIRST_DELAY_S, LONGEST_DELAY_S)
        )
        delay = min(first * float(1 << self._failures), longest)
        self._failures = min(self._failures + 1, 16)
        chance = 0.75 + 0.5 * self._random() if kind is FailureKind.NETWORK else 1.0
        return delay * chance
