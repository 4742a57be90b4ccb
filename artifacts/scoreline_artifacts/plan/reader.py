"""Reads a fitted pipeline into a plan: its transformers become nodes, and its estimator becomes the end."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scoreline_artifacts.plan.ends import (
    Boosted,
    BoostedByBins,
    BoostedByLightGbm,
    Calibrated,
    End,
    Linear,
    Logistic,
    OpaqueEnd,
    TargetEnd,
    Threshold,
    Trees,
)
from scoreline_artifacts.plan.ensembles import (
    AdaBoosted,
    AdaBoostedNumbers,
    Bagged,
    EndAnswers,
    Labelled,
    OneForEachOutput,
    OneVsRest,
    Voting,
)
from scoreline_artifacts.plan.nodes import Array, Concat, Given, Handed, Opaque, Pick, Selected
from scoreline_artifacts.plan.plan import ScoringPlan
from scoreline_artifacts.plan.transformers import (
    BoxedInput,
    StepValue,
    TransformerReader,
    UnknownStep,
    label_of,
    library_name,
)
from scoreline_artifacts.schema import Column


class _NoPlan(Exception):
    """Raised when a pipeline has no plan."""


def read_plan(pipeline: Any, columns: Sequence[Column]) -> ScoringPlan | str:
    """The plan of a fitted pipeline for frames with these columns, or why it has none."""
    import sklearn

    config = sklearn.get_config()
    if config["transform_output"] != "default" or config["enable_metadata_routing"]:
        return "scikit-learn is configured otherwise than by default"
    reader = _Reader(columns)
    names = tuple(column.name for column in columns)
    frame = StepValue(form="frame", names=names, width=len(names))
    try:
        try:
            end = reader.end(pipeline, frame, ())
        except BoxedInput:
            reader = _Reader(columns, takes_boxed=False)
            end = reader.end(pipeline, frame, ())
    except _NoPlan as reason:
        return str(reason)
    plan = ScoringPlan(tuple(reader.nodes), end, names, tuple(reader.reasons))
    of_called_steps = (Opaque, Selected, Handed, Given, EndAnswers)
    is_called = all(isinstance(last, OpaqueEnd) for last in plan.last_ends())
    if is_called and all(isinstance(node, of_called_steps) for node in plan.nodes):
        return f"every step is called: {'; '.join(plan.opaque)}"
    return plan


class _Reader(TransformerReader):
    """Transformers and estimators: how each kind of estimator ends the plan."""

    def end(self, step: Any, value: StepValue, path: tuple[str, ...]) -> End:
        """What an estimator, or a pipeline that ends in one, makes of a value."""
        name = library_name(step)
        if name in _SEARCHES:
            return self.end(step.best_estimator_, value, path)
        if name == "sklearn.pipeline.Pipeline":
            for label, transformer in step.steps[:-1]:
                value = self.step(transformer, value, (*path, label))
            label, estimator = step.steps[-1]
            return self.end(estimator, value, (*path, label))
        if not hasattr(step, "predict"):
            raise _NoPlan("the pipeline only transforms")
        way = " → ".join((*path, label_of(step)))
        if name == "sklearn.compose._target.TransformedTargetRegressor":
            inner = self.end(step.regressor_, value, path)
            return TargetEnd(
                input=inner.input, way=way, inner=inner, transformer=step.transformer_,
                is_flat=step._training_dim == 1,
            )  # fmt: skip
        node_count, reason_count = len(self.nodes), len(self.reasons)
        try:
            if name in _ENDS:
                return _ENDS[name](self, step, value, way)
            if name in _WRAPPERS:
                return _WRAPPERS[name](self, step, value, path)
        except UnknownStep as reason:
            self.reasons[reason_count:] = [f"{way}: {reason}"]
            del self.nodes[node_count:]
        return OpaqueEnd(input=self.handed(value, way), way=way, estimator=step)

    def linear(self, step: Any, value: StepValue, way: str) -> End:
        """Linear regressors."""
        if step.coef_.dtype != np.float64:
            raise UnknownStep("it calculates with 32 bits")
        node = self.numbers(value, step, way, at_end=True, takes_wide=True)
        is_flat = type(step).__name__ in ("SGDRegressor", "PassiveAggressiveRegressor")
        return Linear(
            input=node, way=way, coef=step.coef_, intercept=step.intercept_, is_flat=is_flat
        )

    def logistic(self, step: Any, value: StepValue, way: str) -> End:
        """Linear classifiers."""
        kind, labels = type(step).__name__, step.classes_
        is_two = isinstance(labels, np.ndarray) and len(labels) == 2
        target_type = getattr(getattr(step, "_label_binarizer", None), "y_type_", "")
        if not isinstance(labels, np.ndarray) or target_type.startswith("multilabel"):
            raise UnknownStep("it has several outputs")
        if step.coef_.dtype != np.float64 or len(step.coef_) != (1 if is_two else len(labels)):
            raise UnknownStep("it calculates with 32 bits, or otherwise than by class")
        link = "none"
        if kind in ("LogisticRegression", "LogisticRegressionCV"):
            # Since scikit-learn 1.8 there is one way only.
            multi_class = getattr(step, "multi_class", "auto")
            by_class = multi_class == "ovr" or (
                multi_class in ("auto", "deprecated") and (is_two or step.solver == "liblinear")
            )
            link = "expit" if by_class else "softmax of two" if is_two else "softmax"
        elif kind == "LinearDiscriminantAnalysis":
            link = "expit" if is_two else "softmax"
        elif kind == "SGDClassifier":
            if step.loss == "modified_huber":
                raise UnknownStep("its probabilities are of another kind")
            link = "expit" if step.loss == "log_loss" else "none"
        node = self.numbers(value, step, way, at_end=True, takes_wide=True)
        return Logistic(
            input=node,
            way=way,
            coef=step.coef_,
            intercept=step.intercept_,
            labels=labels,
            link=link,
        )

    def trees(self, step: Any, value: StepValue, way: str) -> End:
        """Trees and forests."""
        if step.n_outputs_ != 1:
            raise UnknownStep("it has several outputs")
        trees = tuple(tree.tree_ for tree in getattr(step, "estimators_", [step]))
        node = self.numbers(value, step, way, at_end=True)
        labels = getattr(step, "classes_", None)
        # Of pure leaves, sums are whole numbers, and the same in any order.
        sums_vary = getattr(step, "n_jobs", None) not in (None, 1) and not all(
            np.isin(tree.value[tree.children_left < 0], (0, 1)).all() for tree in trees
        )
        return Trees(
            input=node, way=way, estimator=step, trees=trees, labels=labels, sums_vary=sums_vary
        )

    def boosted(self, step: Any, value: StepValue, way: str) -> End:
        """scikit-learn's gradient boosting."""
        is_constant = library_name(step.init_) in (
            "sklearn.dummy.DummyClassifier", "sklearn.dummy.DummyRegressor",
        )  # fmt: skip
        if not is_constant and step.init_ != "zero":
            raise UnknownStep("it begins with an estimator")
        start = np.zeros((1, step.n_trees_per_iteration_))
        if is_constant:
            from sklearn.base import is_classifier
            from sklearn.ensemble._gb import _init_raw_predictions

            row = np.zeros((1, step.n_features_in_), np.float32)
            start = _init_raw_predictions(row, step.init_, step._loss, is_classifier(step))
        node = self.numbers(value, step, way, at_end=True)
        labels = getattr(step, "classes_", None)
        return Boosted(input=node, way=way, estimator=step, start=np.asarray(start), labels=labels)

    def boosted_by_bins(self, step: Any, value: StepValue, way: str) -> End:
        """scikit-learn's histogram gradient boosting."""
        if step._preprocessor is not None:
            raise UnknownStep("it has columns of categories")
        bitsets = step._bin_mapper.make_known_categories_bitsets()
        node = self.numbers(value, step, way, at_end=True)
        labels = getattr(step, "classes_", None)
        return BoostedByBins(input=node, way=way, estimator=step, bitsets=bitsets, labels=labels)

    def boosted_by_lightgbm(self, step: Any, value: StepValue, way: str) -> End:
        """LightGBM's estimators."""
        labels = getattr(step, "classes_", None)
        if labels is not None and (callable(step.objective_) or len(labels) < 2):
            raise UnknownStep("it has no probabilities of its classes")
        if getattr(step.booster_, "pandas_categorical", None):
            raise UnknownStep("it has columns of categories")
        booster = _RecordingBooster()
        estimator = copy.copy(step)
        estimator._Booster = booster
        try:
            sys.modules["lightgbm"].LGBMModel.predict(estimator, np.zeros((1, step.n_features_in_)))
        # Whatever another release does with the stand-in: the estimator is called then.
        except Exception as error:
            raise UnknownStep(f"it asks its booster otherwise: {error}") from error
        if booster.options is None:
            raise UnknownStep("it asks its booster otherwise")
        node = self.numbers(value, step, way, at_end=True)
        return BoostedByLightGbm(
            input=node, way=way, booster=step.booster_, options=booster.options, labels=labels
        )

    def inner_classifier(
        self, step: Any, value: StepValue, path: tuple[str, ...], methods: Sequence[str]
    ) -> tuple[End, str]:
        """The end of a classifier that a wrapper calls, and the first of these methods that it has."""
        while library_name(step) == "sklearn.frozen._frozen.FrozenEstimator":
            step = step.estimator
        inner = self.end(step, value, path)
        method = next((name for name in methods if hasattr(step, name)), "")
        has_method = (
            method == "predict_proba"
            or isinstance(inner, OpaqueEnd)
            or type(inner).decision_function is not End.decision_function
        )
        if not has_method or not isinstance(inner.classes, np.ndarray):
            raise UnknownStep("it asks for more than is known of its classifier")
        return inner, method

    def calibrated(self, step: Any, value: StepValue, path: tuple[str, ...]) -> End:
        """CalibratedClassifierCV."""
        inners, methods, curves, class_indexes = [], [], [], []
        for number, calibrated in enumerate(step.calibrated_classifiers_):
            inner, method = self.inner_classifier(
                calibrated.estimator,
                value,
                (*path, f"{type(step).__name__}[{number}]"),
                ("decision_function", "predict_proba"),
            )
            if not np.array_equal(calibrated.classes, step.classes_) or any(
                library_name(curve) not in _CALIBRATIONS
                or getattr(curve, "out_of_bounds", "clip") != "clip"
                for curve in calibrated.calibrators
            ):
                raise UnknownStep("its calibration is of another kind")
            inners.append(inner)
            methods.append(method)
            curves.append(tuple(calibrated.calibrators))
            indexes = np.searchsorted(step.classes_, calibrated.estimator.classes_)
            is_two = len(step.classes_) == 2
            class_indexes.append((1,) if is_two else tuple(indexes.tolist()))
        return Calibrated(
            input=inners[0].input, way=" → ".join((*path, label_of(step))), inners=tuple(inners),
            methods=tuple(methods), curves=tuple(curves), class_indexes=tuple(class_indexes),
            labels=step.classes_,
        )  # fmt: skip

    def inners(self, step: Any, value: StepValue, path: tuple[str, ...]) -> tuple[End, ...]:
        """The ends of the estimators that an estimator calls, each with the same value."""
        return tuple(
            self.end(estimator, value, (*path, f"{type(step).__name__}[{number}]"))
            for number, estimator in enumerate(step.estimators_)
        )

    def inners_of_array(
        self, step: Any, value: StepValue, path: tuple[str, ...], columns: Sequence[Array | None]
    ) -> tuple[End, ...]:
        """The same where they get an array that was checked before; `columns` has the indexes of those that each gets, or None."""
        way = " → ".join((*path, label_of(step)))
        node_count = len(self.nodes)
        node = self.numbers(value, step, way, at_end=True)
        whole = StepValue(form="array", node=node, width=step.n_features_in_)
        ends = []
        for number, (estimator, picked) in enumerate(zip(step.estimators_, columns, strict=True)):
            given = whole
            if picked is not None:
                pick = Pick(inputs=(node,), way=way, columns=np.asarray(picked))
                given = replace(whole, node=self.add(pick), width=len(picked))
            ends.append(self.end(estimator, given, (*path, f"{type(step).__name__}[{number}]")))
        if any(isinstance(each, Handed) for each in self.nodes[node_count:]):
            self.stays_float(value)
        return tuple(ends)

    def voting(self, step: Any, value: StepValue, path: tuple[str, ...]) -> End:
        """VotingClassifier and VotingRegressor."""
        inners = self.inners(step, value, path)
        return Voting(
            input=inners[0].input, way=" → ".join((*path, label_of(step))), inners=inners,
            weights=step._weights_not_none, labels=getattr(step, "classes_", None),
            is_soft=getattr(step, "voting", "") == "soft",
        )  # fmt: skip

    def bagged(self, step: Any, value: StepValue, path: tuple[str, ...]) -> End:
        """BaggingClassifier and BaggingRegressor."""
        labels = getattr(step, "classes_", None)
        if len(step.estimators_) != step.n_estimators:
            raise UnknownStep("it has other estimators than it was made with")
        is_vote = labels is not None and not hasattr(step.estimators_[0], "predict_proba")
        if labels is not None and any(
            not np.array_equal(estimator.classes_, np.arange(len(labels)))
            or hasattr(estimator, "predict_proba") == is_vote
            for estimator in step.estimators_
        ):
            raise UnknownStep("not all of its classifiers know all classes")
        every = np.arange(step.n_features_in_)
        # Who is called gets the copy that scikit-learn makes: the last bits of a sum depend on how an array is laid out.
        columns = [
            None if np.array_equal(picked, every) and library_name(estimator) in _ENDS else picked
            for estimator, picked in zip(step.estimators_, step.estimators_features_, strict=True)
        ]
        inners = self.inners_of_array(step, value, path, columns)
        is_one_sum = step.n_jobs in (None, 1) and all(isinstance(inner, Trees) for inner in inners)
        return Bagged(
            input=inners[0].input, way=" → ".join((*path, label_of(step))), inners=inners,
            labels=labels, is_vote=is_vote, is_exact=is_vote or is_one_sum,
        )  # fmt: skip

    def adaboosted(self, step: Any, value: StepValue, path: tuple[str, ...]) -> End:
        """AdaBoostClassifier and AdaBoostRegressor."""
        labels = getattr(step, "classes_", None)
        # Until scikit-learn 1.5 there was another way, which is gone since.
        if labels is not None and getattr(step, "algorithm", "SAMME") not in (
            "SAMME",
            "deprecated",
        ):
            raise UnknownStep("its algorithm is another one")
        if labels is not None and len(labels) < 2:
            raise UnknownStep("it has one class")
        inners = self.inners_of_array(step, value, path, [None] * len(step.estimators_))
        way = " → ".join((*path, label_of(step)))
        weights = step.estimator_weights_[: len(inners)]
        if labels is None:
            return AdaBoostedNumbers(input=inners[0].input, way=way, inners=inners, weights=weights)
        return AdaBoosted(
            input=inners[0].input, way=way, inners=inners, labels=labels, estimator=step,
            weights=weights,
        )  # fmt: skip

    def one_for_each_output(self, step: Any, value: StepValue, path: tuple[str, ...]) -> End:
        """MultiOutputClassifier and MultiOutputRegressor."""
        inners = self.inners(step, value, path)
        way = " → ".join((*path, label_of(step)))
        return OneForEachOutput(input=inners[0].input, way=way, inners=inners)

    def one_vs_rest(self, step: Any, value: StepValue, path: tuple[str, ...]) -> End:
        """OneVsRestClassifier."""
        if step.label_binarizer_.y_type_ != "multiclass" or len(step.estimators_) < 2:
            raise UnknownStep("it has two classes, or several outputs")
        pairs = [
            self.inner_classifier(
                estimator,
                value,
                (*path, f"{type(step).__name__}[{number}]"),
                ("decision_function", "predict_proba"),
            )
            for number, estimator in enumerate(step.estimators_)
        ]
        inners, methods = zip(*pairs, strict=True)
        return OneVsRest(
            input=inners[0].input, way=" → ".join((*path, label_of(step))), inners=inners,
            methods=methods, labels=step.classes_,
        )  # fmt: skip

    def stacked(self, step: Any, value: StepValue, path: tuple[str, ...]) -> End:
        """StackingClassifier and StackingRegressor."""
        labels = getattr(step, "classes_", None)
        if labels is not None and not isinstance(labels, np.ndarray):
            raise UnknownStep("it has several outputs")
        way = " → ".join((*path, label_of(step)))
        given: list[StepValue] = []
        for number, (estimator, method) in enumerate(
            zip(step.estimators_, step.stack_method_, strict=True)
        ):
            inner_path = (*path, f"{type(step).__name__}[{number}]")
            if method == "predict":
                inner = self.end(estimator, value, inner_path)
            else:
                inner, _ = self.inner_classifier(estimator, value, inner_path, (method,))
            is_of_two = labels is not None and len(labels) == 2
            answers = EndAnswers(
                inputs=(inner.input,), way=way, end=inner, method=method,
                drops_first=method == "predict_proba" and is_of_two,
            )  # fmt: skip
            given.append(StepValue(form="array", node=self.add(answers)))
        if step.passthrough:
            self.stays_float(value)
            rows = self.natural(value, way)
            if rows.form not in ("frame", "array") or rows.is_wide or rows.dtype != np.float64:
                raise UnknownStep("it passes on what is no array of floats")
            given.append(rows)
        node = self.add(Concat(inputs=tuple(each.node for each in given), way=way))
        width = getattr(step.final_estimator_, "n_features_in_", None)
        answers_of_all = StepValue(form="array", node=node, width=width)
        final = self.end(step.final_estimator_, answers_of_all, path)
        if labels is None:
            return final
        return Labelled(input=final.input, way=way, inners=(final,), labels=labels)

    def threshold(self, step: Any, value: StepValue, path: tuple[str, ...]) -> End:
        """FixedThresholdClassifier and TunedThresholdClassifierCV."""
        methods = step._get_response_method()
        methods = (methods,) if isinstance(methods, str) else tuple(methods)
        estimator = getattr(step, "estimator_", step.estimator)
        inner_path = (*path, type(step).__name__)
        inner, method = self.inner_classifier(estimator, value, inner_path, methods)
        if hasattr(step, "best_threshold_"):
            threshold, positive = step.best_threshold_, step._curve_scorer._get_pos_label()
        else:
            threshold, positive = step.threshold, step.pos_label
            if threshold == "auto":
                threshold = 0.5 if method == "predict_proba" else 0.0
        labels = inner.classes
        if labels is None or len(labels) != 2 or not np.array_equal(labels, step.classes_):
            raise UnknownStep("its classes are not two")
        indexes = [1] if positive is None else np.flatnonzero(labels == positive).tolist()
        if len(indexes) != 1:
            raise UnknownStep("its class is not among them")
        return Threshold(
            input=inner.input, way=" → ".join((*path, label_of(step))), inner=inner, method=method,
            class_index=indexes[0], threshold=float(threshold),
        )  # fmt: skip


class _RecordingBooster:
    """Stands in for a LightGBM booster, and records the options that its scikit-learn interface passes beside the rows."""

    options: dict[str, Any] | None = None

    def predict(self, rows: Array, **options: Any) -> Array:
        """(rows,) zeros."""
        self.options = options
        return np.zeros(len(rows))


_SEARCHES = frozenset(
    f"sklearn.model_selection.{name}"
    for name in (
        "_search.GridSearchCV", "_search.RandomizedSearchCV",
        "_search_successive_halving.HalvingGridSearchCV",
        "_search_successive_halving.HalvingRandomSearchCV",
    )
)  # fmt: skip
_CALIBRATIONS = frozenset(
    {"sklearn.calibration._SigmoidCalibration", "sklearn.isotonic.IsotonicRegression"}
)
_LINEAR = (
    "_base.LinearRegression", "_bayes.ARDRegression", "_bayes.BayesianRidge", "_coordinate_descent.ElasticNet",
    "_coordinate_descent.ElasticNetCV", "_coordinate_descent.Lasso", "_coordinate_descent.LassoCV",
    "_coordinate_descent.MultiTaskElasticNet", "_coordinate_descent.MultiTaskElasticNetCV",
    "_coordinate_descent.MultiTaskLasso", "_coordinate_descent.MultiTaskLassoCV", "_huber.HuberRegressor",
    "_least_angle.Lars", "_least_angle.LarsCV", "_least_angle.LassoLars", "_least_angle.LassoLarsCV",
    "_least_angle.LassoLarsIC", "_omp.OrthogonalMatchingPursuit", "_omp.OrthogonalMatchingPursuitCV",
    "_passive_aggressive.PassiveAggressiveRegressor", "_quantile.QuantileRegressor", "_ridge.Ridge",
    "_ridge.RidgeCV", "_stochastic_gradient.SGDRegressor", "_theil_sen.TheilSenRegressor",
)  # fmt: skip
_LOGISTIC = (
    "_logistic.LogisticRegression", "_logistic.LogisticRegressionCV",
    "_passive_aggressive.PassiveAggressiveClassifier", "_perceptron.Perceptron", "_ridge.RidgeClassifier",
    "_ridge.RidgeClassifierCV", "_stochastic_gradient.SGDClassifier",
)  # fmt: skip
_ENDS: dict[str, Callable[[_Reader, Any, StepValue, str], End]] = {
    **{f"sklearn.linear_model.{name}": _Reader.linear for name in _LINEAR},
    **{f"sklearn.linear_model.{name}": _Reader.logistic for name in _LOGISTIC},
    "sklearn.discriminant_analysis.LinearDiscriminantAnalysis": _Reader.logistic,
    "sklearn.svm._classes.LinearSVC": _Reader.logistic,
    "sklearn.svm._classes.LinearSVR": _Reader.linear,
    **{
        f"sklearn.{name}": _Reader.trees
        for name in (
            "tree._classes.DecisionTreeClassifier", "tree._classes.DecisionTreeRegressor",
            "tree._classes.ExtraTreeClassifier", "tree._classes.ExtraTreeRegressor",
            "ensemble._forest.ExtraTreesClassifier", "ensemble._forest.ExtraTreesRegressor",
            "ensemble._forest.RandomForestClassifier", "ensemble._forest.RandomForestRegressor",
        )
    },
    "sklearn.ensemble._gb.GradientBoostingClassifier": _Reader.boosted,
    "sklearn.ensemble._gb.GradientBoostingRegressor": _Reader.boosted,
    **{
        f"sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoosting{kind}": _Reader.boosted_by_bins
        for kind in ("Classifier", "Regressor")
    },
    **{
        f"lightgbm.sklearn.LGBM{kind}": _Reader.boosted_by_lightgbm
        for kind in ("Classifier", "Ranker", "Regressor")
    },
}  # fmt: skip
_WRAPPERS: dict[str, Callable[[_Reader, Any, StepValue, tuple[str, ...]], End]] = {
    "sklearn.calibration.CalibratedClassifierCV": _Reader.calibrated,
    "sklearn.ensemble._bagging.BaggingClassifier": _Reader.bagged,
    "sklearn.ensemble._bagging.BaggingRegressor": _Reader.bagged,
    "sklearn.ensemble._stacking.StackingClassifier": _Reader.stacked,
    "sklearn.ensemble._stacking.StackingRegressor": _Reader.stacked,
    "sklearn.ensemble._voting.VotingClassifier": _Reader.voting,
    "sklearn.ensemble._voting.VotingRegressor": _Reader.voting,
    "sklearn.ensemble._weight_boosting.AdaBoostClassifier": _Reader.adaboosted,
    "sklearn.ensemble._weight_boosting.AdaBoostRegressor": _Reader.adaboosted,
    "sklearn.multiclass.OneVsRestClassifier": _Reader.one_vs_rest,
    "sklearn.multioutput.MultiOutputClassifier": _Reader.one_for_each_output,
    "sklearn.multioutput.MultiOutputRegressor": _Reader.one_for_each_output,
    "sklearn.model_selection._classification_threshold.FixedThresholdClassifier": _Reader.threshold,
    "sklearn.model_selection._classification_threshold.TunedThresholdClassifierCV": _Reader.threshold,
}
