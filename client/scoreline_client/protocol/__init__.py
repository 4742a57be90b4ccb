"""What travels between a caller and a worker: messages, record bodies, tables, Redis keys."""
