"""Every route the server has, and who may use it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from rapidrtmp.interfaces import Audience, Route
from rapidrtmp.playback.admission import Seats
from rapidrtmp.web.api import Api
from rapidrtmp.web.library import LibraryPage
from rapidrtmp.web.pages import Pages
from rapidrtmp.web.policy import HttpPolicy
from rapidrtmp.web.recorded_clips import RecordedClips
from rapidrtmp.web.recordings import Recordings
from rapidrtmp.web.rewinding import RewindResponder

__all__ = ["MEDIA_RULE", "management_routes", "public_routes", "routes"]

#: Playlists, segments and parts of every stream.
MEDIA_RULE = "/<app>/<key>/<name>"


#: What is not to be had at the public door, where the management API has one of its own.
_MANAGEMENT = (Audience.MANAGEMENT, Audience.OPEN_MANAGEMENT)


def routes(
    api: Api, media: RewindResponder, pages: Pages, recordings: Recordings, seats: Seats, policy: HttpPolicy
) -> tuple[Route, ...]:
    """The table of routes, for all doors."""
    everybody, management, probe = Audience.EVERYBODY, Audience.MANAGEMENT, Audience.PROBE
    metrics = Audience.OPEN_MANAGEMENT if policy.open_metrics or policy.has_management_door else management
    return (
        Route("POST", "/api/v1/publish", management, api.publish),
        Route("GET", "/api/v1/streams", management, api.streams),
        Route("GET", "/api/v1/streams/<key>", management, api.stream),
        Route("GET", "/api/v1/streams/<app>/<key>", management, api.stream),
        Route("POST", "/api/v1/streams/<key>/stop", management, api.stop),
        Route("POST", "/api/v1/streams/<app>/<key>/stop", management, api.stop),
        *_recording_routes(recordings, seats),
        Route("GET", "/api/v1/openapi.json", Audience.OPEN_MANAGEMENT, api.openapi),
        Route("GET", "/api/ping", probe, api.ping),
        Route("GET", "/health", probe, api.health),
        Route("GET", "/ready", probe, api.ready),
        Route("GET", "/startup", probe, api.startup),
        Route("GET", "/metrics", metrics, api.metrics),
        Route("GET", "/", everybody, pages.index),
        Route("GET", "/recordings", everybody, LibraryPage(recordings.libraries, pages).respond),
        Route("GET", "/favicon.ico", everybody, pages.icon),
        Route("GET", "/static/<name>", everybody, pages.static),
        Route("GET", "/<app>/<key>", everybody, pages.player),
        Route("GET", "/<app>/<key>/", everybody, pages.player_redirect),
        Route("GET", "/<app>/<key>.m3u8", Audience.MEDIA, pages.playlist_redirect),
        Route("GET", MEDIA_RULE, Audience.MEDIA, media.respond),
    )


def public_routes(table: Iterable[Route]) -> tuple[Route, ...]:
    """Those of the public door, where the management API has one of its own."""
    return tuple(route for route in table if route.audience not in _MANAGEMENT)


def management_routes(table: Iterable[Route]) -> tuple[Route, ...]:
    """Those of the door of the management API."""
    return tuple(route for route in table if route.audience in (*_MANAGEMENT, Audience.PROBE))


def _recording_routes(recordings: Recordings, seats: Seats) -> tuple[Route, ...]:
    """What concerns recordings."""
    media, management = Audience.MEDIA, Audience.MANAGEMENT
    one = "/api/v1/recordings/<app>/<key>/<start>"
    clips = RecordedClips(recordings.libraries)
    return (
        Route("POST", "/api/v1/streams/<key>/record", management, recordings.record),
        Route("POST", "/api/v1/streams/<app>/<key>/record", management, recordings.record),
        Route("GET", "/api/v1/recordings", management, recordings.index),
        Route("GET", one, management, recordings.show),
        Route("DELETE", one, management, recordings.delete),
        Route("POST", f"{one}/protect", management, recordings.protect),
        Route("GET", "/recordings/<app>/<key>/<start>/<name>", media, partial(seats.recorded, recordings.media)),
        Route("GET", "/recordings/<app>/<key>/<name>", media, partial(seats.recorded, clips.respond)),
    )
