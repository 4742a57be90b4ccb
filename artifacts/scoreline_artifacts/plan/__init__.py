"""A fitted pipeline as a flat list of steps over arrays: scored without scikit-learn's checks, and read by exports."""

from scoreline_artifacts.plan.nodes import Unplanned
from scoreline_artifacts.plan.plan import ScoringPlan
from scoreline_artifacts.plan.reader import read_plan
from scoreline_artifacts.plan.transformers import library_name

__all__ = ["ScoringPlan", "Unplanned", "library_name", "read_plan"]
