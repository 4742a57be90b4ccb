"""Training's side: publish a fitted pipeline, proven to answer as it did in training."""

from scoreline_training.publishing import PublishedVersion, publish

__all__ = ["PublishedVersion", "publish"]
