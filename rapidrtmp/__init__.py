"""RapidRTMP: a live media server on Twisted. RTMP in, low-latency HLS out, everything between is a plugin."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("rapidrtmp")
except PackageNotFoundError:  # imported from a checkout that was never installed
    __version__ = "0+unknown"
