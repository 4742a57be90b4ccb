"""The stream of requests: read, lease, finish, recover."""
