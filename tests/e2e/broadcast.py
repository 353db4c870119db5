"""
One broadcast for many tests: every clip is published at the same time to one server, watched to its end, and recorded.

The first test that asks makes it happen; it takes as long as the longest clip and the grace after it. What is recorded
are facts, no process outlives it, and each test is then a claim about these facts.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.e2e.ffmpeg import CLIPS, FFMPEG, Clip, Packets, every_ffmpeg, read_packets
from tests.e2e.harness import Answer, EndToEndTest, Publisher, Server, eventually, new_folder
from tests.e2e.playlists import MediaPlaylist, Segment
from tests.e2e.viewer import Version, Viewer, in_parallel

__all__ = ["Broadcast", "BroadcastClaims", "Recording", "broadcast"]

_Base = EndToEndTest if TYPE_CHECKING else object
#: Segments of a second, so that there are enough of them; a window that some clips outgrow and others do not.
SETTINGS = """
[live]
grace = "3s"
[apps.live]
sinks = ["hls:segment=1s:window=30"]
[apps.narrow]
sinks = ["hls:segment=1s:window=3"]
"""
GRACE_S = 3


@dataclass(frozen=True)
class Recording:
    """
    What became of one clip.

    :ivar versions: every version of its playlist that a viewer saw; ``delta_versions``: one that asked for updates.
    :ivar objects: what was fetched, by name.
    :ivar hinted: the answers to requests for parts that were yet to come.
    :ivar description: what the API said of it while it was live.
    :ivar pulled: the packets that FFmpeg's own HLS player was given, from the whole playlist.
    :ivar folder: a copy of its folder in the storage.
    :ivar waited_s: from the end of the publish to the end of the playlist.
    """

    clip: Clip
    versions: list[Version]
    delta_versions: list[Version]
    multivariants: list[str]
    objects: Mapping[str, Answer]
    hinted: Mapping[str, Answer]
    description: Mapping[str, Any]
    pulled: Packets
    folder: Path
    waited_s: float

    @property
    def final(self) -> MediaPlaylist:
        """The playlist at the end."""
        return self.versions[-1].playlist

    @property
    def segments(self) -> list[Segment]:
        """Every segment there was, as last listed, with all its parts."""
        return list(latest_segments(self.versions).values())

    def body(self, name: str) -> bytes:
        """The bytes of an object."""
        return self.objects[name].body

    @property
    def whole(self) -> bytes:
        """The init segment and all segments, one behind the other."""
        return self.body(self.segments[0].map_uri) + b"".join(self.body(segment.uri) for segment in self.segments)


def latest_segments(versions: list[Version]) -> dict[int, Segment]:
    """Each segment that was ever complete, by its sequence number, as the version says that first had it so."""
    found: dict[int, Segment] = {}
    for version in versions:
        for segment in version.playlist.complete:
            found.setdefault(segment.sequence, segment)
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Broadcast:
    """
    All that happened.

    :ivar recordings: by the name of the clip.
    :ivar said: everything the server has said outside the media: log, metrics, lists, pages; by where it said it.
    :ivar tokens: the secrets that must not be in there.
    :ivar complaints: what is wrong with the log, after the server has ended.
    """

    recordings: Mapping[str, Recording]
    said: Mapping[str, str]
    tokens: list[str]
    complaints: list[str]


_made: list[Broadcast | Exception] = []


def broadcast() -> Broadcast:
    """The broadcast, made when first asked for. :raises Exception: what went wrong with it, to all who ask."""
    if not _made:
        try:
            _made.append(_broadcast())
        except Exception as error:
            _made.append(error)
    if isinstance(_made[0], Exception):
        raise _made[0]
    return _made[0]


def _broadcast() -> Broadcast:
    server = Server(new_folder("broadcast"), SETTINGS)
    try:
        channels = [_Channel(server, clip, at) for at, clip in enumerate(CLIPS.values())]
        in_parallel(*(channel.run for channel in channels))
        said = {path: server.get(path).text for path in ("/metrics", "/api/v1/streams", "/", "/ready", "/live/plain")}
        for channel in channels:
            said.update(channel.said)
        server.stop()
        said["log"] = server.log
        recordings = {channel.clip.name: channel.recording for channel in channels}
        return Broadcast(recordings, said, server.tokens, server.complaints())
    except Exception as error:
        raise AssertionError(f"{error}\n── log of the server ──\n{server.log}") from error
    finally:
        server.kill()


class BroadcastClaims(_Base):
    """
    Claims about one recording of the broadcast; to be mixed into an :class:`EndToEndTest`.

    :cvar clip: the name of the clip.
    """

    clip: str

    def logs(self) -> list[str]:
        """The log of the broadcast's server, if there was a broadcast."""
        return [made.said["log"] for made in _made if isinstance(made, Broadcast)]

    @property
    def recording(self) -> Recording:
        """What became of the clip."""
        return broadcast().recordings[self.clip]


class _Channel:
    """One clip on its way through the server; ``recording`` is there after ``run``."""

    recording: Recording

    def __init__(self, server: Server, clip: Clip, number: int) -> None:
        self.clip = clip
        self.said: dict[str, str] = {}
        self._server = server
        self._app = clip.app
        self._ffmpeg = every_ffmpeg()[number % len(every_ffmpeg())]
        clip.path  # noqa: B018 - encoded now, one after the other, and not when all are publishing

    def run(self) -> None:
        """Publish and watch."""
        stream = f"{self._app}/{self.clip.name}"
        url = f"{self._server.root}/{stream}"
        viewer, delta_viewer = Viewer(url), Viewer(url, delta=True)
        publisher = Publisher(
            self._ffmpeg, self.clip.path, self._server.issue_token(self.clip.name, self._app).publish_url
        )
        try:
            for each in (viewer, delta_viewer):
                each.start()
            eventually(f"{stream} to have segments", lambda: viewer.has_segments(3))
            description = self._server.get(f"/api/v1/streams/{stream}").json()
            status = publisher.wait()
            ended_s = time.monotonic()
            viewer.result()
            waited_s = time.monotonic() - ended_s
        finally:
            publisher.kill()
        if status:
            raise AssertionError(f"{self._ffmpeg} could not publish {stream}:\n{publisher.said}")
        self.recording = Recording(
            clip=self.clip,
            versions=viewer.versions,
            delta_versions=delta_viewer.result().versions,
            multivariants=viewer.multivariants,
            objects=viewer.objects,
            hinted=viewer.hinted,
            description=description,
            pulled=read_packets(f"{url}/index.m3u8", FFMPEG),
            folder=self._copy_stored(stream),
            waited_s=waited_s,
        )
        self.said[f"description of {stream}"] = str(description)
        self.said[f"playlists of {stream}"] = "".join(viewer.multivariants) + str(viewer.versions)

    def _copy_stored(self, stream: str) -> Path:
        source = self._server.store / stream
        playlist = source / "index.m3u8"
        eventually(f"{playlist} to end", lambda: playlist.exists() and "#EXT-X-ENDLIST" in playlist.read_text())
        return Path(shutil.copytree(source, new_folder("stored") / self.clip.name))
