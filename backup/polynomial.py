"""Polynomials over GF(2), as far as a repository's config needs them: a random irreducible one of degree 53.

restic refuses to open a repository whose ``chunker_polynomial`` is reducible. Here it is the secret from which the cut
points of files are keyed. An integer stands for a polynomial, bit n for x to the n.
"""

import secrets
from typing import Final

DEGREE: Final = 53


def random_irreducible(degree: int = DEGREE) -> int:
    """Draw irreducible polynomials uniformly: about one candidate in ``degree`` is one, so a fraction of a second."""
    while True:
        candidate = secrets.randbits(degree - 1) << 1 | 1 << degree | 1
        if is_irreducible(candidate):
            return candidate


def is_irreducible(polynomial: int) -> bool:
    """Ben-Or's test: no factor of degree i shares a root with x^(2^i) - x, for every i up to half the degree."""
    if polynomial < 0b10:
        return False
    power = 0b10
    for _ in range((polynomial.bit_length() - 1) // 2):
        power = _remainder(_square(power), polynomial)
        if _gcd(polynomial, power ^ 0b10) != 1:
            return False
    return True


def _square(polynomial: int) -> int:
    return int(f"{polynomial:b}", 4)  # squaring over GF(2) puts a zero between all bits: the same digits in base four


def _remainder(dividend: int, divisor: int) -> int:
    while (shift := dividend.bit_length() - divisor.bit_length()) >= 0:
        dividend ^= divisor << shift
    return dividend


def _gcd(one: int, other: int) -> int:
    while other:
        one, other = other, _remainder(one, other)
    return one
