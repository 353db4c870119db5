"""
Reading the configuration again while the server runs: at ``SIGHUP``, and over HTTP.

What is read is first checked as at a start; a file that is wrong changes nothing. Then it is followed as far as that is
possible, and the answer says of each key what becomes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.http.openapi_parts import INCOMPLETE, Json, content, object_of, operation, ref
from rapidrtmp.http.params import read_json_object, read_text, rfc3339
from rapidrtmp.interfaces import (
    Audience,
    BadRequestError,
    Contribution,
    ContributionContext,
    IContributes,
    Outcome,
    Request,
    Response,
    Route,
    json_response,
)
from rapidrtmp.server.certificates import Certificates, Renewal
from rapidrtmp.server.configuration import Configuration, check_settings
from rapidrtmp.settings.model import Settings
from rapidrtmp.settings.sources import Loaded

__all__ = ["DIFF_PATH", "RELOAD_PATH", "Reloading"]

CONFIGURATION_PATH = "/api/v1/config"
RELOAD_PATH, DIFF_PATH = "/api/v1/reload", "/api/v1/config/diff"
#: Between two reloads that signals ask for.
HANG_UP_S = 1.0
#: What each outcome is called in JSON.
_NAMES = {
    Outcome.APPLIED: "applied",
    Outcome.FOR_NEW_STREAMS: "forNewStreams",
    Outcome.NEEDS_RESTART: "needsRestart",
}

Outcomes = Mapping[str, Outcome]


class Reloaded(NamedTuple):
    """
    What a reload has come to.

    :ivar outcomes: what becomes of each key that differs from what was in force.
    :ivar renewals: what became of the certificates of encrypted doors.
    """

    outcomes: Outcomes
    renewals: Sequence[Renewal]


@implementer(IContributes)
class Reloading:
    """
    Reloads the configuration of a server, one after the other if it is asked for again meanwhile.

    :param configuration: where it comes from.
    :param follow: has the server follow new settings; the Deferred fails with ``ConfigurationError``.
    :param compare: what would become of each key.
    :param certificates: those of the encrypted doors, whose files are read again as well.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        configuration: Configuration,
        follow: Callable[[Settings], Deferred[Outcomes]],
        compare: Callable[[Settings], Outcomes],
        certificates: Certificates,
    ) -> None:
        self._reactor = reactor
        self._configuration = configuration
        self._followed: Loaded | None = None
        self._follow = follow
        self._compare = compare
        self._certificates = certificates
        self._lock = DeferredLock()
        self._hang_up: IDelayedCall | None = None
        self._hung_up_s = float("-inf")

    def reload(self) -> Deferred[Reloaded]:
        """
        Read the configuration again, and follow it; then the certificates.

        :returns: a Deferred of the caller's own. It fails with ``ConfigurationError``, and nothing has changed.
        """
        waiter: Deferred[Reloaded] = Deferred()
        work = self._lock.run(lambda: Deferred.fromCoroutine(self._reload()))
        work.addBoth(_hand_over, waiter)  # which may have been cancelled: the work is not
        return waiter

    async def _reload(self) -> Reloaded:
        loaded = self._configuration.load()
        settings = loaded.settings
        check_settings(self._reactor, settings, self._certificates.descriptions)
        outcomes = await self._follow(settings)
        self._followed = loaded
        changes = [f"{outcome.value}: {', '.join(keys)}" for outcome in Outcome if (keys := _keys(outcomes, outcome))]
        self._log.info("reloaded the configuration: {changes}", changes="; ".join(changes) or "nothing has changed")
        return Reloaded(outcomes, self._certificates.reload())

    def hang_up(self) -> None:
        """
        Reload, as a signal asks for it: what is wrong is a line in the log. Signals within :data:`HANG_UP_S` of a
        reload are one, which follows when that time is over.
        """
        if self._hang_up is None or not self._hang_up.active():
            now_s = self._reactor.seconds()
            due_s = max(now_s, self._hung_up_s + HANG_UP_S)
            self._hang_up = self._reactor.callLater(due_s - now_s, self._reload_and_log)

    def stop(self) -> None:
        """Reload no more."""
        if self._hang_up is not None and self._hang_up.active():
            self._hang_up.cancel()

    def _reload_and_log(self) -> None:
        self._hung_up_s = self._reactor.seconds()

        def failed(failure: Failure) -> None:
            if failure.check(ConfigurationError):
                self._log.error("the configuration is not reloaded, nothing changes: {error}", error=failure.value)
            else:
                self._log.failure("internal error in reloading the configuration", failure)

        self.reload().addErrback(failed)

    # ── over HTTP ────────────────────────────────────────────────────────────────────────────────────────────────────

    def contribute(self, _context: ContributionContext) -> Contribution:
        """See :meth:`IContributes.contribute <rapidrtmp.interfaces.IContributes.contribute>`."""
        self._followed = self._configuration.load()  # as the server, which is being made, has just done
        return Contribution(
            routes=[
                Route("GET", CONFIGURATION_PATH, Audience.MANAGEMENT, self._respond_configuration),
                Route("POST", RELOAD_PATH, Audience.MANAGEMENT, self._respond),
                Route("POST", DIFF_PATH, Audience.MANAGEMENT, self._respond_diff),
            ],
            paths=_paths(),
            schemas=_schemas(),
        )

    def _respond_configuration(self, _request: Request) -> Response:
        """Show the configuration that is followed, without secrets: ``GET /api/v1/config``."""
        return json_response({"text": self._followed.render() if self._followed is not None else ""})

    def _respond(self, _request: Request) -> Deferred[Response]:
        """
        Reload: ``POST /api/v1/reload``. The Deferred fails with ``BadRequestError``: the configuration is wrong.
        """

        def failed(failure: Failure) -> Response:
            failure.trap(ConfigurationError)
            raise BadRequestError(str(failure.value)) from failure.value

        return self.reload().addCallbacks(_answer_reload, failed)

    def _respond_diff(self, request: Request) -> Response:
        """
        Tell what another file would change: ``POST /api/v1/config/diff {toml, file?}``.

        :raises BadRequestError: the body is not as described, or the file is wrong.
        """
        fields = read_json_object(request)
        text = read_text(fields, "toml")
        name = read_text(fields, "file") if "file" in fields else "the file"
        try:
            settings = self._configuration.load_text(text, name).settings
            check_settings(self._reactor, settings, self._certificates.descriptions)
        except ConfigurationError as error:
            raise BadRequestError(str(error)) from error
        return _answer(self._compare(settings))


def _hand_over(result: Any, waiter: Deferred[Any]) -> None:
    if not waiter.called:
        waiter.callback(result)
    elif isinstance(result, Failure):
        result.trap(ConfigurationError, CancelledError)


def _keys(outcomes: Outcomes, wanted: Outcome) -> list[str]:
    return [name for name, outcome in outcomes.items() if outcome is wanted]


def _answer(outcomes: Outcomes) -> Response:
    return json_response(_named(outcomes))


def _answer_reload(reloaded: Reloaded) -> Response:
    certificates = {"certificates": [_renewal(each) for each in reloaded.renewals]} if reloaded.renewals else {}
    return json_response({**_named(reloaded.outcomes), **certificates})


def _named(outcomes: Outcomes) -> Json:
    return {name: _keys(outcomes, outcome) for outcome, name in _NAMES.items()}


def _renewal(renewal: Renewal) -> Json:
    error = {"error": renewal.error} if renewal.error else {}
    return {
        "door": renewal.door,
        "port": renewal.port,
        "file": str(renewal.file),
        "changed": renewal.changed,
        "expiresAt": rfc3339(int(renewal.expires_s) * 1000),
        **error,
    }


def _paths() -> Json:
    meaning, errors = "What becomes of each key that differs.", (400, 413)
    answer = {"200": content(meaning, "ConfigDiffAnswer")}
    reloaded = {"200": content(f"{meaning} With encrypted doors, also of their certificates.", "ReloadAnswer")}
    body = {"required": True, "content": {"application/json": {"schema": ref("ConfigDiffRequest")}}}
    reload = operation("reloadConfiguration", "Read the configuration file again", reloaded, errors, management=True)
    diff = operation(
        "compareConfiguration",
        "Say what another configuration file would change",
        answer,
        errors,
        management=True,
        requestBody=body,
    )
    shown = operation(
        "getConfiguration",
        "Show the configuration that is followed, as `--check-config` does: each value with its source, no secrets",
        {"200": content("The configuration.", "Configuration")},
        (),
        management=True,
    )
    return {CONFIGURATION_PATH: {"get": shown}, RELOAD_PATH: {"post": reload}, DIFF_PATH: {"post": diff}}


def _schemas() -> Json:
    keys = {"type": "array", "items": {"type": "string"}}
    text = {"type": "string"}
    outcomes = dict.fromkeys(_NAMES.values(), keys)
    certificate = object_of(
        {
            "door": {"enum": ["rtmp", "http", "manage"]},
            "port": {"type": "integer"},
            "file": text,
            "changed": {"type": "boolean", "description": "Whether new connections get another certificate."},
            "expiresAt": {**text, "format": "date-time"},
            "error": {**text, "description": "Why the files could not be used; the old certificate stays."},
        },
        ("error",),
    )
    return {
        "Configuration": object_of({"text": {**text, "description": "Lines of TOML."}}),
        "ConfigDiffAnswer": object_of(outcomes),
        "ReloadAnswer": object_of(
            {**outcomes, "certificates": {"type": "array", "items": certificate}, "incomplete": INCOMPLETE},
            ("certificates", "incomplete"),
        ),
        "ConfigDiffRequest": object_of(
            {"toml": {**text, "description": "The file."}, "file": {**text, "description": "Its name."}}, ("file",)
        ),
    }
