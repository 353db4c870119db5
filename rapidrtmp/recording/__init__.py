"""Recordings: written while a stream is live, recovered after a crash, listed, verified and deleted in time."""
