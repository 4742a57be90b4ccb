"""How good a binary classifier is on rows that it has not seen, for the manifest and the terminal."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from sklearn.metrics import accuracy_score, confusion_matrix, roc_auc_score


@dataclass(frozen=True, slots=True)
class BinaryMetrics:
    """Hold-out figures."""

    rows: int
    accuracy: float
    """Share of rows whose class was predicted, 0 to 1."""
    roc_auc: float
    """Area under the ROC curve, 0 to 1."""
    confusion_matrix: list[list[int]]
    """Rows: the true class; columns: the predicted one."""
    classes: list[Any]

    @classmethod
    def measure(cls, pipeline: Any, X: Any, y: Any) -> BinaryMetrics:  # noqa: N803
        """Score held-out rows."""
        predicted = pipeline.predict(X)
        return cls(
            rows=len(y),
            accuracy=float(accuracy_score(y, predicted)),
            roc_auc=float(roc_auc_score(y, pipeline.predict_proba(X)[:, 1])),
            confusion_matrix=confusion_matrix(y, predicted).tolist(),
            classes=pipeline.classes_.tolist(),
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    def __rich__(self) -> Group:
        figures = Table(show_header=False, box=None, padding=(0, 2))
        figures.add_row("hold-out rows", str(self.rows))
        figures.add_row("accuracy", f"{self.accuracy:.4f}")
        figures.add_row("ROC AUC", f"{self.roc_auc:.4f}")
        matrix = Table(title="confusion matrix", title_justify="left")
        matrix.add_column("")
        for label in self.classes:
            matrix.add_column(f"predicted {label}", justify="right")
        for label, row in zip(self.classes, self.confusion_matrix, strict=True):
            matrix.add_row(f"true {label}", *map(str, row))
        return Group(figures, matrix)
