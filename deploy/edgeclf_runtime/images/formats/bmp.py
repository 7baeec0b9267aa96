"""BMP files: Windows bitmap headers of 40 bytes and more, and OS/2's header of 12 bytes.

Decoders expand 16 bits differently, and OpenCV ignores the places of the colors in 32 bits, so both are refused unless every
decoder agrees.
"""

import struct

from .picture import Picture, UnsupportedError

_OS2, _SMALLEST = 12, 36
_RGB, _RLE8, _RLE4, _BITFIELDS = 0, 1, 2, 3
# Compression: allowed bits per pixel.
_BITS = {_RGB: (1, 4, 8, 24, 32), _RLE8: (8,), _RLE4: (4,), _BITFIELDS: (32,)}
# The bits of red, green and blue, after the first 40 bytes of the header.
_MASKS_AT, _USUAL_MASKS = 54, (0xFF0000, 0x00FF00, 0x0000FF)


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
    if bits == 16:
        raise UnsupportedError("a BMP of 16 bits per pixel, which decoders read differently; save it with 24")
    if bits not in _BITS.get(compression, ()):
        raise ValueError("a BMP of {} bits and compression {}, which is not supported".format(bits, compression))
    if compression == _BITFIELDS and struct.unpack_from("<III", data, _MASKS_AT) != _USUAL_MASKS:
        raise UnsupportedError(
            "a BMP of 32 bits whose colors are not 8 bits each of blue, green and red; save it with 24"
        )
    # Rows are padded to four bytes.
    if compression in (_RGB, _BITFIELDS) and offset + (max(0, width) * bits + 31) // 32 * 4 * height > len(data):
        raise ValueError("the BMP is truncated")
    return Picture(width, height, lambda: data)
