"""A proxy before an S3 server that misbehaves on a fixed share of the requests."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import socket
import threading
from collections import Counter
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("error", "slow_down", "reset", "half")
STALL = "stall"
"""Nothing is said, for longer than a client waits."""

STALL_S = 30.0
EVERY = 10


class FaultyProxy:
    """Passes requests on; of every ten one ends in a fault, each kind in its turn.

    Args:
        port: of the real server on this machine.
        kinds: of faults, in the order in which they come, over and over.

    Attributes:
        port: of the proxy.
        faults: how often each fault was served.
    """

    def __init__(self, port: int, kinds: Sequence[str] = FAULTS) -> None:
        self.faults: Counter[str] = Counter()
        counted = itertools.count(1)
        following = itertools.cycle(kinds)
        closing = threading.Event()
        self._closing = closing
        lock = threading.Lock()
        faults = self.faults

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                with lock:
                    fault = next(following) if next(counted) % EVERY == 0 else None
                    if fault:
                        faults[fault] += 1
                if fault in ("error", "slow_down"):
                    status, code = (500, "InternalError") if fault == "error" else (503, "SlowDown")
                    body = (
                        f"<Error><Code>{code}</Code><Message>by design</Message></Error>".encode()
                    )
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                    return
                if fault == STALL:
                    closing.wait(STALL_S)
                if fault in ("reset", STALL):
                    self._break_off()
                    return
                self._pass_on(half=fault == "half")

            def _pass_on(self, *, half: bool) -> None:
                real = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                real.request(self.command, self.path, sent or None, dict(self.headers))
                answer = real.getresponse()
                body = answer.read()
                real.close()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if half else body)
                if half:
                    self.wfile.flush()
                    self._break_off()

            def _break_off(self) -> None:
                self.close_connection = True
                with contextlib.suppress(OSError):  # the client may have gone
                    self.connection.shutdown(socket.SHUT_RDWR)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
