"""CalibratedClassifierCV around a support vector machine with a local kernel function"""

from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from kernels import mixed
from scoreline_training import publish

X, y = load_iris(return_X_y=True, as_frame=True)
model = make_pipeline(StandardScaler(), CalibratedClassifierCV(SVC(kernel=mixed), cv=3))
publish(model.fit(X, y), "calibrated", X, y)
