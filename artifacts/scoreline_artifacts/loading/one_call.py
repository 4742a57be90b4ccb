"""Classifiers whose `predict` is the class of the largest probability by their own code, so that one call serves for both.

Agreement on some rows proves nothing: a threshold, a business rule or votes that are counted another way differ
on other rows. Every class below was read: its `predict` takes the largest of the numbers that `predict_proba`
returns, or of numbers that these grow with. A subclass may override either and is not on the list, nor is
anything that is patched. Every other classifier is called twice, which is always right.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from scoreline_artifacts.plan import library_name


class ClassFrom(Enum):
    """Where the class of a record comes from."""

    PREDICT = auto()
    """A call of `predict`."""
    PROBABILITIES = auto()
    """The first of the largest probabilities: `predict` does the same with the same numbers."""
    PROBABILITIES_UNLESS_TIED = auto()
    """The largest probability: `predict` takes the largest of other numbers, of which they are a growing
    function. Where the two largest differ by no more than rounding may explain, `predict` decides."""


_SAME_NUMBERS = frozenset(
    {
        "lightgbm.sklearn.LGBMClassifier",
        "sklearn.calibration.CalibratedClassifierCV",
        "sklearn.ensemble._bagging.BaggingClassifier",
        "sklearn.ensemble._forest.ExtraTreesClassifier",
        "sklearn.ensemble._forest.RandomForestClassifier",
        "sklearn.ensemble._voting.VotingClassifier",
        "sklearn.tree._classes.DecisionTreeClassifier",
        "sklearn.tree._classes.ExtraTreeClassifier",
    }
)
_GROWING_NUMBERS = frozenset(
    {
        "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
        "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis",
        "sklearn.ensemble._gb.GradientBoostingClassifier",
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier",
        "sklearn.ensemble._weight_boosting.AdaBoostClassifier",
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.linear_model._logistic.LogisticRegressionCV",
        "sklearn.linear_model._stochastic_gradient.SGDClassifier",
        "sklearn.naive_bayes.BernoulliNB",
        "sklearn.naive_bayes.CategoricalNB",
        "sklearn.naive_bayes.ComplementNB",
        "sklearn.naive_bayes.GaussianNB",
        "sklearn.naive_bayes.MultinomialNB",
        "sklearn.neural_network._multilayer_perceptron.MLPClassifier",
    }
)
_FORWARDS_TO = {
    "sklearn.ensemble._stacking.StackingClassifier": "final_estimator_",
    "sklearn.feature_selection._rfe.RFE": "estimator_",
    "sklearn.feature_selection._rfe.RFECV": "estimator_",
    "sklearn.frozen._frozen.FrozenEstimator": "estimator",
    "sklearn.model_selection._search.GridSearchCV": "best_estimator_",
    "sklearn.model_selection._search.RandomizedSearchCV": "best_estimator_",
    "sklearn.model_selection._search_successive_halving.HalvingGridSearchCV": "best_estimator_",
    "sklearn.model_selection._search_successive_halving.HalvingRandomSearchCV": "best_estimator_",
}
"""Containers that hand both calls on, with the same transformed rows, to the estimator in this attribute."""


def class_from(pipeline: Any) -> ClassFrom:
    """Where the classes of a fitted classifier with one output may come from."""
    name = library_name(pipeline)
    if name == "sklearn.pipeline.Pipeline":
        return class_from(pipeline.steps[-1][1])
    if name in _FORWARDS_TO:
        return class_from(getattr(pipeline, _FORWARDS_TO[name], None))
    # An objective of one's own: LightGBM predicts its scores, and no class.
    if name == "lightgbm.sklearn.LGBMClassifier" and callable(pipeline.objective_):
        return ClassFrom.PREDICT
    # Several labels: each is decided by its own half.
    if name.endswith(".MLPClassifier") and (
        pipeline.n_outputs_ > 1 and pipeline.out_activation_ != "softmax"
    ):
        return ClassFrom.PREDICT
    if name in _SAME_NUMBERS:
        return ClassFrom.PROBABILITIES
    return ClassFrom.PROBABILITIES_UNLESS_TIED if name in _GROWING_NUMBERS else ClassFrom.PREDICT
