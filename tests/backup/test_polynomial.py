"""Irreducible polynomials, against a slow but obvious test."""

from backup.polynomial import DEGREE, is_irreducible, random_irreducible


def product(one: int, other: int) -> int:
    result = 0
    while other:
        result ^= one if other & 1 else 0
        one, other = one << 1, other >> 1
    return result


def test_exactly_the_polynomials_without_factors_are_irreducible() -> None:
    reducible = {product(one, other) for one in range(2, 256) for other in range(2, 256)}
    for polynomial in range(2, 512):
        assert is_irreducible(polynomial) == (polynomial not in reducible), bin(polynomial)


def test_zero_and_one_are_not_irreducible() -> None:
    assert not is_irreducible(0)
    assert not is_irreducible(1)


def test_polynomials_that_restic_uses_are_irreducible() -> None:
    assert is_irreducible(0x3DA3358B4DC173)
    assert is_irreducible(0x25B468838DCB75)


def test_random_ones_are_irreducible_of_degree_53_and_differ() -> None:
    found = {random_irreducible() for _ in range(20)}
    assert len(found) == 20
    assert all(polynomial.bit_length() - 1 == DEGREE == 53 and is_irreducible(polynomial) for polynomial in found)
