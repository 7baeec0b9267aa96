"""BMP files: Windows bitmap headers of 40 bytes and more, and OS/2's header of 12 bytes."""

import struct

from .picture import Picture

_OS2, _SMALLEST = 12, 36
_RGB, _RLE8, _RLE4, _BITFIELDS = 0, 1, 2, 3
# Compression: allowed bits per pixel.
_BITS = {_RGB: (1, 4, 8, 16, 24, 32), _RLE8: (8,), _RLE4: (4,), _BITFIELDS: (16, 32)}


def read(data: bytes) -> Picture:
    """Return the Picture in a BMP file's bytes."""
    file_bytes, offset, header_bytes = struct.unpack_from("<2xI4xII", data)
    if len(data) < file_bytes:
        raise ValueError("the BMP is truncated")
    if header_bytes == _OS2:
        width, height, bits = struct.unpack_from("<HH2xH", data, 18)
        compression = _RGB
    elif header_bytes >= _SMALLEST:
        width, height, bits, compression = struct.unpack_from("<ii2xHI", data, 18)
        height = abs(height)
    else:
        raise ValueError("a BMP with a header of {} bytes; 12 or at least 40 was expected".format(header_bytes))
    if bits not in _BITS.get(compression, ()):
        raise ValueError("a BMP of {} bits and compression {}, which is not supported".format(bits, compression))
    # Rows are padded to four bytes.
    if compression in (_RGB, _BITFIELDS) and offset + (max(0, width) * bits + 31) // 32 * 4 * height > len(data):
        raise ValueError("the BMP is truncated")
    return Picture(width, height, lambda: data)
