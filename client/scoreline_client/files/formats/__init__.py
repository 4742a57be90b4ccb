"""The formats of a file: each is cut into chunks and its answers are joined on."""
