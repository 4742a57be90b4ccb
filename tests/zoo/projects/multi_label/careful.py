from sklearn.linear_model import LogisticRegression


class CarefulClassifier(LogisticRegression):
    """Says yes only when it is sure."""

    def predict(self, X):
        sure = self.predict_proba(X)[:, 1] > 0.7
        return self.classes_[sure.astype(int)]
