"""Nodes of texts: how often each word of a vocabulary is in each text, and how much each word weighs.

Their values are sparse matrices: a vocabulary is too wide for anything else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from itertools import chain, repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from scoreline_artifacts.plan.nodes import Array, Node, Unplanned

WORDS = {rf"{flag}{bound}{word}{bound}": word for flag in ("(?u)", "") for bound in (r"\b", "") for word in (r"\w\w+", r"\w+")}  # fmt: skip
"""Token patterns for words, each with one that finds the same words in less time: a match is as long as it can be, so
it begins and ends at the bounds of a word anyway."""
MANY_TEXTS = 256
"""From so many on, Arrow looks words up faster than a dictionary, though it hashes the vocabulary each time."""
_BETWEEN = b"\xff"
"""Separates texts; no byte of ASCII."""


@dataclass(frozen=True, kw_only=True)
class WordCounts(Node):
    """scikit-learn's CountVectorizer: how often each term is in each text."""

    vocabulary: Mapping[str, int]
    """The column of each term."""
    width: int
    analyze: Callable[[str], Sequence[str]]
    """The terms of a text, by scikit-learn's own functions."""
    pattern: str | None
    """What a word is, where terms are single words: a key of `WORDS`. None: `analyze` is asked."""
    strips_accents: bool
    is_lowercase: bool
    stop_words: frozenset[str]
    is_binary: bool
    dtype: np.dtype[Any]

    def run(self, values: Sequence[Any]) -> Any:
        """(rows, width) csr_matrix of `dtype`, with sorted indices.

        Raises:
            Unplanned: what is given is not one text for each row.
        """
        texts = _listed(values[self.inputs[0]], len(values[0]))
        terms, lengths = self._terms(texts)
        is_known = terms >= 0
        if not is_known.all():
            rows = np.repeat(np.arange(len(texts)), lengths)
            lengths, terms = np.bincount(rows[is_known], minlength=len(texts)), terms[is_known]
        indptr = np.zeros(len(texts) + 1, np.int32)
        np.cumsum(lengths, out=indptr[1:])
        from scipy.sparse import csr_matrix

        counts = csr_matrix(
            (np.ones(len(terms), self.dtype), terms, indptr), shape=(len(texts), self.width)
        )
        counts.sum_duplicates()
        if self.is_binary:
            counts.data.fill(1)
        return counts

    def _terms(self, texts: list[str]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]:
        """(terms,) The columns of all terms, text by text, -1 for one that training did not have; and (texts,) how many each has."""
        if self.pattern is None:
            return _looked_up([*map(self.analyze, texts)], self.vocabulary)
        if not all(map(str.isascii, texts)):
            if self.strips_accents:
                return _looked_up([*map(self.analyze, texts)], self.vocabulary)
            lowered = map(str.lower, texts) if self.is_lowercase else texts
            find_words = re.compile(WORDS[self.pattern]).findall
            return _looked_up([*map(find_words, lowered)], self._words)
        # Runs of word characters between blanks. A byte that is in no text keeps the texts apart.
        spaced = _BETWEEN.join(map(str.encode, texts)).translate(self._blanked)
        if len(texts) < MANY_TEXTS or not _has_arrow():
            return _looked_up([*map(bytes.split, spaced.split(_BETWEEN))], self._encoded_words)
        return self._looked_up_by_arrow(spaced, texts)

    def _looked_up_by_arrow(
        self, spaced: bytes, texts: list[str]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]:
        import pyarrow as pa
        import pyarrow.compute as pc

        # Each text with the blank behind it, which begins no other word.
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)) + 1, out=offsets[1:])
        data = pa.py_buffer(spaced.replace(_BETWEEN, b" ") + b" ")
        spaced_texts = pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(offsets), data)
        words = pc.ascii_split_whitespace(spaced_texts)
        vocabulary, columns = self._arrow_words
        indices = pc.index_in(words.values, value_set=vocabulary).fill_null(-1).to_numpy()
        return columns[indices], np.diff(words.offsets.to_numpy())

    @cached_property
    def _words(self) -> dict[str, int]:
        """The columns of words that the pattern finds and that are no stop words."""
        is_word = re.compile(WORDS[self.pattern or ""]).fullmatch
        return {
            term: column
            for term, column in self.vocabulary.items()
            if is_word(term) and term not in self.stop_words
        }

    @cached_property
    def _encoded_words(self) -> dict[bytes, int]:
        return {word.encode(): column for word, column in self._words.items() if word.isascii()}

    @cached_property
    def _arrow_words(self) -> tuple[Any, npt.NDArray[np.int32]]:
        """The words, and the column of each, with -1 behind them."""
        import pyarrow as pa

        words = {word: column for word, column in self._words.items() if word.isascii()}
        return pa.array([*words], pa.large_string()), np.array([*words.values(), -1], np.int32)

    @cached_property
    def _blanked(self) -> bytes:
        """A table for bytes.translate that leaves words, in lower case if it is so, and blanks."""
        table = bytearray(b" " * 256)
        for code in range(128):
            character = chr(code)
            if character.isalnum() or character == "_":
                table[code] = ord(character.lower() if self.is_lowercase else character)
        table[_BETWEEN[0]] = _BETWEEN[0]
        return bytes(table)


@dataclass(frozen=True, kw_only=True)
class TfIdf(Node):
    """scikit-learn's TfidfTransformer: counts weighed by how rare a term is, and rows of length 1."""

    weights: Array | None
    """(width,) Of each term; None: all alike."""
    norm: str | None
    """`l1` or `l2`."""
    is_sublinear: bool
    """Whether the logarithm of a count, plus 1, stands for it."""

    def run(self, values: Sequence[Any]) -> Any:
        """(rows, width) csr_matrix of float64."""
        counts = values[self.inputs[0]]
        weighed = counts.astype(np.float64, copy=True)
        if self.is_sublinear:
            np.log(weighed.data, weighed.data)
            weighed.data += 1.0
        if self.weights is not None:
            weighed.data *= self.weights[weighed.indices]
        if self.norm is not None:
            from sklearn.preprocessing import normalize

            weighed = normalize(weighed, norm=self.norm, copy=False)
        return weighed


@cache
def _has_arrow() -> bool:
    return find_spec("pyarrow") is not None


def _listed(value: Any, count: int) -> list[str]:
    """(count,) Texts; of an array of one column, or what a called step gave."""
    if getattr(value, "ndim", 1) == 2 and isinstance(value, np.ndarray) and value.shape[1] == 1:
        value = value[:, 0]
    texts = np.asarray(value, object).tolist() if hasattr(value, "ndim") else value
    if not isinstance(texts, list) or len(texts) != count or set(map(type, texts)) - {str}:
        raise Unplanned("a step of texts is given something else than a text for each row")
    return texts


def _looked_up(
    terms: Sequence[Sequence[Any]], vocabulary: Mapping[Any, int]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]:
    lengths = np.fromiter(map(len, terms), np.intp, len(terms))
    columns = map(vocabulary.get, chain.from_iterable(terms), repeat(-1))
    return np.fromiter(columns, np.int32, int(lengths.sum())), lengths
