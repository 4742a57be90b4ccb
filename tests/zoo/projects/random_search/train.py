"""RandomizedSearchCV(n_jobs=2) with a callable for refit and a CV splitter of a local module"""

from scipy.stats import loguniform
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import make_pipeline

from folds import Alternating, simplest
from scaling import Root
from scoreline_training import publish

X, y = load_wine(return_X_y=True, as_frame=True)
search = RandomizedSearchCV(
    make_pipeline(Root(), LogisticRegression(max_iter=5000)),
    {"logisticregression__C": loguniform(0.01, 10), "root__degree": [1, 2, 3]},
    n_iter=6,
    n_jobs=2,
    cv=Alternating(2),
    refit=simplest,
    random_state=0,
)
publish(search.fit(X, y), "random-search", X, y)
