"""A value for every setting, as text, that is not its default."""

from __future__ import annotations

from rapidrtmp.settings.model import Setting

__all__ = ["another_value"]

SAMPLES = {"_ms": "77m", "_s": "77m", "_bytes": "77M"}
SPECIAL = {
    "server.rtmp": "tcp:7 tcp:8",
    "server.http": "tcp:7 tcp:8",
    "server.manage": "tcp:7 tcp:8",
    "server.trust_own_user": "false",
    "server.sinks": "hls hls:window=5",
    "server.auth": "open",
    "server.play": "token",
    "server.transcoder": "ffmpeg",
    "rtmp.app_aliases": "old/studio=live",
    "server.log_format": "json",
    "server.log_level": "warn",
    "server.on_stop": "end",
    "cluster.when_down": "accept",
    "server.metrics_stream_labels": "true",
    "storage.spec": "memory:",
    "server.api_token": "text",
    "server.public_names": "hashed",
    "server.public_rtmp": "text",
    "server.public_http": "https://watch.example.org",
    "tokens.secret_file": "text",
    "hls.segment": "4s",
    "live.play_enhanced": "declared",
    "live.play_gops": "2",
    "hls.part": "1s",
    "http.trusted_proxies": "10.0.0.0/8 unix",
    "server.proxy_protocol": "10.0.0.0/8 unix",
    "http.open_metrics": "true",
    "http.access_log": "true",
}


def another_value(setting: Setting) -> str:
    """Text that the environment may say of a setting."""
    return SPECIAL.get(setting.name) or SAMPLES.get(setting.kind.suffix, "77")
