"""RTMP 1.0 and its extensions as plain Python: bytes in, events out; no socket, no clock."""
