"""The RTMP edge: Twisted protocols around the sans-IO session, and what becomes of its events."""
