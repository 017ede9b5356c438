"""An S3 server on this machine: moto, in a process of its own."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

START_S = 60.0


@contextmanager
def moto_server() -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    """The server's process, and the environment by which boto3 and the command find it.

    Raises:
        RuntimeError: if it does not start.
    """
    port = free_port()
    with s3_server(["moto.server", "-H", "127.0.0.1", "-p", str(port)], port) as found:
        yield found


@contextmanager
def s3_server(
    module: list[str], port: int
) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    """As `moto_server`, for a Python module with its arguments that serves S3 on a port."""
    server = subprocess.Popen(
        [sys.executable, "-m", *module], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_S
        while not _answers(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{module[0]} did not start (exit code {server.returncode})")
            time.sleep(0.05)
        yield (
            server,
            {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": "testing",
                "AWS_SECRET_ACCESS_KEY": "testing",
                "AWS_DEFAULT_REGION": "us-east-1",
                "TAGMILL_S3_PATH_STYLE": "1",
            },
        )
    finally:
        server.terminate()
        server.wait(20)


def client_of(environment: Mapping[str, str]) -> Any:
    """A client of an S3 server, by the environment with which others find it."""
    import boto3  # which whoever only wants a server does without

    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
