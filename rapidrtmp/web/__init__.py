"""The HTTP side: playlists and media from the shelves, the REST API, and the pages."""
