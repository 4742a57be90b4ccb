"""The Pima Indians Diabetes job: data, features, training."""

__all__: list[str] = []
