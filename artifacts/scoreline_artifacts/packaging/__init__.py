"""From a pipeline to the files of an artifact that load on a machine without the training project."""
