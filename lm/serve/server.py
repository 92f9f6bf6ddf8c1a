"""The HTTP server: it takes its port before anything slow is done, and ends by a signal."""

import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from lm.core.errors import DataError


def bound(host: str, port: int) -> socket.socket:
    """A socket bound to an address, at which nobody is answered yet; port 0 takes a free one.

    Raises:
      DataError: the address is taken, or not of this machine.
    """
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise cannot_bind(host, port, error) from None
    return listener


def cannot_bind(host: str, port: int, error: OSError) -> DataError:
    where = authority(host, port)
    return DataError(f"cannot bind to {where} ({error.strerror}): choose another --host or --port")


def authority(host: str, port: int) -> str:
    """As they stand in a URL: an address of IPv6 in brackets."""
    host = host.strip("[]")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Server(uvicorn.Server):
    """One that says when it listens. The first SIGTERM or Ctrl-C lets it finish what is being
    answered, however long that takes, a second one ends the process at once."""

    def __init__(self, app: ASGIApp, listening: Callable[[], None] = lambda: None):
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, lifespan="off"
        )
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            at_once(sig, frame)
        self.should_exit = True

    def serve_on(self, listener: socket.socket) -> None:
        """Answers until a signal comes.

        Raises:
          DataError: somebody else has begun to listen there in the meantime.
        """
        for number in (signal.SIGTERM, signal.SIGINT):  # of a signal that comes when it has ended
            signal.signal(number, at_once)
        try:
            self.run(sockets=[listener])
        except OSError as error:
            host, port = listener.getsockname()[:2]
            raise cannot_bind(host, port, error) from None


def at_once(number: int, _: FrameType | None) -> None:
    """Ends the process as a signal does that nobody handles."""
    os._exit(128 + number)
