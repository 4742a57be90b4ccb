"""Measures Scoreline against what people do without it, both sides in the same run."""
