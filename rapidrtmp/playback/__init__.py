"""What viewers are answered: admission, playlists, media, and the requests held for what is still to come."""
