from sklearn.tree import DecisionTreeRegressor


class RoundedTree(DecisionTreeRegressor):
    def predict(self, X, check_input=True):
        return super().predict(X, check_input).round(3)
