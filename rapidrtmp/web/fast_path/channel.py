"""
The express way: what a thousand viewers ask at once, answered below the request machinery of ``twisted.web``.

A plain request (see :mod:`rapidrtmp.web.fast_path.request_line`) that arrives whole, alone, on a connection that has
nothing else to do goes straight to the responder for media, and the ready-made answer straight to the transport. Any
other request, and any that would be refused, goes the normal way, unchanged: nothing was consumed, counted or written.
Both ways send the same bytes and count alike; only their price differs.

A plain request that has arrived behind another takes the express way as well, when its turn comes (see
:class:`~rapidrtmp.web.site.BoundedChannel`). So does every one over TLS, which can hand over any number of requests in
one turn of the reactor; a bare socket is read once in a turn, and so what arrives alone is one request at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import RESPONSES, datetimeToString

from rapidrtmp.http.addresses import TrustedProxies
from rapidrtmp.http.errors import TooManyRequestsError
from rapidrtmp.http.headers import CORS, safety_fields
from rapidrtmp.interfaces import Request, Response, UnavailableError
from rapidrtmp.playback.overload import OverloadedError
from rapidrtmp.support.bug_log import BugLog
from rapidrtmp.support.twisted_transport import offer
from rapidrtmp.web.abuse import Abuse
from rapidrtmp.web.errors import error_response
from rapidrtmp.web.fast_path.request_line import MAX_BLOCK_BYTES, MAX_LINE_BYTES, NotPlainError, read_fields, read_line
from rapidrtmp.web.fast_path.sending import SMALL_BYTES, BodyProducer
from rapidrtmp.web.policy import HttpPolicy
from rapidrtmp.web.request_metrics import CLIENT_LEFT, RequestMetrics
from rapidrtmp.web.site import BoundedChannel

__all__ = ["FastPath", "FastPathChannel"]

MAX_REQUEST_BYTES = MAX_LINE_BYTES + MAX_BLOCK_BYTES

Answer = Response | Deferred[Response]


class FastPath:
    """
    What all connections of a site share.

    :param respond: answers a request for ``/APP/KEY[/~TOKEN]/NAME``: :meth:`HlsResponder.respond
        <rapidrtmp.playback.responder.HlsResponder.respond>`. What it raises must not have changed anything.
    :param route: what these requests are counted as.
    """

    _log = Logger()

    def __init__(
        self, respond: Callable[[Request, str, str, str], Answer], tally: RequestMetrics, policy: HttpPolicy, route: str
    ) -> None:
        self.tally = tally
        self.route = route
        self._respond = respond
        self._proxies = TrustedProxies(policy.trusted_proxies)
        self._second = 0
        self._bugs = BugLog(self._log)
        self._starts: dict[tuple[int, bool], bytes] = {}
        self._safety = {
            encrypted: "".join(
                f"{name}: {value}\r\n" for name, value in safety_fields(policy.hsts_s, is_encrypted=encrypted).items()
            ).encode()
            for encrypted in (False, True)
        }

    def ask(self, data: bytes, peer: str, *, has_watched: bool = False) -> tuple[Answer, str] | None:
        """
        Ask for the answer to a request.

        :param data: what was received.
        :param peer: the address at the other end of the connection.
        :param has_watched: whether media was sent on that before.
        :returns: the answer, and the client it is for; or ``None`` if the request must go the normal way.
        """
        if len(data) > MAX_REQUEST_BYTES:
            return None
        line, _, block = data.partition(b"\r\n")
        try:
            app, key, token, name, query = read_line(line)
            fields = read_fields(block)
        except NotPlainError:
            return None
        forwarded_for = fields.get("x-forwarded-for", "")
        client = self._proxies.client(peer, forwarded_for) if forwarded_for else peer
        try:
            request = Request("GET", query, fields, peer, client, token=token, has_watched=has_watched)
            return self._respond(request, app, key, name), client
        except OverloadedError as error:  # the normal way costs more, when there is no time
            return _refusal(error), client
        except Exception:  # whatever it is: the normal way meets it again, and has the words for it
            return None

    def start(self, status: int, *, is_encrypted: bool) -> bytes:
        """The status line and the fields that every answer has, of which the date changes each second."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._starts.clear()
        start = self._starts.get((status, is_encrypted))
        if start is None:
            reason = RESPONSES[status]
            start = b"HTTP/1.1 %d %s\r\nServer: RapidRTMP\r\nDate: %s\r\n" % (status, reason, datetimeToString())
            start += self._safety[is_encrypted]
            self._starts[status, is_encrypted] = start
        return start

    def refusal(self, failure: Failure) -> Response:
        """The answer to a request that was held in vain; a bug is logged."""
        assert failure.value is not None
        response = _refusal(failure.value)
        if response.status == 500:
            self._bugs.failure("internal error in {route}", failure, route=self.route)
        return response


def _refusal(error: BaseException) -> Response:
    response = error_response(error)
    return Response(response.status, {**CORS, **response.headers}, response.body)


class FastPathChannel(BoundedChannel):
    """
    An HTTP/1 connection that looks at each request first: may it go the express way?

    While one is held, or its body is on its way, it stands in ``requests`` as any other request would, so that all the
    rest of the channel (order, back-pressure, time limits, a client that leaves) works as ever.
    """

    def __init__(self, lane: FastPath, abuse: Abuse) -> None:
        super().__init__(abuse)
        self._lane = lane
        self._is_refused = False

    def dataReceived(self, data: bytes) -> None:
        """Answer a plain request; leave everything else to the normal way."""
        if self._is_idle:
            if self._goes_express(data):
                return
            self._is_refused = True
        super().dataReceived(data)

    def _read_one(self) -> None:
        """Answer a plain request that has waited; leave everything else to the normal way."""
        is_refused, self._is_refused = self._is_refused, False
        if is_refused or not self._at_start or not self._takes_express():
            super()._read_one()

    def _takes_express(self) -> bool:
        """Take one request off what has arrived, if it goes the express way."""
        request, end, rest = self.arrived.partition(b"\r\n\r\n")
        if not end:
            return False
        arrived, self.arrived = self.arrived, rest
        self.setTimeout(self._idle_s)  # type: ignore[no-untyped-call]
        if self._goes_express(request + end):
            self._arriving = False
            self.paused = True
            return True
        self.arrived = arrived
        return False

    @property
    def _is_idle(self) -> bool:
        """Whether nothing is being received, answered or still to be sent."""
        return not (
            self._arriving
            or self.is_answering
            or self.arrived
            or self.is_full
            or self._is_reading
            or self._is_encrypted
            or self.transport.disconnecting  # type: ignore[union-attr]
        )

    def _goes_express(self, data: bytes) -> bool:
        asked = self._lane.ask(data, self._peer, has_watched=self.has_watched)
        if asked is None:
            return False
        answer, client = asked
        self.has_asked = True
        if isinstance(answer, Response):
            self.resetTimeout()  # type: ignore[no-untyped-call]
            self._send(answer, None)
            return True
        return self._hold(answer, client)

    # ── held ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _hold(self, answer: Deferred[Response], client: str) -> bool:
        try:
            self._lane.tally.hold(client)
        except (TooManyRequestsError, UnavailableError):
            answer.addErrback(lambda failure: failure.trap(CancelledError))
            answer.cancel()
            return False
        held = _InProgress(answer)
        self.begin_answering(held)
        answer.addBoth(self._answered, held, client)
        return True

    def _answered(self, result: Response | Failure, held: _InProgress, client: str) -> None:
        lane = self._lane
        lane.tally.release(client)
        if isinstance(result, Response):
            self._send(result, held)
        elif result.check(CancelledError):
            lane.tally.requests[lane.route, CLIENT_LEFT] += 1
        else:
            self._send(lane.refusal(result), held)

    # ── sent ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _send(self, response: Response, held: _InProgress | None) -> None:
        lane, size = self._lane, len(response.body)
        lane.tally.requests[lane.route, response.status] += 1
        if response.status == 200:
            self.has_watched = True
        lane.tally.sent_bytes[lane.route] += size
        start = lane.start(response.status, is_encrypted=self._is_encrypted)
        if size > SMALL_BYTES:
            self._send_large(start + response.fields, response.body, held)
            return
        self._write(start + response.fields_and_body)
        if held is not None:
            self.requestDone(held)  # type: ignore[no-untyped-call]

    def _send_large(self, head: bytes, body: bytes, held: _InProgress | None) -> None:
        """Send a body that the socket may not take at once: what is left of it goes out as the client reads."""
        assert self.transport is not None
        taken = offer(self.transport, head, body)
        if taken < len(head):
            self.transport.write(head[taken:])
        rest = memoryview(body)[max(taken - len(head), 0) :]
        if rest:
            if held is None:
                held = _InProgress()
                self.begin_answering(held)
            BodyProducer(self, rest, partial(self.requestDone, held), self.transport).start()
        elif held is not None:
            self.requestDone(held)  # type: ignore[no-untyped-call]

    def _write(self, data: bytes) -> None:
        taken = offer(self.transport, data)
        if taken < len(data):
            assert self.transport is not None
            self.transport.write(data[taken:] if taken else data)


class _InProgress:
    """A request that is held or being answered, as far as its channel cares."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Deferred[Response] | None = None) -> None:
        self._answer = answer

    def connectionLost(self, _reason: Failure) -> None:
        """The client has left."""
        if self._answer is not None:
            self._answer.cancel()
