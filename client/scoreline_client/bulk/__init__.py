"""Files in, files out: everything of a bulk job that happens at its client."""
