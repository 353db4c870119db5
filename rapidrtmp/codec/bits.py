"""
Fields smaller than a byte: what codec configurations are made of.

H.264, HEVC and AAC all write their headers as a string of bits, most significant first, some of a fixed width and some
as Exp-Golomb codes. The readers in ``codec/`` name those fields as the specifications do (``u``, ``ue``, ``se``).
"""

from __future__ import annotations

from rapidrtmp.errors import MediaError

__all__ = ["BitReader", "add_emulation_prevention", "remove_emulation_prevention"]

#: The widest Exp-Golomb code that H.264 and HEVC use stands for 2**32 - 2: 31 zeros before the first one.
_MAX_LEADING_ZEROS = 31


class BitReader:
    """
    Takes bit fields off the front of ``data``.

    Every method raises :exc:`MediaError` when the data ends before the field does; the reader is then spent.
    """

    __slots__ = ("_data", "_position", "_size")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._size = len(data) * 8
        self._position = 0

    @property
    def bits_left(self) -> int:
        """How many bits have not been taken yet."""
        return self._size - self._position

    def u(self, width: int) -> int:
        """The next ``width`` bits (0 or more) as an unsigned number: ``u(n)``."""
        start, end = self._position, self._position + width
        if end > self._size:
            raise MediaError(f"field of {width} bits at bit {start}, but only {self._size} bits are there")
        self._position = end
        last_byte = (end + 7) >> 3
        window = int.from_bytes(self._data[start >> 3 : last_byte], "big")
        return window >> (last_byte * 8 - end) & ((1 << width) - 1)

    def flag(self) -> bool:
        """The next bit as a claim: ``u(1)``."""
        return self.u(1) == 1

    def ue(self) -> int:
        """
        The next unsigned Exp-Golomb code, ``ue(v)``: 0..2**32 - 2 (H.264, 9.1).

        :raises MediaError: also if the code is wider than any that the specifications allow.
        """
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > _MAX_LEADING_ZEROS:
                raise MediaError(f"Exp-Golomb code with more than {_MAX_LEADING_ZEROS} zeros at bit {self._position}")
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        """The next signed Exp-Golomb code, ``se(v)``: 0, 1, -1, 2, -2 and so on (H.264, 9.1.1)."""
        code = self.ue()
        return (code + 1) >> 1 if code & 1 else -(code >> 1)


def remove_emulation_prevention(nal: bytes) -> bytes:
    """
    The bits of a NAL unit as the encoder meant them (H.264, 7.4.1; HEVC, 7.4.2).

    Inside a NAL unit a byte 03 keeps apart two zeros and what follows, so that no start code appears by accident;
    it is not part of the data. Any bytes are taken; nothing is raised.
    """
    return nal.replace(b"\0\0\3", b"\0\0")


def add_emulation_prevention(raw: bytes) -> bytes:
    """The other way round: bits as they have to stand in a NAL unit."""
    nal, zeros = bytearray(), 0
    for byte in raw:
        if zeros == 2 and byte <= 3:
            nal.append(3)
            zeros = 0
        nal.append(byte)
        zeros = 0 if byte else zeros + 1
    return bytes(nal)
