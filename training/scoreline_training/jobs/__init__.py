"""Training jobs that come with Scoreline."""

__all__: list[str] = []
