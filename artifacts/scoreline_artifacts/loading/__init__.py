"""From the bytes of a version to a pipeline that answers: verify, unpickle, check golden rows."""
