"""Playlists of any server, ours among them: read into values, checked against the rules, written."""
