"""
One accepted publish: its messages become frames of a live stream, and somebody watches how it goes.

What is mended or dropped is counted and said once of each kind; every few seconds the numbers are diagnosed, and what
is found is told to the log, to the encoder and to whoever asks. A publisher that sends faster than real time is held
back by not reading it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from twisted.logger import Logger

from rapidrtmp.live.demuxer import (
    Demuxer,
    Discontinuity,
    MediaEvent,
    MediaProblem,
    PublisherUnusable,
    TimelinePolicy,
    TracksChanged,
)
from rapidrtmp.live.health import Finding, FindingKind, diagnose
from rapidrtmp.live.stream import LiveStream, StreamState
from rapidrtmp.media import Frame
from rapidrtmp.metrics import Metrics
from rapidrtmp.net.low_water import NO_MARK, LowWater
from rapidrtmp.net.throttle import Throttle
from rapidrtmp.timeline.health import PublishHealth

__all__ = ["Encoder", "Publication"]

#: How often the numbers are looked at.
DIAGNOSE_EVERY_MS = 5_000


class Encoder(Protocol):
    """The other end, as far as a publication talks to it."""

    def advise(self, advice: str) -> None:
        """Tell it how its publish goes."""

    def hold(self) -> None:
        """Stop reading from it."""

    def go_on(self) -> None:
        """Read from it again."""

    def wake_at(self, octets: int) -> None:
        """Read from it no sooner than so many octets are there."""

    def disconnect(self, reason: str) -> None:
        """Tell it why, and close it."""


class Publication:
    """
    One publish.

    :ivar stream: where its frames go.
    """

    _log = Logger()

    def __init__(
        self, stream: LiveStream, encoder: Encoder, metrics: Metrics, policy: TimelinePolicy, begun_ms: int
    ) -> None:
        self.stream = stream
        self._encoder = encoder
        self._metrics = metrics
        self._demuxer = Demuxer(policy, stream.end_ms)
        self._throttle = Throttle(stream.end_ms, begun_ms)
        self._low_water = LowWater()
        self._continues = bool(stream.tracks)  # another publisher was here, whose frames these do not join
        self._is_unusable = False
        self._said: set[str] = set()
        self._last_health: PublishHealth | None = None
        self._diagnosed_ms = begun_ms
        self._found: frozenset[FindingKind] = frozenset()

    @property
    def is_held(self) -> bool:
        """Whether its socket is not read at present."""
        return self._throttle.is_holding

    # ── what the encoder sends ───────────────────────────────────────────────────────────────────────────────────────

    def video_received(self, timestamp: int, payload: bytes, time_ms: int) -> None:
        """Take a video message."""
        self._low_water.picture_received(len(payload))
        self._feed(self._demuxer.video_received(timestamp, payload, time_ms))

    def audio_received(self, timestamp: int, payload: bytes, time_ms: int) -> None:
        """Take an audio message."""
        self._feed(self._demuxer.audio_received(timestamp, payload, time_ms))

    def metadata_received(self, values: Mapping[str, object]) -> None:
        """Take what the encoder says of itself."""
        self.stream.metadata = values
        self._demuxer.metadata_received(values)

    def finish(self) -> None:
        """Nothing follows: what is held goes to the stream."""
        self._encoder.wake_at(NO_MARK)
        self.stream.findings = ()
        self._feed(self._demuxer.finish())

    def _feed(self, events: Iterable[MediaEvent]) -> None:
        stream = self.stream
        for event in events:
            if stream.state is StreamState.ENDED or self._is_unusable:  # by a sink, of all things, or by ourselves
                return
            if type(event) is Frame:
                stream.frame_received(event)
            else:
                reaction = _REACTIONS.get(type(event))
                if reaction is not None:
                    reaction(self, event)

    def _tracks_changed(self, event: TracksChanged) -> None:
        if self._continues:
            self._continues = False
            self.stream.discontinuity("the publisher returned")
        codecs = " + ".join(track.config.codec_string for track in event.tracks)
        self._log.info("{stream} carries {codecs}", stream=self.stream.name, codecs=codecs)
        self.stream.tracks_changed(event.tracks)

    def _discontinuity(self, event: Discontinuity) -> None:
        self.stream.discontinuity(event.reason)

    def _problem(self, problem: MediaProblem) -> None:
        """Count each; say the first of its kind."""
        self._metrics.media_problems_total.labels(problem.kind).inc()
        if problem.kind not in self._said:
            self._said.add(problem.kind)
            self._log.warn(
                "{stream}: {kind}: {detail} (further ones are counted only)",
                stream=self.stream.name,
                kind=problem.kind,
                detail=problem.detail,
            )
            if problem.kind == "unsupported_codec":  # nothing of it will be seen or heard: the encoder should know
                self._encoder.advise(f"The {problem.detail} is not carried here: publish H.264 and AAC.")

    def _unusable(self, event: PublisherUnusable) -> None:
        self._is_unusable = True
        self._log.warn("{stream}: its publisher is unusable: {reason}", stream=self.stream.name, reason=event.reason)
        self._encoder.disconnect(event.reason)

    # ── how it goes ──────────────────────────────────────────────────────────────────────────────────────────────────

    def watch(self, time_ms: int) -> None:
        """Called every quarter of a second."""
        self._feed(self._demuxer.poll(time_ms))
        if self._throttle.update(self.stream.end_ms, time_ms):
            self._hold_or_go_on()
        if self._low_water.update():
            self._encoder.wake_at(self._low_water.mark)
        if time_ms - self._diagnosed_ms >= DIAGNOSE_EVERY_MS and self.stream.tracks:
            self._diagnosed_ms = time_ms
            self._diagnose()

    def _hold_or_go_on(self) -> None:
        if self._throttle.is_holding:
            self._encoder.hold()
            self._metrics.publishers_held_total.inc()
            if "held" not in self._said:
                self._said.add("held")
                self._log.warn("{stream} is sent faster than real time, and held back", stream=self.stream.name)
        else:
            self._encoder.go_on()

    def _diagnose(self) -> None:
        health = self._demuxer.health
        findings = diagnose(health, self._last_health)
        self._last_health = health
        self.stream.health, self.stream.findings = health, findings
        for finding in findings:
            if finding.kind not in self._found:
                self._tell(finding)
        self._found = frozenset(finding.kind for finding in findings)

    def _tell(self, finding: Finding) -> None:
        """Something new is wrong: say so where somebody may read it."""
        self._metrics.findings_total.labels(finding.kind.value).inc()
        self._log.info("{stream}: {advice}", stream=self.stream.name, advice=finding.advice)
        self._encoder.advise(finding.advice)


_REACTIONS: Mapping[type, Callable[[Publication, Any], None]] = {
    TracksChanged: Publication._tracks_changed,
    Discontinuity: Publication._discontinuity,
    MediaProblem: Publication._problem,
    PublisherUnusable: Publication._unusable,
}
