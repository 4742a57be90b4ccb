"""From the bytes of a version to a pipeline that answers: open, verify, unpickle, check golden rows."""
