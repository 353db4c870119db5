"""
I-frame playlists of live streams: a picture of each segment, for those who look for a moment (RFC 8216 bis, 4.4.3.6).

Nothing is made or kept for them before they are asked for. The playlist is the text of another one in other words; a
picture is cut out of the segment that begins with it. So each playlist has one beside it: that of a rung, and the long
one of a rewind window, whose segments lie in the storage (:mod:`rapidrtmp.hls.rewind.http`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Container, Hashable, Iterator

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from rapidrtmp.archive.responses import PlaylistBody, bytes_response, playlist_response, playlist_steps
from rapidrtmp.cmaf.pictures import PictureTrack, find_first_sample, picture_track, track_duration, write_picture
from rapidrtmp.errors import MediaError, NotFoundError
from rapidrtmp.hls.names import MEDIA_PLAYLIST, first_number, init_number, is_init, is_media, segment_name
from rapidrtmp.http.errors import NotYetError
from rapidrtmp.http.long_work import LongWork
from rapidrtmp.interfaces import (
    IMMUTABLE,
    Contribution,
    ContributionContext,
    IContributes,
    IPlayable,
    Playlist,
    Request,
    Response,
)
from rapidrtmp.names import I_FRAMES_PLAYLIST, StreamName, pictured

__all__ = ["Pictures", "PicturesResponder", "i_frame_text", "respond_with_playlist"]

PICTURE_TYPE, INIT_TYPE = "video/iso.segment", "video/mp4"
RETRY_S = 1
#: A playlist is compressed in pieces of so many bytes.
PIECE_BYTES = 4096
_HEAD_LINES = re.compile(rb"#EXT-X-(?:SERVER-CONTROL|PART-INF|INDEPENDENT-SEGMENTS)[^\n]*\n")
_EDGE_LINES = re.compile(rb"#EXT-X-(?:PART|PRELOAD-HINT|RENDITION-REPORT):[^\n]*\n")
_INIT = re.compile(rb'#EXT-X-MAP:URI="([^"\n]+)"')
_FIRST_IN_BODY, _ENDLIST, _GAP = b"#EXT-X-MEDIA-SEQUENCE:", b"#EXT-X-ENDLIST\n", b"#EXT-X-GAP\n"


def _is_independent(body: bytes) -> bool:
    """Whether each segment of a playlist of ours begins with a picture that can be decoded alone, as it says."""
    return b"\n#EXT-X-INDEPENDENT-SEGMENTS\n" in body[:1000]


def i_frame_text(playlist: Playlist, missing: Container[int] = ()) -> bytes:
    """
    The text of the I-frame playlist that goes with a playlist of ours.

    :param playlist: lists a complete segment at least.
    :param missing: the numbers of segments that do not begin with a keyframe.
    """
    head, first, body = playlist.body.partition(_FIRST_IN_BODY)
    if playlist.part_target_ms:
        body = _EDGE_LINES.sub(b"", body)
    body = body[: body.rfind(b".m4s\n") + len(b".m4s\n")]  # what is behind it belongs to the segment that is open
    for number in range(playlist.first_sequence, playlist.last_sequence + 1) if missing else ():
        if number in missing:
            body = _without_picture(body, segment_name(number).encode())
    body = body.replace(b"segment_", b"iframe_").replace(b'URI="init_', b'URI="iframe_init_')
    head = _HEAD_LINES.sub(b"", head) + b"#EXT-X-I-FRAMES-ONLY\n"
    return b"".join((head, first, body, _ENDLIST if playlist.ended else b""))


def _without_picture(body: bytes, name: bytes) -> bytes:
    at = body.find(b",\n" + name + b"\n")
    tag = body.rfind(b"#EXTINF:", 0, max(at, 0))
    return body if at < 0 or body.endswith(_GAP, 0, tag) else body[:tag] + _GAP + body[tag:]


async def respond_with_playlist(
    request: Request, work: LongWork, key: Hashable, playlist: Playlist, find_missing: Callable[[], Awaitable[set[int]]]
) -> Response:
    """
    Answer with the I-frame playlist that goes with a playlist of ours.

    :param work: makes it, once.
    :param key: tells the playlist from others.
    :param find_missing: finds the numbers of segments that do not begin with a keyframe; asked where there may be some.
    """
    key = "pictures", key, playlist.first_sequence, playlist.last_sequence, playlist.ended
    body: PlaylistBody | None = work.kept(key)
    if body is None:
        missing = set() if _is_independent(playlist.body) else await find_missing()
        body = await work.once(key, lambda: playlist_steps(_pieces(playlist, missing)), lambda body: body.memory_bytes)
    target_s = playlist.target_ms // 1000
    return playlist_response(request, body, f"public, max-age={target_s // 2 or 1}")


def _pieces(playlist: Playlist, missing: set[int]) -> Iterator[str]:
    text = i_frame_text(playlist, missing)
    for at in range(0, len(text), PIECE_BYTES):
        yield text[at : at + PIECE_BYTES].decode("ascii")


@implementer(IContributes)
class Pictures:
    """Brings the I-frame playlists of live streams, and what these list."""

    def contribute(self, context: ContributionContext) -> Contribution:
        """See :meth:`IContributes.contribute <rapidrtmp.interfaces.IContributes.contribute>`."""
        return Contribution(find_media=PicturesResponder(context.find_playable, LongWork(context.clock)).find)


class PicturesResponder:
    """
    Answers for what is made of a stream's shelf.

    :param find: finds streams.
    :param work: compresses playlists.
    """

    def __init__(self, find: Callable[[StreamName], IPlayable | None], work: LongWork) -> None:
        self._find = find
        self._work = work

    def find(self, request: Request, stream: StreamName, name: str) -> Deferred[Response] | None:
        """
        Answer a ``GET`` or ``HEAD`` for ``/APP/KEY/NAME``; ``None`` where nothing of that is on the shelf.

        :raises NotFoundError: the stream has no pictures, or the segment begins with none.
        """
        folder, slash, last = name.rpartition("/")
        media = pictured(last)
        if last != I_FRAMES_PLAYLIST and media is None:
            return None
        playable = self._find(stream)
        if playable is None:
            return None
        if media is None:
            return Deferred.fromCoroutine(self._playlist(request, playable, folder + slash))
        return self._media(request, playable, folder + slash, media)

    async def _playlist(self, request: Request, stream: IPlayable, folder: str) -> Response:
        version = stream.version(folder + MEDIA_PLAYLIST)
        if version is None:
            raise NotYetError(f"{stream.name} has no {folder}{MEDIA_PLAYLIST}", RETRY_S)
        playlist: Playlist = version.facts
        if not any(_track(stream, folder + uri) for uri in _inits(playlist)):
            raise NotFoundError(f"{stream.name} has no pictures")

        async def find_missing() -> set[int]:
            return _without_keyframe(stream, folder, playlist)

        if playlist.last_sequence < playlist.first_sequence:
            raise NotYetError(f"{stream.name} has no complete segment yet", RETRY_S)
        return await respond_with_playlist(request, self._work, (stream.name, folder), playlist, find_missing)

    def _media(self, request: Request, stream: IPlayable, folder: str, name: str) -> Deferred[Response] | None:
        if not is_media(name) or stream.find(folder + name) is None:
            return None
        if is_init(name):
            track = _track(stream, folder + name)
            data, content_type = track.init if track is not None else None, INIT_TYPE
        else:
            data, content_type = _picture(stream, folder, first_number(name)), PICTURE_TYPE
        if data is None:
            raise NotFoundError(f"{stream.name} has no picture of {folder}{name}")
        return succeed(bytes_response(request, data, {"Content-Type": content_type, "Cache-Control": IMMUTABLE}))


def _inits(playlist: Playlist) -> list[str]:
    """The names of the init segments that a playlist of ours lists."""
    return [uri.decode() for uri in _INIT.findall(playlist.body)]


def _track(stream: IPlayable, name: str) -> PictureTrack | None:
    """The video track of an init segment that is on the shelf."""
    stored = stream.find(name)
    try:
        return picture_track(stored.body) if stored is not None else None
    except MediaError:
        return None


def _picture(stream: IPlayable, folder: str, number: int) -> bytes | None:
    """The picture that a segment on the shelf begins with, if it begins with a keyframe."""
    version, stored = stream.version(folder + MEDIA_PLAYLIST), stream.find(folder + segment_name(number))
    if version is None or stored is None:
        return None
    inits = [uri for uri in _inits(version.facts) if init_number(uri) <= number]
    track = _track(stream, folder + inits[-1]) if inits else None
    if track is None:
        return None
    try:
        data = stored.body
        sample = find_first_sample(data, track.info)
        if sample is None or not sample.keyframe or sample.end > len(data):
            return None
        payload = data[sample.start : sample.end]
        return write_picture(track.info, sample, payload, number, track_duration(data, track.info))
    except MediaError:
        return None


def _without_keyframe(stream: IPlayable, folder: str, playlist: Playlist) -> set[int]:
    """The numbers of the segments that do not begin with a keyframe."""
    numbers = range(playlist.first_sequence, playlist.last_sequence + 1)
    return {number for number in numbers if _picture(stream, folder, number) is None}
