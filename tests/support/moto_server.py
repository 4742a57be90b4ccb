"""moto's S3, as a program: prints its port, and runs until its standard input ends.

One request at a time: moto looks whether an object exists and writes it in two steps, which S3 does in
one. With threads, `If-None-Match` would not be kept.
"""

from __future__ import annotations

import os
import sys
import threading

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


def _end_with_our_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_our_parent, daemon=True).start()
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, threaded=False)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
