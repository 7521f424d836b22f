"""How likely it is that hashes of clients meet in a pool."""

from __future__ import annotations

from math import expm1


def next_meets(taken: int, size: int) -> float:
    """The chance that the first candidate of the next client is not free, where `taken` of `size` addresses are not.

    A keyed hash is as good as uniform, so it is taken / size.
    """
    return min(1.0, taken / size) if size > 0 else 1.0


def expected_meetings(clients: int, size: int) -> float:
    """How many pairs of clients have the same first candidate among `size` addresses: n (n - 1) / 2N.

    Each of the n (n - 1) / 2 pairs meets with the chance 1 / N (the birthday problem; Mitzenmacher and Upfal,
    Probability and Computing, 5.1).
    """
    return clients * (clients - 1) / (2 * size) if size > 0 else 0.0


def any_of(expected: float) -> float:
    """The chance that any pair meets where so many are expected: 1 - e^(-n (n - 1) / 2N), the birthday bound.

    The source is that of `expected_meetings`; pairs in parts of a pool that share no address are added before.
    """
    return -expm1(-expected)
