"""The last step of a plan: what the pipeline's estimator answers for an array, with its own operations in its order.

Labels are exact: where rounding may decide between two of them, an end raises `Unplanned`, and the pipeline decides.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scoreline_artifacts.plan.nodes import Array, Unplanned, demand_finite

CLOSE = 1e-9
"""Relative difference of two scores below which rounding may decide which of them is larger."""


@dataclass(frozen=True, kw_only=True)
class End:
    """What becomes of the last array."""

    input: int
    """The node, by index, whose value it takes."""
    way: str
    """Where the estimator stands in the pipeline, for people."""

    @property
    def classes(self) -> Array | None:
        """The labels, in the order of the probabilities; None for numbers."""
        return None

    @property
    def inner_ends(self) -> tuple[End, ...]:
        """The ends of the estimators that its estimator calls."""
        return ()

    def decision_function(self, values: Sequence[Any]) -> Any:
        """(rows,) or (rows, classes) What the estimator's decision_function returns.

        Raises:
            NotImplementedError: it has none.
            Unplanned: as for predict.
        """
        raise NotImplementedError

    def predict(self, values: Sequence[Any]) -> Any:
        """What the pipeline's predict returns.

        Raises:
            Unplanned: scikit-learn would refuse a row, or rounding may decide.
        """
        raise NotImplementedError

    def predict_proba(self, values: Sequence[Any]) -> Any:
        """(rows, classes) What the pipeline's predict_proba returns.

        Raises:
            Unplanned: as for predict.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Linear(End):
    """A number, or several, for each row: a product and a sum."""

    coef: Array
    """(width,) or (outputs, width)."""
    intercept: Array | float
    is_flat: bool = False
    """Whether the answer is (rows,) though `coef` has two dimensions."""

    def predict(self, values: Sequence[Any]) -> Any:
        """(rows,) or (rows, outputs) float64."""
        scores = _product(values[self.input], self.coef.T) + self.intercept
        return scores.ravel() if self.is_flat else scores


@dataclass(frozen=True, kw_only=True)
class Logistic(End):
    """The class of the largest score, and probabilities by a link."""

    coef: Array
    """(1, width) for two classes, else (classes, width)."""
    intercept: Array
    labels: Array
    """(classes,)."""
    link: str
    """`expit` (one-vs-rest, and two classes), `softmax`, `softmax of two` (of -score and score), or `none`."""

    @property
    def classes(self) -> Array:
        """(classes,)."""
        return self.labels

    def decision_function(self, values: Sequence[Any]) -> Array:
        """(rows,) for two classes, else (rows, classes)."""
        scores = _product(values[self.input], self.coef.T) + self.intercept
        return np.asarray(scores.reshape(-1) if scores.shape[1] == 1 else scores)

    def predict(self, values: Sequence[Any]) -> Array:
        """(rows,) labels."""
        scores = self.decision_function(values)
        demand_lead(scores, self.term_size(values))
        indexes = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return np.asarray(self.labels.take(indexes))

    def term_size(self, values: Sequence[Any]) -> Array:
        """(rows,) The largest sum of the terms' sizes: terms may cancel, and what rounding may do grows with them."""
        sizes = abs(values[self.input]) @ abs(self.coef.T) + abs(self.intercept)
        return np.asarray(sizes.max(axis=1))

    def predict_proba(self, values: Sequence[Any]) -> Array:
        """(rows, classes) float64."""
        scores = self.decision_function(values)
        if self.link == "expit":
            from scipy.special import expit

            scores = expit(scores)
            if scores.ndim == 1:
                return np.vstack([1 - scores, scores]).T
            scores /= scores.sum(axis=1).reshape(len(scores), -1)
            return np.asarray(scores)
        if self.link == "softmax of two":
            scores = np.c_[-scores, scores]
        scores -= scores.max(axis=1).reshape(-1, 1)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1).reshape(-1, 1)
        return scores


@dataclass(frozen=True, kw_only=True)
class Trees(End):
    """A tree or a forest: the mean of what its trees' leaves hold, by scikit-learn's compiled code."""

    estimator: Any
    """The live, fitted estimator; its `tree_`, or those of its `estimators_`, have the thresholds and values."""
    trees: tuple[Any, ...]
    labels: Array | None = None
    """(classes,) or None for numbers."""
    sums_vary: bool = False
    """Whether the last bits of the estimator's own sums vary: threads add up its trees in any order."""

    @property
    def classes(self) -> Array | None:
        """(classes,) or None."""
        return self.labels

    def predict_proba(self, values: Sequence[Any]) -> Array:
        """(rows, classes) float64, for trees of numbers (rows, 1)."""
        array = _as_float32(values[self.input])
        if len(self.trees) == 1 and not hasattr(self.estimator, "estimators_"):
            return np.asarray(self.trees[0].predict(array))
        total = np.zeros((len(array), 1 if self.labels is None else len(self.labels)))
        for tree in self.trees:
            total += tree.predict(array)
        total /= len(self.trees)
        if self.sums_vary and self.labels is not None:
            demand_lead(total)
        return total

    def predict(self, values: Sequence[Any]) -> Array:
        """(rows,) labels or numbers."""
        means = self.predict_proba(values)
        if self.labels is None:
            return np.asarray(means[:, 0])
        return np.asarray(self.labels.take(means.argmax(axis=1)))


@dataclass(frozen=True, kw_only=True)
class Boosted(End):
    """scikit-learn's gradient boosting: sums of trees upon a constant, by its compiled code."""

    estimator: Any
    """The live, fitted estimator; `estimators_` is (rounds, outputs) of trees."""
    start: Array
    """(1, outputs) What the sums begin with."""
    labels: Array | None = None

    @property
    def classes(self) -> Array | None:
        """(classes,) or None."""
        return self.labels

    def decision_function(self, values: Sequence[Any]) -> Array:
        """(rows,) for two classes, else (rows, classes)."""
        sums = self.sums(values)
        return sums.ravel() if sums.shape[1] == 1 else sums

    def sums(self, values: Sequence[Any]) -> Array:
        """(rows, outputs) float64."""
        array = _as_float32(values[self.input])
        sums = np.repeat(self.start, len(array), axis=0)
        stages = importlib.import_module("sklearn.ensemble._gradient_boosting").predict_stages
        stages(self.estimator.estimators_, array, self.estimator.learning_rate, sums)
        return sums

    def predict(self, values: Sequence[Any]) -> Array:
        """(rows,) labels or numbers."""
        sums = self.sums(values)
        if self.labels is None:
            return sums.ravel()
        is_two = sums.shape[1] == 1
        class_indexes = (sums.ravel() >= 0).astype(int) if is_two else sums.argmax(axis=1)
        return np.asarray(self.labels[class_indexes])

    def predict_proba(self, values: Sequence[Any]) -> Array:
        """(rows, classes) float64."""
        return np.asarray(self.estimator._loss.predict_proba(self.decision_function(values)))


@dataclass(frozen=True, kw_only=True)
class BoostedByBins(End):
    """scikit-learn's histogram gradient boosting: sums of trees that take missing values, by its compiled code."""

    estimator: Any
    """The live, fitted estimator."""
    bitsets: tuple[Array, Array]
    """The bitsets of known categories that its trees take as arguments; no column has categories."""
    labels: Array | None = None

    @property
    def classes(self) -> Array | None:
        """(classes,) or None."""
        return self.labels

    def sums(self, values: Sequence[Any]) -> Array:
        """(rows, outputs) float64."""
        array = values[self.input]
        fitted = self.estimator
        sums = np.zeros((len(array), fitted.n_trees_per_iteration_), order="F")
        sums += fitted._baseline_prediction
        array = np.asarray(array, np.float64)
        for trees in fitted._predictors:
            for output, tree in enumerate(trees):
                # Threads would share the rows, of which there are few.
                sums[:, output] += tree.predict(array, *self.bitsets, 1)
        return sums

    def decision_function(self, values: Sequence[Any]) -> Array:
        """(rows,) for two classes, else (rows, classes)."""
        sums = self.sums(values)
        return sums.ravel() if sums.shape[1] == 1 else sums

    def predict(self, values: Sequence[Any]) -> Array:
        """(rows,) labels or numbers."""
        sums = self.sums(values)
        if self.labels is None:
            return np.asarray(self.estimator._loss.link.inverse(sums.ravel()))
        is_two = sums.shape[1] == 1
        class_indexes = (sums.ravel() > 0).astype(int) if is_two else sums.argmax(axis=1)
        return np.asarray(self.labels[class_indexes])

    def predict_proba(self, values: Sequence[Any]) -> Array:
        """(rows, classes) float64."""
        return np.asarray(self.estimator._loss.predict_proba(self.sums(values)))


@dataclass(frozen=True, kw_only=True)
class BoostedByLightGbm(End):
    """LightGBM's gradient boosting: its booster on the array, without what its scikit-learn interface prepares for each call."""

    booster: Any
    """The live, fitted `lightgbm.Booster`."""
    options: Mapping[str, Any]
    """What the interface hands the booster beside the rows."""
    labels: Array | None = None

    @property
    def classes(self) -> Array | None:
        """(classes,) or None."""
        return self.labels

    def predict(self, values: Sequence[Any]) -> Array:
        """(rows,) labels or numbers."""
        if self.labels is None:
            return np.asarray(self.booster.predict(values[self.input], **self.options))
        return np.asarray(self.labels[self.predict_proba(values).argmax(axis=1)])

    def predict_proba(self, values: Sequence[Any]) -> Array:
        """(rows, classes) float64."""
        answer = np.asarray(self.booster.predict(values[self.input], **self.options))
        return np.vstack((1.0 - answer, answer)).transpose() if answer.ndim == 1 else answer


@dataclass(frozen=True, kw_only=True)
class Calibrated(End):
    """The mean of classifiers' answers, each made a probability by a curve for each class."""

    inners: tuple[End, ...]
    methods: tuple[str, ...]
    """The method of each that is called: `decision_function` or `predict_proba`."""
    curves: tuple[tuple[Any, ...], ...]
    """Of each classifier, the live, fitted curve of each class."""
    class_indexes: tuple[tuple[int, ...], ...]
    """Of each classifier, the index in `labels` of the class of each curve."""
    labels: Array

    @property
    def classes(self) -> Array:
        """(classes,)."""
        return self.labels

    @property
    def inner_ends(self) -> tuple[End, ...]:
        """The classifiers."""
        return self.inners

    def predict_proba(self, values: Sequence[Any]) -> Array:
        """(rows, classes) float64."""
        count = len(self.labels)
        mean = np.zeros((len(values[0]), count))
        for inner, method, curves, class_indexes in zip(
            self.inners, self.methods, self.curves, self.class_indexes, strict=True
        ):
            response = _response(inner, method, values)
            shares = np.zeros(mean.shape)
            for index, scores, curve in zip(class_indexes, response.T, curves, strict=True):
                shares[:, index] = _on_curve(curve, scores)
            if count == 2:
                shares[:, 0] = 1.0 - shares[:, 1]
            else:
                total = shares.sum(axis=1)[:, np.newaxis]
                shares = np.divide(
                    shares, total, out=np.full_like(shares, 1 / count), where=total != 0
                )
            shares[(shares > 1.0) & (shares <= 1.0 + 1e-5)] = 1.0
            mean += shares
        mean /= len(self.inners)
        demand_lead(mean)
        return mean

    def predict(self, values: Sequence[Any]) -> Array:
        """(rows,) labels."""
        return np.asarray(self.labels[self.predict_proba(values).argmax(axis=1)])


@dataclass(frozen=True, kw_only=True)
class Threshold(End):
    """A classifier of two classes whose answer is compared with a number."""

    inner: End
    method: str
    """The method of it that is called: `decision_function` or `predict_proba`."""
    class_index: int
    """The class whose score is compared."""
    threshold: float

    @property
    def classes(self) -> Array | None:
        """(classes,)."""
        return self.inner.classes

    @property
    def inner_ends(self) -> tuple[End, ...]:
        """The classifier."""
        return (self.inner,)

    def predict(self, values: Sequence[Any]) -> Array:
        """(rows,) labels."""
        scores = _response(self.inner, self.method, values, self.class_index)[:, 0]
        if (abs(scores - self.threshold) <= CLOSE * np.maximum(abs(scores), 1)).any():
            raise Unplanned("a score is the threshold as far as rounding can tell")
        is_reached = scores >= self.threshold
        class_indexes = np.where(is_reached, self.class_index, 1 - self.class_index)
        return np.asarray(self.inner.classes)[class_indexes]

    def predict_proba(self, values: Sequence[Any]) -> Any:
        """(rows, classes) As the classifier gives them."""
        return self.inner.predict_proba(values)


def demand_lead(scores: Array, size: Array | float = 1.0) -> None:
    """Check that rounding cannot decide which of each row's scores is the largest, or on which side of 0 the only one is.

    `scores` is (rows, classes), or (rows,) for two classes. `size` is that of the numbers that they are sums of, (rows,) or one for all.

    Raises:
        Unplanned: two of them are too close.
    """
    if scores.ndim == 1:
        lead = abs(scores)
    elif scores.shape[1] < 2:
        return
    else:
        two = np.partition(scores, -2, axis=1)[:, -2:]
        lead = two[:, 1] - two[:, 0]
    if (lead <= CLOSE * size).any():
        raise Unplanned("two classes are as likely as rounding can tell")


def _response(end: End, method: str, values: Sequence[Any], class_index: int = 1) -> Array:
    """(rows, classes) What a classifier answers scikit-learn's wrappers; of two classes (rows, 1), for the one of this index."""
    response = np.asarray(getattr(end, method)(values))
    if method == "predict_proba":
        return response[:, [class_index]] if response.shape[1] == 2 else response
    if response.ndim == 1:
        return (response if class_index == 1 else -1 * response).reshape(-1, 1)
    return response


def _on_curve(curve: Any, scores: Array) -> Array:
    """What a curve of a calibration predicts, without its checks."""
    demand_finite(scores)
    if not hasattr(curve, "f_"):
        from scipy.special import expit

        return np.asarray(expit(-(curve.a_ * scores + curve.b_)))
    scores = scores.astype(curve.X_thresholds_.dtype, copy=False)
    return np.asarray(curve.f_(np.clip(scores, curve.X_min_, curve.X_max_)).astype(scores.dtype))


@dataclass(frozen=True, kw_only=True)
class TargetEnd(End):
    """A regressor that was fitted with a transformed target: its answers are transformed back."""

    inner: End
    transformer: Any
    """The live, fitted transformer of the target."""
    is_flat: bool
    """Whether the target had one dimension."""

    @property
    def inner_ends(self) -> tuple[End, ...]:
        """The regressor."""
        return (self.inner,)

    def predict(self, values: Sequence[Any]) -> Any:
        """(rows,) or (rows, outputs)."""
        target = self.inner.predict(values)
        target = self.transformer.inverse_transform(
            target.reshape(-1, 1) if target.ndim == 1 else target
        )
        return target.squeeze(axis=1) if self.is_flat and target.shape[1:] == (1,) else target


@dataclass(frozen=True, kw_only=True)
class OpaqueEnd(End):
    """An estimator that is called, since nothing is known of what it does."""

    estimator: Any
    """The live, fitted estimator."""

    @property
    def classes(self) -> Array | None:
        """As the estimator has them."""
        return getattr(self.estimator, "classes_", None)

    def predict(self, values: Sequence[Any]) -> Any:
        """Whatever it gives."""
        return self.estimator.predict(values[self.input])

    def predict_proba(self, values: Sequence[Any]) -> Any:
        """Whatever it gives."""
        return self.estimator.predict_proba(values[self.input])

    def decision_function(self, values: Sequence[Any]) -> Any:
        """Whatever it gives."""
        return self.estimator.decision_function(values[self.input])


def _product(array: Any, coef: Array) -> Any:
    # BLAS may leave out a column whose coefficient is 0, with the NaN in it that scikit-learn refuses.
    demand_finite(array)
    return array @ coef


def _as_float32(array: Array) -> Array:
    with np.errstate(over="ignore"):
        shorter = np.ascontiguousarray(array, np.float32)
    demand_finite(shorter)
    return shorter
