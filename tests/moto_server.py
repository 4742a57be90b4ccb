"""moto's S3, as a program: prints its port, and runs until it is killed.

One request at a time: moto looks whether an object exists and writes it in two steps, which S3 does in
one. With threads, `If-None-Match` would not be kept.
"""

from __future__ import annotations

import sys

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

if __name__ == "__main__":
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, threaded=False)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
