"""Events sent to another server: one request each, signed if there is a secret."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit

from twisted.internet.defer import Deferred

from rapidrtmp.events.delivery import DeliveryError
from rapidrtmp.events.formats import Format
from rapidrtmp.http.outgoing import HttpAnswer, OutgoingError, OutgoingHttp
from rapidrtmp.http.signatures import sign
from rapidrtmp.interfaces import Event

__all__ = ["Webhook"]


class Webhook:
    """
    One URL.

    :param url: it may name who logs in there.
    :param secret: signs what is sent; ``None`` to not sign it.
    :param timeout_s: how long the answer may take, all of it.
    :param utc_ms: the time of day in milliseconds since 1970.
    """

    def __init__(
        self,
        url: str,
        format: Format,
        secret: bytes | None,
        timeout_s: float,
        *,
        http: OutgoingHttp,
        utc_ms: Callable[[], int],
    ) -> None:
        self._url, self._authorization = _without_login(url)
        self._format = format
        self._secret = secret
        self._timeout_s = timeout_s
        self._http = http
        self._utc_ms = utc_ms

    def send(self, event: Event) -> Deferred[None]:
        """Deliver an event; fails with ``DeliveryError``."""
        return Deferred.fromCoroutine(self._send(event))

    async def _send(self, event: Event) -> None:
        content_type, body = self._format.render(event)
        headers = {
            "Content-Type": content_type,
            "Idempotency-Key": str(event.id),  # the same in each attempt
            "X-RapidRTMP-Event": event.type.value,
        }
        if self._authorization:
            headers["Authorization"] = self._authorization
        if self._secret is not None:
            headers |= sign(self._secret, self._utc_ms() // 1000, body)
        try:
            answer = await self._http.request("POST", self._url, self._timeout_s, headers, body)
        except OutgoingError as error:
            raise DeliveryError(str(error)) from error
        if not 200 <= answer.status < 300:
            raise DeliveryError(f"answered {answer.status}", _retry_after_s(answer))
        if self._format.needs_zero and not _is_zero(answer.body):
            raise DeliveryError(f"answered {answer.status} with a code that is not 0")


def _without_login(url: str) -> tuple[str, str]:
    """A URL as clients take it, and the field by which the one who is named in it logs in; ``""`` if none is."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    field = f"Basic {b64encode(unquote_to_bytes(login)).decode()}" if at else ""
    return urlunsplit(parts._replace(netloc=host)), field


def _retry_after_s(answer: HttpAnswer) -> float | None:
    text = answer.headers.get("retry-after", "").strip()
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _is_zero(answer: bytes) -> bool:
    """Whether an answer says ``0`` or ``{"code": 0}``, or nothing that says otherwise."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return True
    code = value.get("code", 0) if isinstance(value, dict) else value
    return not isinstance(code, int) or code == 0
