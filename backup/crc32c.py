"""CRC-32C of a long file from those of its parts: what a file's checksum becomes when some bytes of it change.

The checksum of RFC 3720: polynomial 0x1EDC6F41, reflected, all bits inverted at the start and at the end. The
arithmetic is that of polynomials over GF(2): a checksum followed by n zero bytes is multiplied by x^(8n), and what
changes in equally long data changes the checksum by a sum of such products. Checksums of data come from the library.
"""

from functools import cache

_POLYNOMIAL = 0x82F63B78
_ONE = 1 << 31
"""The polynomial 1: in reflected order the highest bit is x^0."""
_X8 = 1 << (31 - 8)
_ALL = 0xFFFFFFFF


def shifted(difference: int, count: int) -> int:
    """Tell what a difference of checksums becomes when ``count`` equal bytes follow."""
    return _times(difference, _power(count))


def padded(checksum: int, count: int) -> int:
    """Tell the checksum after ``count`` zero bytes more."""
    return shifted(checksum ^ _ALL, count) ^ _ALL


@cache
def _power(count: int) -> int:
    """Return x^(8 ``count``)."""
    if count == 0:
        return _ONE
    half = _power(count // 2)
    square = _times(half, half)
    return _times(square, _X8) if count % 2 else square


def _times(a: int, b: int) -> int:
    """Multiply two polynomials, modulo the checksum's."""
    product = 0
    while b:
        if b & _ONE:
            product ^= a
        b = b << 1 & _ALL
        a = a >> 1 ^ (_POLYNOMIAL if a & 1 else 0)
    return product
