"""The hooks of a server: what the settings name, made, fed from the log, and shown in the API."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from twisted.internet.defer import Deferred, DeferredList

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.events.command import Command
from rapidrtmp.events.delivery import Delivery
from rapidrtmp.events.formats import FORMATS
from rapidrtmp.events.log import EventLog
from rapidrtmp.events.values import describe_event
from rapidrtmp.events.webhook import Webhook
from rapidrtmp.http.outgoing import OutgoingHttp
from rapidrtmp.http.params import rfc3339
from rapidrtmp.http.signatures import read_signing_secret
from rapidrtmp.interfaces import Event, EventType, Request, Response, json_response
from rapidrtmp.settings.model import HookSettings

__all__ = ["Hooks"]


@dataclass(frozen=True, slots=True)
class _Hook:
    """One hook at work."""

    settings: HookSettings
    delivery: Delivery


class Hooks:
    """
    All hooks.

    :param reactor: time, timers, TCP and processes.
    :param utc_ms: the time of day in milliseconds since 1970.
    """

    def __init__(self, log: EventLog, reactor: Any, utc_ms: Callable[[], int]) -> None:
        self._reactor = reactor
        self._utc_ms = utc_ms
        self._http = OutgoingHttp(reactor)
        self._hooks: Sequence[_Hook] = ()
        log.follow(self._tell)

    def follow(self, wanted: Sequence[HookSettings]) -> None:
        """
        Have these hooks, and no others; those that are there already continue as they are.

        :raises ConfigurationError: the secret of one cannot be read; then nothing has changed.
        """
        former = list(self._hooks)
        hooks = []
        for number, settings in enumerate(wanted, 1):
            known = next((each for each in former if each.settings == settings), None)
            if known is not None:
                former.remove(known)
            hooks.append(known or self._make(number, settings))
        self._hooks = hooks
        for gone in former:
            gone.delivery.stop()

    def _make(self, number: int, settings: HookSettings) -> _Hook:
        form = FORMATS[settings.format]
        timeout_s = settings.timeout_ms / 1000
        if settings.exec:
            send = Command(settings.exec, timeout_s, clock=self._reactor, spawn=self._reactor.spawnProcess).send
        else:
            try:
                secret = read_signing_secret(settings.secret_file) if settings.secret_file else None
            except ConfigurationError as error:
                raise ConfigurationError(f"[[hooks]] {number}: secret_file: {error}") from error
            send = Webhook(settings.url, form, secret, timeout_s, http=self._http, utc_ms=self._utc_ms).send
        types = frozenset(map(EventType, settings.events)) if settings.events else form.types
        delivery = Delivery(
            f"hook {number} ({_target(settings)})",
            types,
            send,
            attempts=settings.attempts,
            clock=self._reactor,
            utc_ms=self._utc_ms,
            random=random.random,
        )
        return _Hook(settings, delivery)

    def _tell(self, events: Sequence[Event]) -> None:
        for hook in self._hooks:
            for event in events:
                hook.delivery.take(event)

    def drain(self) -> Deferred[None]:
        """Deliver what waits; fires when that is done."""
        draining = [hook.delivery.drain() for hook in self._hooks]
        return DeferredList(draining, consumeErrors=True).addCallback(lambda _: None)

    def stop(self) -> Deferred[None]:
        """Deliver nothing any more; fires when all connections are closed."""
        for hook in self._hooks:
            hook.delivery.stop()
        return self._http.close()

    # ── what is shown ────────────────────────────────────────────────────────────────────────────────────────────────

    def respond(self, _request: Request) -> Response:
        """Tell how hooks do, and what could not be delivered: ``GET /api/v1/hooks``."""
        letters = [
            {
                "hook": number,
                "event": describe_event(letter.event),
                "attempts": letter.attempts,
                "error": letter.error,
                "time": rfc3339(letter.time_ms),
            }
            for number, hook in enumerate(self._hooks, 1)
            for letter in hook.delivery.dead_letters
        ]
        hooks = [_describe(number, hook) for number, hook in enumerate(self._hooks, 1)]
        return json_response({"hooks": hooks, "deadLetters": letters})

    def metrics(self) -> Iterator[Metric]:
        """For a scrape."""
        events = CounterMetricFamily(
            "rapidrtmp_hook_events_total", "Events by hook and by what became of them", labels=["hook", "result"]
        )
        retried = CounterMetricFamily(
            "rapidrtmp_hook_retries_total", "Attempts to deliver an event after the first one", labels=["hook"]
        )
        waiting = GaugeMetricFamily(
            "rapidrtmp_hook_waiting_events", "Events that are not delivered yet", labels=["hook"]
        )
        for number, hook in enumerate(self._hooks, 1):
            delivery, label = hook.delivery, str(number)
            events.add_metric([label, "delivered"], delivery.delivered)
            events.add_metric([label, "dead"], delivery.dead)
            retried.add_metric([label], delivery.retried)
            waiting.add_metric([label], delivery.waiting)
        yield from (events, retried, waiting)


def _target(settings: HookSettings) -> str:
    """What a hook leads to, without what may be a secret: who logs in there, and the query."""
    if settings.exec:
        return settings.exec[0]
    parts = urlsplit(settings.url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _describe(number: int, hook: _Hook) -> dict[str, object]:
    settings, delivery = hook.settings, hook.delivery
    return {
        "hook": number,
        "kind": "exec" if settings.exec else "webhook",
        "target": _target(settings),
        "format": settings.format,
        "events": list(settings.events),
        "waiting": delivery.waiting,
        "delivered": delivery.delivered,
        "retried": delivery.retried,
        "deadLetters": delivery.dead,
        "lastError": delivery.last_error or None,
    }
