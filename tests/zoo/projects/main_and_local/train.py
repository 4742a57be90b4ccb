"""a class of the script on top of a local one, local functions that call back into objects of it"""

import pandas as pd
from sklearn.datasets import load_wine
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

import bases
from bases import Base as LocalBase, apply
from scoreline_training import publish


class Ratio(LocalBase):
    names = ("alcohol", "ash")

    def one(self, frame):
        return super().one(frame) / bases.guard(frame[self.names[1]])


class Difference(bases.Base, bases.Loud):
    def one(self, frame):
        return apply(frame, lambda row: row["hue"] - row["ash"]) * self.volume


X, y = load_wine(return_X_y=True, as_frame=True)
model = make_pipeline(Ratio().then(Difference()), KNeighborsClassifier(3))
publish(model.fit(X, y), "main-and-local", X, y)
