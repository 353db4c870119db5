"""
What the server says in commands: the bodies of ``_result``, ``_error``, ``onStatus`` and the Flash-era notices.

Every refusal carries a ``description``: FFmpeg shows it to the user, and waits for ever when an ``_error`` lacks it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rapidrtmp.rtmp.amf import Value
from rapidrtmp.rtmp.amf0 import write_values

__all__ = [
    "enhanced_properties",
    "read_capabilities",
    "write_connect_success",
    "write_error",
    "write_fc_notice",
    "write_reconnect_request",
    "write_result",
    "write_status",
]

_CAN_FORWARD: Final = 4  # neither decoded nor encoded here
#: What ``capsEx`` declares (Enhanced RTMP v2, "NetConnection connect"), bit by bit.
CAN_RECONNECT, _MULTITRACK, _MOD_EX, _TIMESTAMP_NANO = 1, 2, 4, 8
_CAPABILITIES: Final = CAN_RECONNECT | _MULTITRACK | _MOD_EX | _TIMESTAMP_NANO

CONNECT_SUCCESS = "NetConnection.Connect.Success"
CONNECT_REJECTED = "NetConnection.Connect.Rejected"
INVALID_APP = "NetConnection.Connect.InvalidApp"
APP_SHUTDOWN = "NetConnection.Connect.AppShutdown"
CONNECT_CLOSED = "NetConnection.Connect.Closed"
RECONNECT_REQUEST = "NetConnection.Connect.ReconnectRequest"
CALL_FAILED = "NetConnection.Call.Failed"
ADVICE = "NetStream.Publish.Advice"
PUBLISH_START = "NetStream.Publish.Start"
PUBLISH_BAD_NAME = "NetStream.Publish.BadName"
UNPUBLISH_SUCCESS = "NetStream.Unpublish.Success"
PLAY_START = "NetStream.Play.Start"
PLAY_RESET = "NetStream.Play.Reset"
PLAY_STOP = "NetStream.Play.Stop"
PLAY_FAILED = "NetStream.Play.Failed"
PAUSE_NOTIFY = "NetStream.Pause.Notify"
UNPAUSE_NOTIFY = "NetStream.Unpause.Notify"
SEEK_FAILED = "NetStream.Seek.Failed"
PLAY_UNPUBLISH_NOTIFY = "NetStream.Play.UnpublishNotify"
PLAY_STREAM_NOT_FOUND = "NetStream.Play.StreamNotFound"


def enhanced_properties(video: Sequence[str], audio: Sequence[str]) -> dict[str, Value]:
    """
    What to tell clients of Enhanced RTMP when they connect: exactly the codecs that come out at the other end, and what
    else is understood: several tracks, ModEx with nanoseconds; and that they may be asked to connect again.

    :param video: their FourCCs; likewise ``audio``.
    """
    return {
        "fourCcList": [*video, *audio],
        "videoFourCcInfoMap": dict.fromkeys(video, _CAN_FORWARD),
        "audioFourCcInfoMap": dict.fromkeys(audio, _CAN_FORWARD),
        "capsEx": _CAPABILITIES,
    }


def read_capabilities(properties: Mapping[str, Value]) -> int:
    """The bits of ``capsEx`` in what a client says of itself; 0 where there are none, or no whole number."""
    value = properties.get("capsEx")
    is_whole = isinstance(value, float) and value.is_integer() and 0 <= value < 2**32
    return int(value) if is_whole else 0  # type: ignore[arg-type]


def write_reconnect_request(description: str, tc_url: str) -> bytes:
    """The request to connect again (Enhanced RTMP v2, "Reconnect Request"): to ``tc_url``, or where the client is."""
    information = _information("status", RECONNECT_REQUEST, description)
    return write_values("onStatus", 0, None, information | ({"tcUrl": tc_url} if tc_url else {}))


def write_connect_success(transaction: float, properties: Mapping[str, Value]) -> bytes:
    """The answer to connect; clients differ in which of its two objects they look for Enhanced RTMP."""
    enhanced = dict(properties)
    server: dict[str, Value] = {"fmsVer": "FMS/3,0,1,123", "capabilities": 31, "mode": 1}
    info = _information("status", CONNECT_SUCCESS, "Connection succeeded.") | {"objectEncoding": 0}
    return write_values("_result", transaction, server | enhanced, info | enhanced)


def write_result(transaction: float, result: Value = None) -> bytes:
    """The answer to any other command: null, and ``result``."""
    return write_values("_result", transaction, None, result)


def write_error(transaction: float, code: str, description: str) -> bytes:
    """The answer to a command that failed."""
    return write_values("_error", transaction, None, _information("error", code, description))


def write_status(level: str, code: str, description: str) -> bytes:
    """News of a message stream, on that message stream: ``level`` is ``status``, ``warning`` or ``error``."""
    return write_values("onStatus", 0, None, _information(level, code, description))


def write_fc_notice(name: str, code: str, description: str) -> bytes:
    """``onFCPublish`` or ``onFCUnpublish``, which clients that say FCPublish wait for."""
    return write_values(name, 0, None, {"code": code, "description": description})


def _information(level: str, code: str, description: str) -> dict[str, Value]:
    return {"level": level, "code": code, "description": description}
