"""A request on its way to Redis and its answer on the way back."""
