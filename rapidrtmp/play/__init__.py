"""Players of RTMP and FLV: one rendering of a stream for all that take the same, and a place in it for each."""
