"""Training's side: publish a fitted pipeline, proven to answer as it did in training."""

from scoreline_client.errors import MissingDependency as _MissingDependency

try:
    from scoreline_training.publishing import PublishedVersion, publish
except ModuleNotFoundError as error:
    # The base install has this package without what it needs.
    if not error.name or error.name.startswith("scoreline_"):
        raise
    package = error.name.partition(".")[0]
    raise _MissingDependency("scoreline_training", package, "publishing") from error

__all__ = ["PublishedVersion", "publish"]
