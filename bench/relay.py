"""A port that passes on to another one of this machine, and whose connections can be cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable


class Relay:
    """Passes on whatever comes, both ways, until it is closed.

    Args:
        port: to which it passes on, of 127.0.0.1.
        wrap: what is done with each socket that is connected, to speak TLS for instance.

    Attributes:
        port: on which it listens, of 127.0.0.1.
    """

    def __init__(
        self, port: int, *, wrap: Callable[[socket.socket], socket.socket] = lambda raw: raw
    ) -> None:
        self._far = port
        self._wrap = wrap
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> int:
        """Cut all connections; how many there were."""
        cut = list(self._open)
        for near in cut:
            with contextlib.suppress(OSError):
                near.shutdown(socket.SHUT_RDWR)
        return len(cut)

    def close(self) -> None:
        """Take no more connections, and cut those that there are."""
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                raw, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            raw,
            self._wrap(raw) as near,
            socket.create_connection(("127.0.0.1", self._far)) as far,
        ):
            self._open.add(near)
            try:
                threading.Thread(target=_pump, args=(far, near), daemon=True).start()
                _pump(near, far)
            finally:
                self._open.discard(near)


def _pump(from_: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := from_.recv(65536):
            to.sendall(data)
    with contextlib.suppress(OSError):
        to.shutdown(socket.SHUT_WR)
