"""Makes ``twistd rapidrtmp`` known, and its reactor to ``-r``."""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

rapidrtmp = ServiceMaker(
    "RapidRTMP", "rapidrtmp.tap", "A live media server: RTMP in, low-latency HLS out.", "rapidrtmp"
)
lean_reactor = Reactor("rapidrtmp", "rapidrtmp.net.reactor", "epoll with a short way for reading sockets.")
