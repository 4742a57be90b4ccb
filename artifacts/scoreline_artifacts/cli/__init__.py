"""The commands about artifacts: versions, inspect, keys, retention."""
