"""Files in, files out: each row of an input is answered once, in order."""
