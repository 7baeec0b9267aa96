"""Finds the color matrix in an H.264 stream's parameters (ITU-T H.264, 7.3.2.1.1 and E.1.1)."""

from .header import UNTAGGED

_WITH_CHROMA = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
_MOST_BYTES = 4096


class _Bits:
    """Bits of a NAL unit, first to last; ValueError after the last."""

    def __init__(self, data: bytes) -> None:
        # Emulation prevention: the third byte of 00 00 03 is not data.
        self._data = data[:_MOST_BYTES].replace(b"\0\0\3", b"\0\0")
        self._at = 0

    def take(self, count: int = 1) -> int:
        value = 0
        for at in range(self._at, self._at + count):
            if at >= 8 * len(self._data):
                raise ValueError("the parameters are truncated")
            value = value << 1 | (self._data[at >> 3] >> (7 - (at & 7)) & 1)
        self._at += count
        return value

    def unsigned(self) -> int:
        """Take an Exp-Golomb code, ue(v)."""
        zeros = 0
        while not self.take():
            zeros += 1
            if zeros > 32:
                raise ValueError("a code of more than 32 bits")
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        code = self.unsigned()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def matrix(record: bytes) -> int:
    """Return the MatrixCoefficients of an avcC record (ISO/IEC 14496-15); 2 if the stream does not say."""
    if len(record) < 8 or not record[5] & 31:
        return UNTAGGED
    length = int.from_bytes(record[6:8], "big")
    return _matrix_of_parameters(_Bits(record[9 : 8 + length]))


def _matrix_of_parameters(bits: _Bits) -> int:
    profile = bits.take(8)
    bits.take(16)
    bits.unsigned()
    if profile in _WITH_CHROMA:
        _skip_chroma(bits)
    bits.unsigned()
    order = bits.unsigned()
    if order == 0:
        bits.unsigned()
    elif order == 1:
        bits.take()
        bits.signed()
        bits.signed()
        for _ in range(min(bits.unsigned(), 255)):
            bits.signed()
    bits.unsigned()
    bits.take()
    bits.unsigned()
    bits.unsigned()
    if not bits.take():
        bits.take()
    bits.take()
    if bits.take():
        for _ in range(4):
            bits.unsigned()
    return _matrix_of_usability(bits) if bits.take() else UNTAGGED


def _skip_chroma(bits: _Bits) -> None:
    chroma = bits.unsigned()
    if chroma == 3:
        bits.take()
    bits.unsigned()
    bits.unsigned()
    bits.take()
    if bits.take():
        for number in range(12 if chroma == 3 else 8):
            if bits.take():
                _skip_scaling(bits, 16 if number < 6 else 64)


def _skip_scaling(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def _matrix_of_usability(bits: _Bits) -> int:
    if bits.take() and bits.take(8) == 255:
        bits.take(32)
    if bits.take():
        bits.take()
    if bits.take():
        bits.take(4)
        if bits.take():
            bits.take(16)
            return bits.take(8)
    return UNTAGGED
