"""Our own face: predictions, jobs, files, models, and the OpenAPI document of all that."""
