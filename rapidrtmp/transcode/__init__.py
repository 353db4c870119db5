"""Ladders: other sizes of a stream's picture, made by a transcoder and cut where the source is cut."""
