"""How far back viewers can go in a live stream: what is kept beyond the playlist's window."""
