"""Pieces of a file as first bytes and lengths, many millions of them."""

from collections.abc import Iterator, Sequence

import numpy as np

from shared.imaging.slide.directories import Ranges


def together(pieces: Sequence[Ranges]) -> Ranges:
    """Several lists as one."""
    return np.concatenate([np.zeros((0, 2), dtype=np.uint64), *pieces])


def merged(pieces: Ranges) -> Ranges:
    """The same bytes in as few pieces as there can be, by place."""
    if not len(pieces):
        return pieces
    ordered = pieces[np.argsort(pieces[:, 0], kind="stable")]
    ends = np.maximum.accumulate(ordered.sum(axis=1))
    firsts = np.concatenate([[True], ordered[1:, 0] > ends[:-1]])
    lasts = np.concatenate([firsts[1:], [True]])
    starts = ordered[firsts, 0]
    return np.stack([starts, ends[lasts] - starts], axis=1)


def touch(one: Ranges, other: Ranges) -> bool:
    """Whether any byte is in both."""
    one, other = merged(one), merged(other)
    if not len(one) or not len(other):
        return False
    # The last piece of `other` that begins before a piece of `one` ends must end before that one begins.
    before = np.searchsorted(other[:, 0], one.sum(axis=1), side="left")
    some = before > 0
    return bool(np.any(other.sum(axis=1)[before[some] - 1] > one[some, 0]))


def blocks(pieces: Ranges, most: int) -> Iterator[tuple[int, int]]:
    """The pieces in blocks of at most `most` bytes."""
    for start, length in pieces.tolist():
        for at in range(start, start + length, most):
            yield at, min(most, start + length - at)
