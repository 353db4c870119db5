"""
The role of a connection whose publish was accepted: its messages become frames of a live stream, and its health is
watched.

Media that is repaired or dropped is counted, and logged once of each kind; every few seconds the numbers are diagnosed,
and findings go to the log, to the encoder and to the API. A publisher that sends faster than real time is held back by
not reading it; one that exceeds its bit rate is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from rapidrtmp.interfaces import EventType, Verdict
from rapidrtmp.live.demuxer import Demuxer, Discontinuity, MediaEvent, MediaProblem, PublisherUnusable, TracksChanged
from rapidrtmp.live.encoder_texts import EncoderTexts, TextError
from rapidrtmp.live.health import (
    RELAY_TOPIC,
    Finding,
    FindingKind,
    diagnose,
    diagnose_codecs,
    diagnose_overload,
    diagnose_relays,
    diagnose_renditions,
    diagnose_sinks,
    diagnose_tracks,
    notice_of,
)
from rapidrtmp.live.stream import StreamState
from rapidrtmp.media import Frame, Track
from rapidrtmp.names import StreamName
from rapidrtmp.net.bitrate_limit import BitrateLimit
from rapidrtmp.net.low_water import NO_MARK, LowWater
from rapidrtmp.net.role import SHARED_REACTIONS, Role
from rapidrtmp.net.services import RtmpServices
from rapidrtmp.net.throttle import Throttle
from rapidrtmp.rtmp.events import AudioReceived, DataReceived, Event, MetadataReceived, PublishEnded, VideoReceived
from rapidrtmp.rtmp.session import State
from rapidrtmp.rtmp.via import find_loop, read_via
from rapidrtmp.support.clock import now_ms
from rapidrtmp.timeline.health import PublishHealth

if TYPE_CHECKING:
    from rapidrtmp.net.connection import RtmpConnection

__all__ = ["Publisher"]

DENIED = "NetStream.Publish.Denied"
#: No refusal: the same publish is welcome again.
CLOSED = "NetConnection.Connect.Closed"
_ENDED = StreamState.ENDED
#: How often the numbers are looked at.
DIAGNOSE_EVERY_MS = 5_000
#: How long after a pause of the process numbers are not taken for the encoder's.
SETTLE_MS = 60_000


class Publisher(Role):
    """
    One publish.

    :ivar peer: its network address, without the port.
    :ivar credential: what it was admitted by; see :class:`~rapidrtmp.interfaces.Verdict`.
    :ivar fingerprint: what its token is known by; ``""`` if it showed none.
    :ivar stream: where its frames go.
    :ivar session_id: tells it from all other publishes, in events.
    """

    is_pending = False

    def __init__(
        self,
        connection: RtmpConnection,
        services: RtmpServices,
        name: StreamName,
        verdict: Verdict,
        msid: int,
        fingerprint: str = "",
        via: tuple[str, ...] = (),
    ) -> None:
        """
        Claim the name.

        :param fingerprint: what its token is known by.
        :param msid: the message stream it publishes on.
        :param via: the ids of the servers that it came through.
        :raises NameTakenError: another connection publishes it.
        :raises LimitReachedError: there are too many streams.
        """
        super().__init__(connection, services)
        self.peer = connection.peer
        self.credential = verdict.credential
        self.fingerprint = fingerprint
        self.stream = stream = services.registry.claim(name, self)
        try:
            self._demuxer = Demuxer(services.timeline, stream.end_ms)
        except BaseException:  # a bug of ours: the name is free again
            services.registry.release(stream, self)
            raise
        stream.fingerprint = fingerprint
        stream.via = via
        if verdict.reconnect_s is not None:
            services.revocations.begin_session(fingerprint, str(name), verdict.reconnect_s, verdict.expires_ms)
        time_ms = now_ms(services.clock)
        self._msid = msid
        self._verdict = verdict
        self._revocations_seen = services.revocations.version
        self._waiting = connection.role
        self._has_left = False
        self._throttle = Throttle(stream.end_ms, time_ms)
        max_bitrate = _least(services.max_bitrate, services.apps[name.app].limits.max_bitrate_bps, verdict.max_bitrate)
        self._bitrate_limit = BitrateLimit(max_bitrate, connection.session.bytes_received, time_ms)
        self._low_water = LowWater()
        self._picture_sizes = self._low_water.pictures
        self._continues = bool(stream.tracks)  # another publisher was here, whose frames these do not join
        self._texts = EncoderTexts()
        self._is_over = False  # nothing more of it is taken
        self._parting_words = ""  # why it is disconnected at its next keyframe
        self._part_by_ms = 0
        self._logged: set[str] = set()
        self._last_health: PublishHealth | None = None
        self._settled_ms = self._diagnosed_ms = time_ms
        self._found: frozenset[FindingKind] = frozenset()
        self._began_ms, self._began_bytes = time_ms, connection.session.bytes_received
        self._reason = ""  # why we disconnect it
        self.session_id = token_hex(6)

    # ── what the encoder sends ───────────────────────────────────────────────────────────────────────────────────────

    def react(self, event: Event, time_ms: int) -> None:
        """Do what one event asks for."""
        kind = type(event)
        if kind is VideoReceived:
            payload: bytes = event.payload  # type: ignore[union-attr]
            self._picture_sizes.append(len(payload))
            self._feed(self._demuxer.video_received(event.timestamp, payload, time_ms))  # type: ignore[union-attr]
        elif kind is AudioReceived:
            self._feed(self._demuxer.audio_received(event.timestamp, event.payload, time_ms))  # type: ignore[union-attr]
        else:
            reaction = _REACTIONS.get(kind)
            if reaction is not None:
                reaction(self, event)

    def _metadata(self, event: MetadataReceived) -> None:
        via = read_via(event.values)
        loop = find_loop(via, self._services.server_id)
        if loop:
            self._is_over = True
            self._log.warn("{stream}: {peer} refused: {reason}", stream=self.stream.name, peer=self.peer, reason=loop)
            self.disconnect(loop)
            return
        self.stream.via = max(self.stream.via, via, key=len)
        self.stream.metadata = event.values
        self._demuxer.metadata_received(event.values)
        self.stream.announced_tracks = self._demuxer.announced_tracks

    def _data(self, event: DataReceived) -> None:
        stream = self.stream
        try:
            metadata = self._texts.read(event, stream.now_ms, now_ms(self._services.clock))
        except TextError as error:
            self._problem(MediaProblem("timed_metadata", str(error)))
            return
        if metadata is not None:
            stream.metadata_received(metadata)

    def _feed(self, events: Iterable[MediaEvent]) -> None:
        stream = self.stream
        for event in events:
            if self._is_over or stream.state is _ENDED:  # by ourselves, or by a sink, of all things
                return
            if type(event) is Frame:
                if self._parting_words and event.keyframe and event.track.id == stream.tracks[0].id:
                    self._part()
                    return
                stream.frame_received(event)
            else:
                reaction = _MEDIA_REACTIONS.get(type(event))
                if reaction is not None:
                    reaction(self, event)

    def _tracks_changed(self, event: TracksChanged) -> None:
        if self._continues:
            self._continues = False
            self.stream.discontinuity("the publisher returned")
        codecs = " + ".join(track.config.codec_string for track in event.tracks)
        self._log.info("{stream} carries {codecs}", stream=self.stream.name, codecs=codecs)
        self.stream.announced_tracks = self._demuxer.announced_tracks
        self.stream.tracks_changed(event.tracks)
        self._notify_viewers(event.tracks)

    def _discontinuity(self, event: Discontinuity) -> None:
        self.stream.discontinuity(event.reason)

    def _problem(self, problem: MediaProblem) -> None:
        """Count each; log the first of its kind."""
        self._services.metrics.media_problems_total.labels(problem.kind).inc()
        if problem.kind == "unsupported_codec":  # nothing of it will be seen or heard
            self._update_codec_finding()
        if problem.kind not in self._logged:
            self._logged.add(problem.kind)
            self._log.warn(
                "{stream}: {kind}: {detail} (further ones are counted only)",
                stream=self.stream.name,
                kind=problem.kind,
                detail=problem.detail,
            )

    def _update_codec_finding(self) -> None:
        """Say at once what is not carried, to the encoder, the API and viewers."""
        left_out = self._demuxer.left_out
        if self.stream.tracks:
            self._notify_viewers(self.stream.tracks)
        others = tuple(each for each in self.stream.findings if each.kind is not FindingKind.UNSUPPORTED_CODEC)
        found = diagnose_codecs(left_out)
        self.stream.findings = (*found, *others)
        for finding in found:
            self._report(finding)
        self._found |= {finding.kind for finding in found}

    def _notify_viewers(self, tracks: Sequence[Track]) -> None:
        """Let pages say why there is no picture, or no sound."""
        self.stream.notify_viewers(notice_of(self._demuxer.left_out, tracks))

    def _unusable(self, event: PublisherUnusable) -> None:
        self._is_over = True
        if not self.stream.tracks:
            self._notify_viewers(())
        self._log.warn("{stream}: the publisher cannot be used: {reason}", stream=self.stream.name, reason=event.reason)
        self.disconnect(event.reason)

    # ── how it goes ──────────────────────────────────────────────────────────────────────────────────────────────────

    def watch(self, time_ms: int) -> None:
        """Look at everything that time changes: the demuxer, the pace, the bit rate, the health, the permission."""
        self._feed(self._demuxer.poll(time_ms))
        if self._parting_words and time_ms >= self._part_by_ms:
            self._part()
            return
        is_settled = time_ms >= self._settled_ms
        if is_settled and self._throttle.update(self.stream.end_ms, time_ms):
            self._hold_back(self._throttle.is_holding)
        if self._low_water.update():
            self._connection.set_low_water_mark(self._low_water.mark)
        if time_ms - self._diagnosed_ms >= DIAGNOSE_EVERY_MS:
            self._diagnosed_ms = time_ms
            self._diagnose(is_settled)
        if self._bitrate_limit.is_exceeded(self._connection.session.bytes_received, time_ms):
            self._close_for_bitrate()
        elif self._bitrate_limit.is_near and "bit rate" not in self._logged:
            self._logged.add("bit rate")
            self._advise(
                f"The bit rate is above this server's limit, {self._most_bitrate}: lower it, or be disconnected."
            )
        elif self.stream.is_too_large():
            self._close_for_memory()
        else:
            self._check_permission()

    def _check_permission(self) -> None:
        """Close where the permission has expired, or was revoked."""
        services, verdict = self._services, self._verdict
        if verdict.expires_ms is not None and services.utc_ms() >= verdict.expires_ms:
            self._close_for_permission("the permission to publish has expired")
        elif services.revocations.version != self._revocations_seen:
            self._revocations_seen = services.revocations.version
            reason = services.revocations.refusal(self.stream.name, self.fingerprint, verdict.issued_ms)
            if reason:
                self._close_for_permission(reason)

    def _close_for_permission(self, reason: str) -> None:
        self._log.info(
            "{stream}: closing the connection from {peer}: {reason}",
            stream=self.stream.name,
            peer=self.peer,
            reason=reason,
        )
        self.disconnect(reason)

    def settle(self, time_ms: int) -> None:
        """For a while take late and early media for the server's doing: it did not read."""
        self._settled_ms = time_ms + SETTLE_MS

    def _hold_back(self, is_holding: bool) -> None:
        if not is_holding:
            self._connection.resume_reading()
            return
        self._connection.pause_reading()
        self._services.metrics.publishers_held_total.inc()
        if "held" not in self._logged:
            self._logged.add("held")
            self._log.warn("{stream}: sent faster than real time, holding the publisher back", stream=self.stream.name)

    @property
    def _most_bitrate(self) -> str:
        return f"{self._bitrate_limit.bits_per_second / 1_000_000:g} Mbit/s"

    def _close_for_bitrate(self) -> None:
        limit = self._most_bitrate
        self._services.metrics.publishers_over_bitrate_total.inc()
        self._log.warn(
            "{stream}: {peer} sends more than {limit}, closing the connection",
            stream=self.stream.name,
            peer=self.peer,
            limit=limit,
        )
        self.disconnect(f"the bit rate is above this server's limit, {limit}")

    def _close_for_memory(self) -> None:
        self._services.metrics.publishers_over_memory_total.inc()
        self._log.warn(
            "{stream} takes more memory than live.max_stream_bytes, closing the connection from {peer}",
            stream=self.stream.name,
            peer=self.peer,
        )
        self.disconnect("the stream takes more memory than this server allows: lower the bit rate")

    def _diagnose(self, is_settled: bool) -> None:
        health = self._demuxer.health
        findings = diagnose(health, self._last_health) if is_settled else ()
        findings = (
            *diagnose_codecs(self._demuxer.left_out),
            *findings,
            *diagnose_tracks(self.stream.tracks),
            *diagnose_renditions(self.stream.tracks, self._advice_on_renditions()),
            *diagnose_relays(self.stream.advice),
            *diagnose_sinks(self.stream.fan_out.slow),
            *diagnose_overload(self._refused_viewers()),
        )
        if not (self.stream.tracks or findings):
            return  # nothing has been sent that could be judged
        self._last_health = health
        self.stream.health, self.stream.findings = health, findings
        for finding in findings:
            if finding.kind not in self._found:
                self._report(finding)
        self._found = frozenset(finding.kind for finding in findings)

    def _refused_viewers(self) -> int:
        admission = self._services.admission
        return 0 if admission is None else admission.refused_lately(self.stream.name)

    def _advice_on_renditions(self) -> Iterable[str]:
        return (said for topic, said in self.stream.advice.items() if not topic.startswith(RELAY_TOPIC))

    def _report(self, finding: Finding) -> None:
        """Report a new finding to the log and the encoder."""
        self._services.metrics.findings_total.labels(finding.kind.value).inc()
        self._log.info("{stream}: {advice}", stream=self.stream.name, advice=finding.advice)
        self._advise(finding.advice)

    def _advise(self, advice: str) -> None:
        """Tell the encoder how its publish goes."""
        self._connection.session.advise(advice)
        self._connection.flush()

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _publish_ended(self, _event: PublishEnded) -> None:
        self.leave()
        self._connection.change_role(self._waiting)

    def leave(self) -> None:
        """Give what is held to the stream, and free the name."""
        if self._has_left:
            return
        self._has_left = True
        self._connection.set_low_water_mark(NO_MARK)
        if self._throttle.is_holding:
            self._connection.resume_reading()
        self.stream.publisher_left()
        try:
            self._feed(self._demuxer.finish())
        finally:  # whatever happens, the name is free again
            self._services.registry.release(self.stream, self)
            if self._verdict.reconnect_s is not None:
                self._services.revocations.end_session(self.fingerprint)
            self._record_end()

    def _record_end(self) -> None:
        services = self._services
        said = {
            "session": self.session_id,
            "duration": (now_ms(services.clock) - self._began_ms) / 1000,
            "bytes": self._connection.session.bytes_received - self._began_bytes,
            "reason": self._reason,
        }
        services.record(EventType.UNPUBLISH, self.stream.name, self.peer, said)

    @property
    def ended_because(self) -> str:
        """Why it was disconnected; ``""`` if it was not."""
        return self._reason

    # ── as the stream and the registry know it (``live.stream.Publisher``) ───────────────────────────────────────────

    def silent_ms(self) -> int:
        """Tell how long nothing has been received from it; one whose socket is not read is not silent."""
        return 0 if self._connection.is_paused else now_ms(self._services.clock) - self._connection.heard_ms

    def disconnect(self, reason: str) -> None:
        """Tell the encoder why, and close; the stream keeps what it has."""
        self._disconnect(DENIED, reason)

    def disconnect_at_keyframe(self, reason: str, within_ms: int) -> None:
        """
        Tell the encoder why, and close, in front of its next keyframe: what came before is a whole segment.

        An encoder that can be asked to connect again is asked at once, and has that long for it.
        """
        if self._connection.session.request_reconnect(reason):
            self._connection.flush()
        self._parting_words, self._part_by_ms = reason, now_ms(self._services.clock) + within_ms
        if not self.stream.tracks:
            self._part()

    def _part(self) -> None:
        reason, self._parting_words = self._parting_words, ""
        self._is_over = True
        self._disconnect(CLOSED, reason)

    def _disconnect(self, code: str, reason: str) -> None:
        self._reason = self._reason or reason
        if self._connection.session.state is State.PUBLISHING:
            self._connection.session.end_publish(self._msid, code, reason)
        self.leave()
        self._connection.close()


def _least(*limits: int) -> int:
    """The lowest of several limits; 0 is none."""
    return min((limit for limit in limits if limit), default=0)


_REACTIONS: Mapping[type, Callable[[Any, Any], None]] = {
    **SHARED_REACTIONS,
    MetadataReceived: Publisher._metadata,
    DataReceived: Publisher._data,
    PublishEnded: Publisher._publish_ended,
}
_MEDIA_REACTIONS: Mapping[type, Callable[[Publisher, Any], None]] = {
    TracksChanged: Publisher._tracks_changed,
    Discontinuity: Publisher._discontinuity,
    MediaProblem: Publisher._problem,
    PublisherUnusable: Publisher._unusable,
}
