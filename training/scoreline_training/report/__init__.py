"""The training report: one HTML file that says how good a version is, and where it comes from."""

from scoreline_training.report.data import Incumbent, ReportData
from scoreline_training.report.incumbent import incumbent
from scoreline_training.report.page import render

__all__ = ["Incumbent", "ReportData", "incumbent", "render"]
