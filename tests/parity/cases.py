"""The pipelines of the differential suite: generated ones, hand-picked ones, and all of scikit-learn's estimators."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn import (
    calibration,
    cluster,
    compose,
    decomposition,
    discriminant_analysis,
    dummy,
    ensemble,
    feature_selection,
    impute,
    linear_model,
    mixture,
    model_selection,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    semi_supervised,
    svm,
    tree,
    utils,
)  # fmt: skip
from sklearn.utils._test_common.instance_generator import _construct_instances
from sklearn.utils.discovery import all_estimators

from tests.parity import frames

GENERATED = 320
GROUP = 20
"""Pipelines that are served together."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A pipeline as training has it, and the rows that it is asked about."""

    pipeline: Any
    frame: pd.DataFrame
    labels: Any
    rows: pd.DataFrame
    bad: Sequence[tuple[str, Any, str]] = ()
    """Values that a record must not have: column, value, and the code of the error."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A pipeline that is published and asked."""

    name: str
    make: Callable[[], Fitted]
    group: str
    """Cases of a group are published into one store, and served by one worker."""
    refused: str = ""
    """What publish() says of a pipeline that it must refuse, as a pattern."""
    alone: bool = False
    """Trained in a process of its own: its modules change settings of the whole process."""
    unneeded: bool = False
    """Asked with a column that it does not need, of anything."""
    as_stored: Mapping[str, str] = field(default_factory=dict)
    """The types of Arrow that columns have in a database, by name."""
    with_report: bool = False
    """Published with a training report, which takes longer than all the rest."""


def project(name: str) -> Any:
    """A module of the project, imported where it is needed: some change settings."""
    return importlib.import_module(name)


def own_step(module: str, name: str) -> Any:
    """A step made of a function of the project's own."""
    return preprocessing.FunctionTransformer(getattr(project(module), name))


# Targets


def _scores(rng: np.random.Generator, frame: pd.DataFrame) -> Any:
    """A number for each row, which depends on the first column of numbers."""
    numbers = frame.select_dtypes("number").iloc[:, 0].astype(float).fillna(0).to_numpy()
    return numbers / (numbers.std() or 1) + rng.normal(scale=0.3, size=len(frame))


def _classes(labels: Sequence[Any]) -> Callable[[np.random.Generator, pd.DataFrame], Any]:
    def target(rng: np.random.Generator, frame: pd.DataFrame) -> Any:
        ranks = _scores(rng, frame).argsort().argsort() * len(labels) // len(frame)
        return pd.Series([labels[rank] for rank in ranks])

    return target


TARGETS = {
    "0 and 1": _classes([0, 1]),
    "words": _classes(["high", "low"]),
    "booleans": _classes([False, True]),
    "three words": _classes(["green", "red", "yellow"]),
    "numbers as text": _classes(["007", "1e3", "nan"]),
    "negative": _classes([-1, 1]),
    "odd text": _classes(["a,b", 'say "so"', "Ünï\nline"]),
    "floats": _classes([1.0, 2.0]),
    "long numbers": _classes([2**53 + 1, 2**62]),
}


def _few(rng: np.random.Generator, frame: pd.DataFrame) -> Any:
    """Two classes, of which one is rare and hard to tell from the other."""
    noisy = frame.iloc[:, 0] + rng.normal(size=len(frame))
    return (noisy > noisy.quantile(0.8)).astype(int)


TARGETS["few"] = _few
BINARY = ("0 and 1", "words", "booleans", "negative")


# Estimators, small ones


def _voters() -> list[tuple[str, Any]]:
    return [
        ("tree", tree.DecisionTreeClassifier(max_depth=3, random_state=0)),
        ("bayes", naive_bayes.GaussianNB()),
    ]


CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "logistic": lambda: linear_model.LogisticRegression(max_iter=300),
    "linear-svc": lambda: svm.LinearSVC(),
    "svc": lambda: svm.SVC(probability=True, random_state=0),
    "svc-plain": lambda: svm.SVC(),
    "knn": lambda: neighbors.KNeighborsClassifier(15, weights="distance"),
    "tree": lambda: tree.DecisionTreeClassifier(max_depth=4, random_state=0),
    "forest": lambda: ensemble.RandomForestClassifier(7, random_state=0),
    "forest-jobs": lambda: ensemble.RandomForestClassifier(5, random_state=0, n_jobs=2),
    "extra-trees": lambda: ensemble.ExtraTreesClassifier(7, random_state=0),
    "hist-boosting": lambda: ensemble.HistGradientBoostingClassifier(max_iter=8, random_state=0),
    "boosting": lambda: ensemble.GradientBoostingClassifier(n_estimators=8, random_state=0),
    "mlp": lambda: neural_network.MLPClassifier((8,), max_iter=40, random_state=0),
    "bayes": lambda: naive_bayes.GaussianNB(),
    "lda": lambda: discriminant_analysis.LinearDiscriminantAnalysis(),
    "sgd": lambda: linear_model.SGDClassifier(loss="log_loss", random_state=0),
    "perceptron": lambda: linear_model.Perceptron(random_state=0),
    "ridge": lambda: linear_model.RidgeClassifier(),
    "ada": lambda: ensemble.AdaBoostClassifier(n_estimators=5, random_state=0),
    "bagging": lambda: ensemble.BaggingClassifier(n_estimators=5, random_state=0),
    "centroid": lambda: neighbors.NearestCentroid(),
    "lightgbm": lambda: LGBMClassifier(n_estimators=8, min_child_samples=5, verbose=-1),
    "calibrated": lambda: calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=3),
    "voting-soft": lambda: ensemble.VotingClassifier(_voters(), voting="soft"),
    "voting-hard": lambda: ensemble.VotingClassifier(_voters()),
    "stacking": lambda: ensemble.StackingClassifier(_voters(), cv=3),
    "one-vs-rest": lambda: multiclass.OneVsRestClassifier(
        linear_model.LogisticRegression(max_iter=300)
    ),
    "one-vs-one": lambda: multiclass.OneVsOneClassifier(linear_model.LogisticRegression()),
    "output-code": lambda: multiclass.OutputCodeClassifier(
        linear_model.LogisticRegression(), random_state=0
    ),
    "grid": lambda: model_selection.GridSearchCV(
        tree.DecisionTreeClassifier(random_state=0), {"max_depth": [2, 3]}, cv=3
    ),
    "self-training": lambda: semi_supervised.SelfTrainingClassifier(naive_bayes.GaussianNB()),
    "selected": lambda: pipeline.make_pipeline(
        feature_selection.SelectKBest(k=2), linear_model.LogisticRegression()
    ),
    "referring": lambda: project("answers").Referring(naive_bayes.GaussianNB()),
}
TWO_CLASSES: dict[str, Callable[[], Any]] = {
    "tuned-threshold": lambda: model_selection.TunedThresholdClassifierCV(
        neighbors.KNeighborsClassifier(15, weights="distance"), cv=3
    ),
    "fixed-threshold": lambda: model_selection.FixedThresholdClassifier(
        linear_model.LogisticRegression(), threshold=0.8, response_method="predict_proba"
    ),
}
REGRESSORS: dict[str, Callable[[], Any]] = {
    "linear": lambda: linear_model.LinearRegression(),
    "ridge": lambda: linear_model.Ridge(),
    "svr": lambda: svm.SVR(),
    "knn": lambda: neighbors.KNeighborsRegressor(7),
    "tree": lambda: tree.DecisionTreeRegressor(max_depth=4, random_state=0),
    "forest": lambda: ensemble.RandomForestRegressor(7, random_state=0),
    "hist-boosting": lambda: ensemble.HistGradientBoostingRegressor(max_iter=8, random_state=0),
    "lightgbm": lambda: LGBMRegressor(n_estimators=8, min_child_samples=5, verbose=-1),
    "lightgbm-jobs": lambda: LGBMRegressor(n_estimators=5, n_jobs=2, verbose=-1),
    "mlp": lambda: neural_network.MLPRegressor((8,), max_iter=40, random_state=0),
    "target": lambda: compose.TransformedTargetRegressor(
        linear_model.Ridge(), func=np.arcsinh, inverse_func=np.sinh
    ),
    "voting": lambda: ensemble.VotingRegressor(
        [("r", linear_model.Ridge()), ("t", tree.DecisionTreeRegressor(max_depth=3))]
    ),
    "stacking": lambda: ensemble.StackingRegressor(
        [("r", linear_model.Ridge()), ("t", tree.DecisionTreeRegressor(max_depth=3))], cv=3
    ),
    "search": lambda: model_selection.RandomizedSearchCV(
        linear_model.Ridge(), {"alpha": [0.1, 1.0]}, n_iter=2, cv=3, random_state=0
    ),
}
UNSUPERVISED: dict[str, Callable[[], Any]] = {
    "kmeans": lambda: cluster.KMeans(3, n_init=2, random_state=0),
    "mixture": lambda: mixture.GaussianMixture(2, random_state=0, reg_covar=1e-2),
    "isolation": lambda: ensemble.IsolationForest(n_estimators=9, random_state=0),
    "outliers": lambda: neighbors.LocalOutlierFactor(novelty=True),
    "pca": lambda: decomposition.PCA(2),
    "pca-one": lambda: decomposition.PCA(1),
    "scaled": lambda: preprocessing.StandardScaler(),
    "sparse": lambda: preprocessing.OneHotEncoder(handle_unknown="ignore"),
}
NUMBER_STEPS: dict[str, Callable[[], Any]] = {
    "standard": lambda: preprocessing.StandardScaler(),
    "robust": lambda: preprocessing.RobustScaler(),
    "min-max": lambda: preprocessing.MinMaxScaler(clip=True),
    "quantile": lambda: preprocessing.QuantileTransformer(n_quantiles=50, random_state=0),
    "power": lambda: preprocessing.PowerTransformer(),
    "bins": lambda: (
        preprocessing.KBinsDiscretizer(
            4, encode="onehot-dense", quantile_method="averaged_inverted_cdf"
        )
        if hasattr(preprocessing.KBinsDiscretizer(), "quantile_method")
        else preprocessing.KBinsDiscretizer(4, encode="onehot-dense")
    ),
    "splines": lambda: preprocessing.SplineTransformer(4),
    "polynomials": lambda: preprocessing.PolynomialFeatures(2),
    "nothing": lambda: "passthrough",
}
TEXT_STEPS: dict[str, Callable[[], Any]] = {
    "one-hot": lambda: preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    "one-hot-strict": lambda: preprocessing.OneHotEncoder(sparse_output=False),
    "infrequent": lambda: preprocessing.OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=20, sparse_output=False
    ),
    "ordinal": lambda: preprocessing.OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1
    ),
    "lengths": lambda: own_step("steps", "lengths_of_texts"),
}
_NUMBER_KINDS = ("float", "float32", "float?", "int", "int8", "uint16", "identifier")
_NULLABLE_KINDS = ("Float64?", "Int64?", "boolean?", "bool")
_TEXT_KINDS = ("text", "empty text")


def prepared(columns: Mapping[str, str], number: str, text: str) -> Any:
    """A ColumnTransformer that makes numbers of all columns of a generated frame."""

    def of(*kinds: str) -> list[str]:
        return [name for name, kind in columns.items() if kind in kinds]

    floats = own_step("steps", "as_floats")
    parts = [
        ("n", pipeline.make_pipeline(impute.SimpleImputer(), NUMBER_STEPS[number]()), _NUMBER_KINDS),
        ("x", pipeline.make_pipeline(floats, impute.SimpleImputer()), _NULLABLE_KINDS),
        ("t", TEXT_STEPS[text](), _TEXT_KINDS),
        ("m", TEXT_STEPS["lengths"](), ("text?", "string?")),
        ("d", own_step("steps", "parts_of_dates"), tuple(kind for kind in frames.KINDS if "date" in kind)),
        ("c", own_step("steps", "codes"), ("category", "ordered category")),
        ("k", TEXT_STEPS["ordinal"](), tuple(kind for kind in frames.KINDS if "category of" in kind)),
    ]  # fmt: skip
    used = [(name, step, of(*kinds)) for name, step, kinds in parts if of(*kinds)]
    return compose.ColumnTransformer(used, verbose_feature_names_out=False)


def generated() -> Iterator[Case]:
    """Combinations of frames, steps, estimators and targets, each of these in turn."""
    estimators = [
        *(("classify", name, make) for name, make in (CLASSIFIERS | TWO_CLASSES).items()),
        *(("regress", name, make) for name, make in REGRESSORS.items()),
        *(("none", name, make) for name, make in UNSUPERVISED.items()),
    ]
    for number in range(GENERATED):
        task, name, make = estimators[number % len(estimators)]
        rng = np.random.default_rng([1, number])
        names = list(frames.FRAMES)
        frame = names[(number + number // len(names)) % len(names)]
        pick = lambda options, rng=rng: list(options)[rng.integers(len(options))]  # noqa: E731
        target = pick(BINARY if name in TWO_CLASSES else [*TARGETS][:-1])
        steps = pick(NUMBER_STEPS), pick(TEXT_STEPS)
        yield Case(
            name=f"g{number:03}-{name}-{frame.replace(' ', '-')}",
            make=partial(_combine, number, task, make, frame, target, steps),
            group=f"generated-{number // GROUP:02}",
            with_report=number % 16 == 0,
        )


def _combine(
    number: int,
    task: str,
    make: Callable[[], Any],
    frame_name: str,
    target: str,
    steps: tuple[str, str],
) -> Fitted:
    rng = np.random.default_rng([2, number])
    columns = frames.FRAMES[frame_name]
    frame = frames.training(columns, rng)
    labels: Any = None
    if task == "classify":
        labels = TARGETS[target](rng, frame)
    elif task == "regress":
        labels = pd.Series(_scores(rng, frame))
    made = pipeline.make_pipeline(prepared(columns, *steps), make())
    return _fitted(made, columns, frame, labels, rng)


def _fitted(
    made: Any,
    columns: Mapping[str, str],
    frame: pd.DataFrame,
    labels: Any,
    rng: np.random.Generator,
    *,
    rows: pd.DataFrame | None = None,
) -> Fitted:
    # The fit must not see the frame that is published: some steps write into theirs.
    made.fit(frame.copy(), labels)
    return Fitted(
        pipeline=made,
        frame=frame,
        labels=labels,
        rows=frames.asked(columns, frame, rng) if rows is None else rows,
        bad=frames.bad_values(columns)[:4],
    )


# Hand-picked


def _on(
    frame_name: str,
    make: Callable[[], Any],
    target: str | None = None,
    *,
    wide: float = 0.0,
    count: int = frames.TRAINING_ROWS,
) -> Callable[[], Fitted]:
    """A pipeline on a generated frame; `wide` is how far rows beside those of training are spread."""

    def made() -> Fitted:
        rng = np.random.default_rng(7)
        columns = frames.FRAMES[frame_name]
        frame = frames.training(columns, rng, count)
        labels: Any = None
        if target == "numbers":
            labels = pd.Series(_scores(rng, frame))
        elif target is not None:
            labels = TARGETS[target](rng, frame)
        rows = frames.asked(columns, frame, rng)
        if wide:
            rows = frames.training(columns, rng, 120)
            rows = rows.assign(**{name: rows[name] * wide for name in rows.select_dtypes("float")})
        return _fitted(make(), columns, frame, labels, rng, rows=rows.astype(frame.dtypes))

    return made


def _several(kind: str) -> Callable[[np.random.Generator, pd.DataFrame], Any]:
    def target(rng: np.random.Generator, frame: pd.DataFrame) -> Any:
        if kind == "numbers":
            return pd.DataFrame({"up": _scores(rng, frame), "down": -_scores(rng, frame)})
        first = TARGETS["0 and 1"](rng, frame)
        second = pd.Series(rng.integers(0, 2, len(frame)))
        if kind == "labels":
            return np.column_stack([first, second, 1 - first])
        words = {
            "side": first.map({0: "left", 1: "right"}),
            "odd": second.map({0: "1e3", 1: "007"}),
        }
        return pd.DataFrame(words)

    return target


def _outputs(make: Callable[[], Any], kind: str) -> Callable[[], Fitted]:
    def made() -> Fitted:
        rng = np.random.default_rng(8)
        columns = frames.FRAMES["numbers"]
        frame = frames.training(columns, rng)
        labels = _several(kind)(rng, frame)
        scaled = pipeline.make_pipeline(preprocessing.StandardScaler(), make())
        return _fitted(scaled, columns, frame, labels, rng)

    return made


def _steps(*steps: str, last: Callable[[], Any] = linear_model.Ridge) -> Callable[[], Any]:
    def make() -> Any:
        return pipeline.make_pipeline(*(own_step("steps", name) for name in steps), last())

    return make


def _set_at_import(module: str, function: str) -> Case:
    def make() -> Any:
        return pipeline.make_pipeline(
            preprocessing.StandardScaler(), own_step(module, function), linear_model.Ridge()
        )

    def of_frames() -> Any:
        return pipeline.make_pipeline(own_step(module, function), linear_model.Ridge())

    chosen = make if module == "set_output" else of_frames
    return Case(
        name=module.replace("_", "-"),
        make=_on("numbers", chosen, "numbers"),
        group="settings",
        alone=True,
    )


def _many(names: Mapping[str, Callable[[], Fitted]], group: str, **options: Any) -> list[Case]:
    return [
        Case(name=name, make=make, group=group, with_report=number % 8 == 7, **options)
        for number, (name, make) in enumerate(names.items())
    ]


def picked() -> Iterator[Case]:
    """Pipelines that have gone wrong somewhere, each for a reason of its own."""
    logistic = partial(linear_model.LogisticRegression, max_iter=300)
    yield from _many(
        {
            "tuned-threshold": _on(
                "two numbers",
                lambda: model_selection.TunedThresholdClassifierCV(
                    neighbors.KNeighborsClassifier(15, weights="distance")
                ),
                "few",
                wide=1.0,
                count=400,
            ),
            "svc-probability": _on(
                "numbers", lambda: svm.SVC(probability=True, random_state=0), "words", wide=3.0
            ),
            "svc-three": _on(
                "numbers",
                lambda: svm.SVC(probability=True, random_state=0),
                "three words",
                wide=3.0,
            ),
            "referring": _on(
                "numbers", lambda: project("answers").Referring(naive_bayes.GaussianNB()), "words"
            ),
            "referring-in-search": _on(
                "numbers",
                lambda: model_selection.GridSearchCV(
                    project("answers").Referring(naive_bayes.GaussianNB()),
                    {"inner__var_smoothing": [1e-9, 1e-8]},
                    cv=3,
                ),
                "words",
            ),
            "voting-of-thresholds": _on(
                "numbers",
                lambda: pipeline.make_pipeline(
                    preprocessing.StandardScaler(),
                    model_selection.FixedThresholdClassifier(logistic(), threshold=0.9),
                ),
                "words",
                wide=1.0,
            ),
        },
        "truth",
    )
    yield from _many(
        {
            "gaussian-mixture": _on("numbers", lambda: mixture.GaussianMixture(2, random_state=0)),
            "bayesian-mixture": _on(
                "numbers", lambda: mixture.BayesianGaussianMixture(n_components=2, random_state=0)
            ),
            "classifier-chain": _outputs(
                lambda: multioutput.ClassifierChain(logistic(), random_state=0), "labels"
            ),
            "multi-output": _outputs(
                lambda: multioutput.MultiOutputClassifier(logistic()), "words"
            ),
            "multi-output-forest": _outputs(
                lambda: ensemble.RandomForestClassifier(5, random_state=0), "labels"
            ),
            "multi-output-tree-of-words": _outputs(
                lambda: tree.DecisionTreeClassifier(max_depth=3, random_state=0), "words"
            ),
            "multi-output-numbers": _outputs(
                lambda: multioutput.MultiOutputRegressor(linear_model.Ridge()), "numbers"
            ),
            "regressor-chain": _outputs(
                lambda: multioutput.RegressorChain(linear_model.Ridge(), random_state=0), "numbers"
            ),
            "multi-label-one-vs-rest": _outputs(
                lambda: multiclass.OneVsRestClassifier(logistic()), "labels"
            ),
            "multi-label-mlp": _outputs(
                lambda: neural_network.MLPClassifier((6,), max_iter=40, random_state=0), "labels"
            ),
            "transformer-one": _on("numbers", lambda: decomposition.PCA(1)),
            "transformer-several": _on("numbers", lambda: decomposition.PCA(2)),
            "transformer-sparse": _on(
                "categories", lambda: preprocessing.OneHotEncoder(handle_unknown="ignore")
            ),
            "transformer-of-text": _on(
                "mixed", lambda: compose.ColumnTransformer([("t", "passthrough", ["color", "n"])])
            ),
        },
        "shapes",
    )
    shapes = (
        "list", "series", "frame", "column", "float32", "float16", "int32", "uint64", "nullable",
        "category", "strings", "boolean",
    )  # fmt: skip
    odd = (
        "NA", "None", "NaN", "infinity", "Decimal", "Timestamp", "date", "bytes", "long", "text",
        "complex", "list", "surrogate",
    )  # fmt: skip
    yield from _many(
        {
            f"shape-{shape}": _on("numbers", lambda shape=shape: project("answers").Shaped(shape))
            for shape in shapes
        },
        "answers",
    )
    yield from _many(
        {
            f"odd-{name.lower()}": _on(
                "numbers", lambda name=name: project("answers").Answers(name)
            )
            for name in odd
        }
        | {
            f"odd-{name.lower()}-among-numbers": _on(
                "numbers", lambda name=name: project("answers").Answers(name, labels=(0, 1))
            )
            for name in ("NA", "NaN", "text", "long", "Decimal")
        }
        | {
            "labels-like-numbers": _on("mixed", _labelled, "numbers as text"),
            "labels-like-numbers-svc": _on(
                "numbers", _steps("refuses_large", last=svm.LinearSVC), "numbers as text"
            ),
            "labels-of-booleans": _on(
                "numbers", _steps("refuses_large", last=logistic), "booleans"
            ),
            "labels-of-integers": _on(
                "numbers", _steps("refuses_large", last=svm.LinearSVC), "0 and 1"
            ),
            "long-integers": _on("numbers", lambda: tree.DecisionTreeClassifier(), "long numbers"),
            "small-digits": _on(
                "small numbers", lambda: project("answers").SmallDigits(), "numbers"
            ),
        },
        "odd-answers",
    )
    yield from _many(
        {
            "glued": _on("numbers", _steps("refuses_large", "glued"), "numbers"),
            "glued-with-missing": _on(
                "numbers with missing",
                _steps("refuses_large", "glued", last=ensemble.HistGradientBoostingRegressor),
                "numbers",
            ),
            "refuses-most": _on("numbers", _steps("refuses_all_but_training"), "numbers"),
            "written-first": _on("numbers", _steps("written_first"), "numbers"),
            "written-by-mask": _on("numbers", _steps("written_by_mask"), "numbers"),
            "written-by-loc": _on("numbers", _steps("written_by_loc"), "numbers"),
            "written-in-place": _on("numbers with missing", _steps("written_in_place"), "numbers"),
            "dummies": _on("mixed", _steps("dummies"), "numbers"),
            "centred": _on("numbers", _steps("centred"), "numbers"),
            "wide-float32": _on(
                "wide float32",
                lambda: pipeline.make_pipeline(
                    preprocessing.StandardScaler(),
                    decomposition.PCA(20, random_state=0),
                    neural_network.MLPClassifier((16,), max_iter=60, random_state=0),
                ),
                "0 and 1",
            ),
        },
        "rows",
    )
    yield from _many(
        {
            f"witness-{name.replace(' ', '-')}": _on(name, lambda: project("answers").Witness())
            for name in frames.FRAMES
        },
        "witnesses",
    )
    stored = {"day": "date32", "price": "decimal128(12, 2)"}
    for name, options in {"database": {"as_stored": stored}, "mixed": {"unneeded": True}}.items():
        yield Case(
            name=f"witness-{name}-{'-'.join(options).replace('_', '-')}",
            make=_on(name, lambda: project("answers").Witness()),
            group="witnesses",
            **options,
        )
    yield _set_at_import("set_output", "ratios")
    yield _set_at_import("set_decimal", "thirds")
    yield _set_at_import("set_warnings", "logarithms")
    yield _set_at_import("set_pandas", "printed")
    yield _set_at_import("set_numpy", "squares")
    yield _set_at_import("set_stdout", "told")
    yield from _many(
        {
            "insists-on-arrays": _on(
                "numbers",
                lambda: pipeline.make_pipeline(
                    preprocessing.StandardScaler(),
                    own_step("steps", "is_array"),
                    linear_model.Ridge(),
                ),
                "numbers",
            ),
            "threads-of-lightgbm": _on(
                "numbers", lambda: LGBMClassifier(n_estimators=5, n_jobs=2, verbose=-1), "words"
            ),
            "threads-of-openmp": _on(
                "numbers", lambda: ensemble.HistGradientBoostingClassifier(max_iter=5), "words"
            ),
        },
        "settings",
    )
    yield Case(
        name="processes-of-its-own",
        make=_on("numbers", _steps("absolute_elsewhere"), "numbers"),
        group="settings",
        refused="daemonic processes .* Use threads",
    )
    for strategy in ("stratified", "uniform"):
        yield Case(
            name=f"dummy-{strategy}",
            make=_on("numbers", partial(dummy.DummyClassifier, strategy=strategy), "words"),
            group="random",
            refused="random",
        )


def _labelled() -> Any:
    columns = frames.FRAMES["mixed"]
    return pipeline.make_pipeline(
        prepared(columns, "standard", "one-hot"), tree.DecisionTreeClassifier(max_depth=4)
    )


# All of scikit-learn

NOT_APPLICABLE = {
    "CheckingClassifier", "DictVectorizer", "FeatureHasher", "FrozenEstimator", "KernelCenterer", "LabelBinarizer",
    "LabelEncoder", "LocalOutlierFactor", "MultiLabelBinarizer", "PatchExtractor", "SparseCoder",
}  # fmt: skip
"""Estimators of labels, images, kernels or dictionaries, which no frame of records can be given to, and one that
answers for new rows only if it is told to, as it is among the generated ones."""


def estimators() -> Iterator[Case]:
    """Every estimator of scikit-learn that answers for rows of a frame, and LightGBM's."""
    number = 0
    for name, kind in all_estimators():
        # Those without a way to score rows that they have not seen, such as DBSCAN.
        if name in NOT_APPLICABLE or not (hasattr(kind, "predict") or hasattr(kind, "transform")):
            continue
        yield Case(
            name=f"all-{name.lower()}",
            make=partial(_estimator, kind),
            group=f"estimators-{number // GROUP:02}",
        )
        number += 1


def _estimator(kind: Any) -> Fitted:
    rng = np.random.default_rng(3)
    count = frames.TRAINING_ROWS
    frame = pd.DataFrame({name: rng.uniform(0.1, 2, count) for name in "abcd"})
    rows = pd.DataFrame({name: rng.uniform(0.05, 2.2, 9) for name in "abcd"})
    made = next(iter(_construct_instances(kind)))
    wanted = {"random_state": 0, "features": "all", "n_features": 16}
    made.set_params(**{name: wanted[name] for name in wanted.keys() & made.get_params(deep=False)})
    tags = utils.get_tags(made)
    score = frame["a"] + rng.normal(scale=0.1, size=count)
    labels: Any = score
    if tags.classifier_tags is not None or tags.estimator_type == "classifier":
        labels = (score > score.median()).map({False: "low", True: "high"})
        if kind.__name__ in ("ClassifierChain", "MultiOutputClassifier"):
            labels = np.column_stack([score > score.median(), score > 1.5]).astype(int)
    elif tags.target_tags.multi_output and not tags.target_tags.single_output:
        labels = np.column_stack([score, -score])
    if tags.input_tags.string and not tags.input_tags.two_d_array:
        frame, rows = (
            pd.DataFrame({"t": [WORDS_OF[int(9 * one) % 5] for one in part["a"]]})
            for part in (frame, rows)
        )
        made = compose.ColumnTransformer([("t", made, "t")])
        labels = score
    elif tags.input_tags.one_d_array or kind.__name__ == "IsotonicRegression":
        frame, rows = frame[["a"]], rows[["a"]]
    try:
        made.fit(frame, labels)
    except ValueError:  # a transformer or a selection that needs classes
        labels = (score > score.median()).astype(int)
        made.fit(frame, labels)
    return Fitted(pipeline=made, frame=frame, labels=labels, rows=rows, bad=[])


WORDS_OF = ("a short note", "another note", "one more word", "plain text", "nothing else")


def cases() -> list[Case]:
    """All of them."""
    return [*picked(), *generated(), *estimators()]


SMALL = (
    "tuned-threshold", "referring", "gaussian-mixture", "multi-output", "multi-label-mlp",
    "transformer-several", "shape-frame", "odd-na", "labels-like-numbers-svc", "glued",
    "written-first", "set-output", "insists-on-arrays", "witness-mixed", "witness-dates",
    "witness-nullable",
)  # fmt: skip
"""The cases of `make test`."""
