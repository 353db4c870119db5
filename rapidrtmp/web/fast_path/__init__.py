"""The short way of HTTP: playlists and media answered before a request object is made."""
