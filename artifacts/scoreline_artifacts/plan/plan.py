"""A plan: the flat list of steps that a fitted pipeline comes to, and what it answers for a frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from scoreline_artifacts.plan.ends import End, OpaqueEnd
from scoreline_artifacts.plan.ensembles import EndAnswers
from scoreline_artifacts.plan.nodes import Node, Opaque, Unplanned
from scoreline_artifacts.validation import CheckedRows


@dataclass(frozen=True)
class ScoringPlan:
    """What a pipeline does, step by step: each node takes values of nodes before it, and the end takes one of theirs."""

    nodes: tuple[Node, ...]
    """In order; node 1 is the first, since 0 stands for the rows themselves."""
    end: End
    names: tuple[str, ...]
    """The columns of the frame."""
    unplanned: tuple[str, ...] = ()
    """Why steps are called that might be known, for people."""

    @cached_property
    def opaque(self) -> tuple[str, ...]:
        """The ways of the steps that are called, since nothing is known of what they do."""
        ways = [node.way for node in self.nodes if isinstance(node, Opaque)]
        ways += [end.way for end in self.last_ends() if isinstance(end, OpaqueEnd)]
        return tuple(ways)

    def last_ends(self) -> list[End]:
        """The ends of all estimators that call no others: those that calculate."""
        ends = [self.end, *(node.end for node in self.nodes if isinstance(node, EndAnswers))]
        last = []
        while ends:
            end = ends.pop()
            ends += end.inner_ends
            last += [] if end.inner_ends else [end]
        return last

    def predict(self, frame: pd.DataFrame | CheckedRows) -> Any:
        """What the pipeline's predict returns for rows with the columns and types of training; they stay as they are.

        Raises:
            Unplanned: the pipeline is to be asked.
            Exception: whatever an opaque step raises; the pipeline is to be asked, too.
        """
        return self.end.predict(self._values(frame))

    def predict_proba(self, frame: pd.DataFrame | CheckedRows) -> Any:
        """(rows, classes) What the pipeline's predict_proba returns; errors as for predict."""
        return self.end.predict_proba(self._values(frame))

    def steps(self) -> list[dict[str, Any]]:
        """Each step for people and programs: kind, way, inputs, and those of its other fields that are short."""
        steps: list[tuple[Node | End, list[int]]] = [
            *((node, [*node.inputs]) for node in self.nodes),
            (self.end, [self.end.input]),
        ]
        described = []
        for number, (step, inputs) in enumerate(steps, start=1):
            description: dict[str, Any] = {"step": number, "kind": type(step).__name__}
            description |= {"way": step.way, "inputs": inputs}
            for field in dataclasses.fields(step):
                name, value = field.name, getattr(step, field.name)
                if isinstance(value, np.ndarray) and value.size <= 8:
                    description[name] = value.tolist()
                elif name == "names" or isinstance(value, str | float | bool):
                    description[name] = value
            described.append(description)
        return described

    def _values(self, frame: pd.DataFrame | CheckedRows) -> Sequence[Any]:
        rows = CheckedRows.of(frame)
        if len(rows) == 0 or rows.names != self.names:
            raise Unplanned("there are no rows, or other columns than in training")
        values: list[Any] = [rows.for_one_call()]
        for node in self.nodes:
            values.append(node.run(values))
        return values
