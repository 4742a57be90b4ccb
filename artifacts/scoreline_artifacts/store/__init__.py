"""Where versions are kept: storage, signatures, releases, cache, retention."""
