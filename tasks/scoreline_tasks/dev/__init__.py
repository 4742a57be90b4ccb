"""Running a server, workers and the demo on a developer's machine."""
