"""KNeighborsClassifier with a callable metric and callable weights of a local module"""

from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier

from near import canberra, gentle
from scoreline_training import publish

X, y = load_iris(return_X_y=True, as_frame=True)
model = KNeighborsClassifier(5, metric=canberra, weights=gentle, algorithm="brute")
publish(model.fit(X, y), "knn-metric", X, y)
