"""Recordings as the JSON objects that the API shows."""

from __future__ import annotations

from rapidrtmp.codec.table import codec_of_string
from rapidrtmp.http.params import rfc3339
from rapidrtmp.media import MediaKind
from rapidrtmp.names import MULTIVARIANT_PLAYLIST
from rapidrtmp.recording.library import Listed

__all__ = ["describe_recording"]


def describe_recording(listed: Listed) -> dict[str, object]:
    """All that is public about a recording."""
    entry = listed.entry
    id = entry.id
    codecs = {codec.kind: text for text in reversed(entry.codecs) if (codec := codec_of_string(text)) is not None}
    return {
        "app": id.app,
        "streamKey": id.key,
        "start": id.start,
        "title": listed.title,
        "state": entry.state.value,
        "protected": listed.protected,
        "startedAt": rfc3339(entry.started_ms),
        "endedAt": rfc3339(entry.ended_ms) if entry.ended_ms else None,
        "duration": entry.duration_ms / 1000,
        "size": entry.size,
        "segments": entry.segments,
        "gaps": entry.gaps,
        "videoCodec": codecs.get(MediaKind.VIDEO),
        "audioCodec": codecs.get(MediaKind.AUDIO),
        "resolution": f"{entry.width}x{entry.height}" if entry.width else None,
        "renditions": list(entry.renditions),
        "playlistUrl": f"/{id.folder}/index.m3u8",
        "masterUrl": f"/{id.folder}/{MULTIVARIANT_PLAYLIST}",
        "movieUrl": f"/{id.folder}/recording.mp4",
    }
