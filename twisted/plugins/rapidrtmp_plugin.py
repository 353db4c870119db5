"""Makes ``twistd rapidrtmp`` known."""

from twisted.application.service import ServiceMaker

rapidrtmp = ServiceMaker(
    "RapidRTMP", "rapidrtmp.tap", "A live media server: RTMP in, low-latency HLS out.", "rapidrtmp"
)
