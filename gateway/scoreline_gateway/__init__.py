"""The gateway: HTTP in front of the queue, an ASGI app: `uvicorn scoreline_gateway:app`"""

from scoreline_gateway.app import app, build_app
from scoreline_gateway.settings import GatewaySettings

__all__ = ["GatewaySettings", "app", "build_app"]
