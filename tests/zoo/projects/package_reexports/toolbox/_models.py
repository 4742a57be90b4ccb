from typing import TYPE_CHECKING

from sklearn.linear_model import LogisticRegression

if TYPE_CHECKING:
    from toolbox.types_that_do_not_exist import Frame


class PatientModel(LogisticRegression):
    def fit(self, X: "Frame", y):
        self.seen_ = len(X)
        return super().fit(X, y)
