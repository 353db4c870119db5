"""The HLS packager: where to cut, what the playlist says, and the sink that does both."""
