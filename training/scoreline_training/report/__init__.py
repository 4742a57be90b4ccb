"""The training report: one HTML file that says how good a version is, and where it comes from."""

from scoreline_training.report.comparison import Incumbent, incumbent
from scoreline_training.report.page import TrainingReport, render
from scoreline_training.report.sections import ReportData

__all__ = ["Incumbent", "ReportData", "TrainingReport", "incumbent", "render"]
