"""
``rapidrtmp check URL``: plays a live stream like a player that complains about everything.

``stream`` opens a URL and follows each media playlist behind it with a ``rendition`` check, which fetches what a player
would fetch through ``fetch``, holds the playlists to ``rapidrtmp.m3u8.transitions``, the answers to ``answers`` and the
media to ``media``. What all of them find is a ``report``.
"""
