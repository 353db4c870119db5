"""Recordings: written while a stream is live, recovered after a crash, served, clipped and let go of in time."""
