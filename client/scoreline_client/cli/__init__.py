"""The `scoreline` program; the other packages add their commands by entry point."""
