"""RandomForest(n_jobs=2) for several classes with text labels, behind a local transformer"""

from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline

from interactions import Products
from scoreline_training import publish

X, y = load_wine(return_X_y=True, as_frame=True)
y = y.map({0: "Barolo", 1: "Grignolino", 2: "Barbera"})
model = make_pipeline(
    Products(["alcohol", "hue"]), RandomForestClassifier(30, n_jobs=2, random_state=0)
)
publish(model.fit(X, y), "random-forest", X, y)
