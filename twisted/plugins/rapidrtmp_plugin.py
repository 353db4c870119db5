"""Makes ``twistd rapidrtmp`` known, and its reactor to ``-r``."""

from typing import Any

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker


class Maker(ServiceMaker):
    """The server; signals do no harm from the moment in which it is chosen, before all of it is imported."""

    @property
    def options(self) -> Any:
        """The class of its options."""
        from rapidrtmp.server.signals import prepare_signals  # not for those who start something else

        prepare_signals()
        return super().options


rapidrtmp = Maker("RapidRTMP", "rapidrtmp.tap", "A live media server: RTMP in, low-latency HLS out.", "rapidrtmp")
lean_reactor = Reactor("rapidrtmp", "rapidrtmp.net.reactor", "epoll with a short way for reading sockets.")
