"""Every route the server has, and who may use it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

from rapidrtmp.interfaces import Audience, Route
from rapidrtmp.names import DEFAULT_APP, POSTER, BadNameError, StreamName
from rapidrtmp.playback.admission import Admission
from rapidrtmp.playback.media import MediaResponder
from rapidrtmp.web.api import Api
from rapidrtmp.web.console.pages import ConsolePages
from rapidrtmp.web.flv import FlvResponder
from rapidrtmp.web.pages import VIEWERS, Pages
from rapidrtmp.web.policy import HttpPolicy

__all__ = ["FLV_RULES", "MEDIA_RULE", "managed_stream", "management_routes", "public_routes", "routes"]

#: Playlists, segments and parts of every stream, and of its renditions that have a folder of their own.
MEDIA_RULE = "/<app>/<key>/<name>"
RENDITION_RULE = "/<app>/<key>/<rendition>/<name>"
#: A stream as FLV; with a token in the path in front of the last name, or behind the stream's.
FLV_RULES = ("/<app>/<key>.flv", "/<app>/~<token>/<key>.flv", "/<app>/<key>/index.flv")


#: What is not to be had at the public door, where the management API has one of its own.
_MANAGEMENT = (Audience.MANAGEMENT, Audience.OPEN_MANAGEMENT)


def routes(
    api: Api,
    media: MediaResponder,
    pages: Pages,
    console: ConsolePages,
    contributed: Iterable[Route],
    admission: Admission,
    policy: HttpPolicy,
    flv: FlvResponder | None = None,
) -> tuple[Route, ...]:
    """
    The table of routes, for all doors.

    :param contributed: those of plugins.
    """
    public, management, probe = Audience.PUBLIC, Audience.MANAGEMENT, Audience.PROBE
    open_management = Audience.OPEN_MANAGEMENT
    metrics = Audience.OPEN_MANAGEMENT if policy.open_metrics or policy.has_management_door else management
    return (
        Route("POST", "/api/v1/publish", management, api.publish),
        Route("POST", "/api/v1/play", management, api.play),
        Route("POST", "/api/v1/tokens/revoke", management, api.revoke),
        Route("GET", "/api/v1/streams", management, api.streams),
        Route("GET", "/api/v1/streams/<key>", management, api.stream),
        Route("GET", "/api/v1/streams/<app>/<key>", management, api.stream),
        Route("POST", "/api/v1/streams/<key>/stop", management, api.stop),
        Route("POST", "/api/v1/streams/<app>/<key>/stop", management, api.stop),
        *(
            Route("GET", f"/api/v1/streams/{name}/{what}", management, respond)
            for name in ("<key>", "<app>/<key>")
            for what, respond in (("history", api.history), (POSTER, api.poster))
        ),
        *(_seated(route, admission) for route in contributed),
        Route("GET", "/console", open_management, console.console),
        Route("GET", "/console/static/<name>", open_management, pages.static),
        Route("POST", "/console/login", open_management, console.log_in),
        Route("POST", "/console/logout", open_management, console.log_out),
        Route("POST", "/console/code", management, console.code),
        Route("GET", "/api/v1/openapi.json", Audience.OPEN_MANAGEMENT, api.openapi),
        Route("GET", "/api/ping", probe, api.ping),
        Route("GET", "/health", probe, api.health),
        Route("GET", "/ready", probe, api.ready),
        Route("GET", "/startup", probe, api.startup),
        Route("GET", "/metrics", metrics, api.metrics),
        Route("GET", "/", public, pages.index),
        Route("GET", "/favicon.ico", public, pages.icon),
        Route("GET", "/obs", public, pages.obs),
        Route("GET", "/static/<name>", public, pages.static),
        Route("GET", "/embed/<app>/<key>", public, pages.embed),
        Route("GET", "/embed/<app>/<key>/", public, pages.player_redirect),
        Route("GET", "/embed/<app>/<key>/~<token>/", public, pages.embed),
        Route("GET", "/<app>/<key>", public, pages.player),
        Route("GET", "/<app>/<key>/", public, pages.player_redirect),
        Route("GET", "/<app>/<key>/~<token>", public, pages.token_redirect),
        Route("GET", "/<app>/<key>/~<token>/", public, pages.player),
        Route("GET", "/<app>/<key>.m3u8", Audience.MEDIA, pages.playlist_redirect),
        Route("GET", f"/<app>/<key>/{VIEWERS}", Audience.MEDIA, pages.viewers),
        *(() if flv is None else (Route("GET", rule, Audience.MEDIA, flv.respond) for rule in FLV_RULES)),
        Route("GET", f"/<app>/<key>/{POSTER}", Audience.MEDIA, pages.poster),
        Route("GET", MEDIA_RULE, Audience.MEDIA, media.respond),
        Route("GET", RENDITION_RULE, Audience.MEDIA, media.respond_rendition),
    )


def public_routes(table: Iterable[Route]) -> tuple[Route, ...]:
    """Those of the public door, where the management API has one of its own."""
    return tuple(route for route in table if route.audience not in _MANAGEMENT)


def management_routes(table: Iterable[Route]) -> tuple[Route, ...]:
    """Those of the door of the management API."""
    return tuple(route for route in table if route.audience in (*_MANAGEMENT, Audience.PROBE))


def managed_stream(route: Route, names: Mapping[str, str]) -> StreamName | None:
    """The one stream that a request to the management API is about; ``None`` for the whole server."""
    if not route.rule.startswith("/api/v1/streams/<"):
        return None
    try:
        return StreamName.checked(names.get("app", DEFAULT_APP), names.get("key", ""))
    except BadNameError:
        return None  # the route says what is wrong with it, to a client that may know


def _seated(route: Route, admission: Admission) -> Route:
    """A route for viewers, which answers those who have a seat."""
    if route.audience is not Audience.VIEWERS:
        return route
    return replace(route, respond=partial(admission.recorded, route.respond))
