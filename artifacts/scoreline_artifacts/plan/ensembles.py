"""Ends that are made of the ends of several estimators: votes, means, sums, one for each output or class, one upon others.

As in `ends`, each makes scikit-learn's own operations in its order, and leaves to the pipeline what rounding may decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scoreline_artifacts.plan.ends import End, Logistic, demand_lead
from scoreline_artifacts.plan.nodes import Array, Node, demand_finite


@dataclass(frozen=True, kw_only=True)
class Ensemble(End):
    """An estimator that calls others."""

    inners: tuple[End, ...]

    @property
    def inner_ends(self) -> tuple[End, ...]:
        """The estimators."""
        return self.inners


@dataclass(frozen=True, kw_only=True)
class EnsembleOfClasses(Ensemble):
    """One that may give classes."""

    labels: Array | None
    """(classes,) or None for numbers."""

    @property
    def classes(self) -> Array | None:
        """(classes,) or None."""
        return self.labels


@dataclass(frozen=True, kw_only=True)
class Voting(EnsembleOfClasses):
    """What several estimators give on average, or the class that most of them give: classifiers give indexes of `labels`."""

    weights: Sequence[float] | None
    """Of each; None: all alike."""
    is_soft: bool
    """Whether classes are chosen by the mean of their probabilities."""

    def predict_proba(self, values: Sequence[Any]) -> Array:
        """(rows, classes) float64."""
        if not self.is_soft:
            raise NotImplementedError
        probabilities = np.asarray([inner.predict_proba(values) for inner in self.inners])
        shares = np.average(probabilities, axis=0, weights=self.weights)
        demand_lead(shares)
        return shares

    def predict(self, values: Sequence[Any]) -> Array:
        """(rows,) labels or numbers."""
        if self.labels is not None and self.is_soft:
            return np.asarray(self.labels[self.predict_proba(values).argmax(axis=1)])
        answers = np.asarray([inner.predict(values) for inner in self.inners]).T
        if self.labels is None:
            return np.average(answers, axis=1, weights=self.weights)
        weights = [1.0] * len(self.inners) if self.weights is None else self.weights
        return np.asarray(self.labels[_votes(answers.T, len(self.labels), weights).argmax(axis=1)])


@dataclass(frozen=True, kw_only=True)
class Bagged(EnsembleOfClasses):
    """The mean of estimators that were fitted with samples of the rows: classifiers give indexes of `labels`."""

    is_vote: bool
    """Whether the classifiers give classes, and no probabilities."""
    is_exact: bool
    """Whether rounding is that of scikit-learn, to the last bit."""

    def predict_proba(self, values: Sequence[Any]) -> Array:
        """(rows, classes) float64."""
        classes = len(np.asarray(self.labels))
        if self.is_vote:
            answers = [inner.predict(values) for inner in self.inners]
            shares = _votes(answers, classes, [1.0] * len(answers))
        else:
            shares = np.zeros((len(values[0]), classes))
            for inner in self.inners:
                shares += inner.predict_proba(values)
        shares /= len(self.inners)
        if not self.is_exact:
            demand_lead(shares)
        return shares

    def predict(self, values: Sequence[Any]) -> Array:
        """(rows,) labels or numbers."""
        if self.labels is not None:
            return np.asarray(self.labels.take(self.predict_proba(values).argmax(axis=1)))
        return np.asarray(sum(inner.predict(values) for inner in self.inners) / len(self.inners))


@dataclass(frozen=True, kw_only=True)
class AdaBoosted(EnsembleOfClasses):
    """AdaBoost of classifiers: each adds its weight to the class that it gives, and takes of it from the others."""

    estimator: Any
    """The live, fitted estimator."""
    weights: Array

    def decision_function(self, values: Sequence[Any]) -> Array:
        """(rows,) for two classes, else (rows, classes)."""
        demand_finite(values[self.input])
        labels = np.asarray(self.labels)[:, np.newaxis]
        others = -1 / (len(labels) - 1)
        parts = (
            np.where((inner.predict(values) == labels).T, weight, others * weight)
            for inner, weight in zip(self.inners, self.weights, strict=True)
        )
        scores: Array = sum(parts) / self.weights.sum()
        if len(labels) > 2:
            return scores
        scores[:, 0] *= -1
        return np.asarray(scores.sum(axis=1))

    def predict(self, values: Sequence[Any]) -> Array:
        """(rows,) labels."""
        scores = self.decision_function(values)
        indexes = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return np.asarray(np.asarray(self.labels).take(indexes))

    def predict_proba(self, values: Sequence[Any]) -> Array:
        """(rows, classes) float64."""
        classes = len(np.asarray(self.labels))
        scores = self.decision_function(values)
        return np.asarray(self.estimator._compute_proba_from_decision(scores, classes))


@dataclass(frozen=True, kw_only=True)
class AdaBoostedNumbers(Ensemble):
    """AdaBoost of regressors: the median of what they give, by their weights."""

    weights: Array

    def predict(self, values: Sequence[Any]) -> Array:
        """(rows,) float64."""
        demand_finite(values[self.input])
        answers = np.array([inner.predict(values) for inner in self.inners]).T
        order = np.argsort(answers, axis=1)
        weights = np.cumsum(self.weights[order], axis=1, dtype=np.float64)
        is_half = weights >= 0.5 * weights[:, -1][:, np.newaxis]
        rows = np.arange(len(answers))
        return np.asarray(answers[rows, order[rows, is_half.argmax(axis=1)]])


@dataclass(frozen=True, kw_only=True)
class OneForEachOutput(Ensemble):
    """Several outputs, each by an estimator of its own."""

    def predict(self, values: Sequence[Any]) -> Array:
        """(rows, outputs) labels or numbers."""
        return np.asarray([inner.predict(values) for inner in self.inners]).T

    def predict_proba(self, values: Sequence[Any]) -> list[Array]:
        """For each output, (rows, classes) float64."""
        return [inner.predict_proba(values) for inner in self.inners]


@dataclass(frozen=True, kw_only=True)
class OneVsRest(EnsembleOfClasses):
    """A classifier of two classes for each class: the class whose classifier gives the largest score."""

    methods: tuple[str, ...]
    """The method of each that gives the score: `decision_function` or `predict_proba`."""

    def predict(self, values: Sequence[Any]) -> Array:
        """(rows,) labels."""
        scores, sizes = [], [np.ones(len(values[0]))]
        for inner, method in zip(self.inners, self.methods, strict=True):
            answer = getattr(inner, method)(values)
            scores.append(answer[:, 1] if method == "predict_proba" else np.ravel(answer))
            if isinstance(inner, Logistic) and method == "decision_function":
                sizes.append(inner.term_size(values))
            else:
                sizes.append(abs(scores[-1]))
        table = np.array(scores).T
        demand_lead(table, np.max(sizes, axis=0))
        return np.asarray(np.asarray(self.labels)[table.argmax(axis=1)])

    def predict_proba(self, values: Sequence[Any]) -> Array:
        """(rows, classes) float64."""
        shares = np.array([inner.predict_proba(values)[:, 1] for inner in self.inners]).T
        shares /= np.sum(shares, axis=1)[:, np.newaxis]
        return shares

    def decision_function(self, values: Sequence[Any]) -> Array:
        """(rows, classes)."""
        return np.array([inner.decision_function(values).ravel() for inner in self.inners]).T


@dataclass(frozen=True, kw_only=True)
class EndAnswers(Node):
    """What an estimator answers, for another one upon it."""

    end: End
    method: str
    """`predict`, `predict_proba` or `decision_function`."""
    drops_first: bool
    """Whether the first of two classes' probabilities is left out: it says nothing more."""

    def run(self, values: Sequence[Any]) -> Array:
        """(rows, numbers)."""
        answers = np.asarray(getattr(self.end, self.method)(values))
        if answers.ndim == 1:
            return answers.reshape(-1, 1)
        return answers[:, 1:] if self.drops_first else answers


@dataclass(frozen=True, kw_only=True)
class Labelled(EnsembleOfClasses):
    """A classifier that gives the index of a class in `labels`."""

    def predict(self, values: Sequence[Any]) -> Array:
        """(rows,) labels."""
        return np.asarray(np.asarray(self.labels)[self.inners[0].predict(values)])

    def predict_proba(self, values: Sequence[Any]) -> Any:
        """(rows, classes) float64."""
        return self.inners[0].predict_proba(values)

    def decision_function(self, values: Sequence[Any]) -> Any:
        """(rows,) for two classes, else (rows, classes)."""
        return self.inners[0].decision_function(values)


def _votes(answers: Sequence[Array] | Array, classes: int, weights: Sequence[float]) -> Array:
    """(rows, classes) The weights of those that give each class; each answers with the (rows,) indexes of classes."""
    votes = np.zeros((len(answers[0]), classes))
    rows = np.arange(len(votes))
    for answer, weight in zip(answers, weights, strict=True):
        votes[rows, answer] += weight
    return votes
