"""Pictures of stored media: the keyframe that a fragment begins with, read out of a storage and written anew."""

from __future__ import annotations

from rapidrtmp.cmaf.pictures import find_first_sample, picture_track, write_picture
from rapidrtmp.errors import MediaError, NotFoundError
from rapidrtmp.interfaces import IStorage

__all__ = ["read_picture"]

#: So much is read at first: the header, and mostly the picture.
FIRST_READ = 128 << 10


async def read_picture(storage: IStorage, key: str, size: int, init: bytes, number: int, duration: int) -> bytes:
    """
    The picture that an object begins with, as a fragment.

    :param size: of the object, in bytes.
    :param init: the init segment of its media.
    :param number: of the segment.
    :param duration: how long the picture is shown, in ticks.
    :raises NotFoundError: it begins with no keyframe.
    :raises StorageError: the storage failed.
    """
    try:
        track = picture_track(init)
        if track is None:
            raise NotFoundError(f"{key} has no pictures")
        data = await _read(storage, key, 0, min(size, FIRST_READ))
        sample = find_first_sample(data, track.info)
        if sample is None or not sample.keyframe or sample.end > size:
            raise NotFoundError(f"{key} begins with no keyframe")
        if sample.end > len(data):
            data += await _read(storage, key, len(data), sample.end - len(data))
        return write_picture(track.info, sample, data[sample.start : sample.end], number, duration)
    except MediaError as error:
        raise NotFoundError(f"{key} has no picture: {error}") from error


async def _read(storage: IStorage, key: str, offset: int, length: int) -> bytes:
    stored = await storage.get(key, offset, length)
    return b"".join([chunk async for chunk in stored.chunks])
