"""
Every contract a third party can implement, and the values that pass through it.

A plugin is chosen by a spec such as ``hls:segment=2:window=10``. Its name leads, through an entry in
``rapidrtmp.plugins``, to a *factory class* that is called with the arguments of the spec (strings; ``-`` in a name
reads as ``_``). What that returns provides ``ISinkFactory``, ``IStorageFactory`` or ``IAuthenticatorFactory`` and
lives as long as the server does; it makes the working objects. A wrong argument raises ``ConfigurationError`` (a
``ValueError`` or ``TypeError`` serves too) and stops the start with one line.

All methods are called from the reactor thread unless they say otherwise.
"""

from __future__ import annotations

from rapidrtmp.interfaces.applications import AppLimits, IApplication
from rapidrtmp.interfaces.auth import (
    AuthenticatorContext,
    IAuthenticator,
    IAuthenticatorFactory,
    ITokenIssuer,
    PublishRequest,
    Verdict,
)
from rapidrtmp.interfaces.contributions import (
    Command,
    Contribution,
    ContributionContext,
    IContributes,
    IContributesCommands,
    ILiveStream,
    IStreams,
)
from rapidrtmp.interfaces.events import Event, EventType, IEventListener, IEventLog, RecordEvent, no_event
from rapidrtmp.interfaces.http import (
    NO_STORE,
    Audience,
    BadRequestError,
    ConflictError,
    HttpError,
    Request,
    Response,
    Route,
    StreamedResponse,
    UnavailableError,
    json_response,
)
from rapidrtmp.interfaces.packaging import Constants, Cutting, IPartSink, Part, Sample, TrackRun
from rapidrtmp.interfaces.playback import (
    IMMUTABLE,
    PLAYLIST_TYPE,
    IMediaObject,
    IPlayable,
    IPlaylistVersion,
    IShelf,
    IStreamDirectory,
    IViewers,
    PlayableFacts,
    Playlist,
)
from rapidrtmp.interfaces.recordings import IRecorderFactory, RetentionRules
from rapidrtmp.interfaces.settings import DeclaredSetting, Outcome, setting
from rapidrtmp.interfaces.sinks import (
    Counter,
    Histogram,
    IFrameQueue,
    IMetricsScope,
    IRecoveringSinkFactory,
    IReplacingSinkFactory,
    IResumableSink,
    ISink,
    ISinkFactory,
    IStoringSinkFactory,
    Purpose,
    RecoveryContext,
    SinkContext,
    SpawnProcess,
)
from rapidrtmp.interfaces.storage import (
    ILeasingStorage,
    IPacedStorage,
    IStorage,
    IStorageFactory,
    IStorageRedirect,
    IStorageSpace,
    IStorageWriter,
    Lease,
    ObjectInfo,
    StorageContext,
    StoredObject,
)

__all__ = [
    "IMMUTABLE",
    "NO_STORE",
    "PLAYLIST_TYPE",
    "AppLimits",
    "Audience",
    "AuthenticatorContext",
    "BadRequestError",
    "Command",
    "ConflictError",
    "Constants",
    "Contribution",
    "ContributionContext",
    "Counter",
    "Cutting",
    "DeclaredSetting",
    "Event",
    "EventType",
    "Histogram",
    "HttpError",
    "IApplication",
    "IAuthenticator",
    "IAuthenticatorFactory",
    "IContributes",
    "IContributesCommands",
    "IEventListener",
    "IEventLog",
    "IFrameQueue",
    "ILeasingStorage",
    "ILiveStream",
    "IMediaObject",
    "IMetricsScope",
    "IPacedStorage",
    "IPartSink",
    "IPlayable",
    "IPlaylistVersion",
    "IRecorderFactory",
    "IRecoveringSinkFactory",
    "IReplacingSinkFactory",
    "IResumableSink",
    "IShelf",
    "ISink",
    "ISinkFactory",
    "IStorage",
    "IStorageFactory",
    "IStorageRedirect",
    "IStorageSpace",
    "IStorageWriter",
    "IStoringSinkFactory",
    "IStreamDirectory",
    "IStreams",
    "ITokenIssuer",
    "IViewers",
    "Lease",
    "ObjectInfo",
    "Outcome",
    "Part",
    "PlayableFacts",
    "Playlist",
    "PublishRequest",
    "Purpose",
    "RecordEvent",
    "RecoveryContext",
    "Request",
    "Response",
    "RetentionRules",
    "Route",
    "Sample",
    "SinkContext",
    "SpawnProcess",
    "StorageContext",
    "StoredObject",
    "StreamedResponse",
    "TrackRun",
    "UnavailableError",
    "Verdict",
    "json_response",
    "no_event",
    "setting",
]
