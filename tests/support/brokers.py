"""Brokers for tests: a Valkey of our own, a Sentinel that watches it, TLS before it."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.polling import until
from tagmill.embedded import valkey_server


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def valkey(folder: Path, *options: str, password: str | None = None) -> Iterator[int]:
    """A Valkey on a port of its own."""
    port = free_port()
    with _server(folder, "--port", str(port), "--save", "", *options):
        with redis.Redis(port=port, password=password) as client:
            until(lambda: _answers(client))
        yield port


@contextmanager
def sentinel(folder: Path, port: int, name: str) -> Iterator[int]:
    """A Sentinel that knows the Valkey on a port as the master of that name."""
    own = free_port()
    file = folder / "sentinel.conf"
    file.write_text(f"port {own}\nsentinel monitor {name} 127.0.0.1 {port} 1\n")
    with _server(folder, str(file), "--sentinel", first=True):
        with redis.Redis(port=own) as client:
            until(lambda: _answers(client))
        yield own


@contextmanager
def _server(folder: Path, *arguments: str, first: bool = False) -> Iterator[None]:
    options = [] if first else ["--dir", str(folder), "--bind", "127.0.0.1"]
    process = subprocess.Popen(
        [valkey_server(), *arguments, *options], stdout=subprocess.DEVNULL, cwd=folder
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _answers(client: redis.Redis) -> bool:
    with suppress(redis.RedisError):
        return bool(client.ping())
    return False


@contextmanager
def tls_before(port: int, folder: Path) -> Iterator[tuple[int, Path]]:
    """A port that speaks TLS and passes on to another; and the authority of its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = _certificate(folder)
    context.load_cert_chain(certificate, key)
    listening = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listening, context, port), daemon=True).start()
    try:
        yield int(listening.getsockname()[1]), certificate
    finally:
        listening.close()


def _accept(listening: socket.socket, context: ssl.SSLContext, port: int) -> None:
    while True:
        try:
            raw, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(raw, context, port), daemon=True).start()


def _serve(raw: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with (
        suppress(OSError),
        raw,
        context.wrap_socket(raw, server_side=True) as near,
        socket.create_connection(("127.0.0.1", port)) as far,
    ):
        threading.Thread(target=_pump, args=(far, near), daemon=True).start()
        _pump(near, far)


def _pump(from_: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while data := from_.recv(65536):
            to.sendall(data)
    with suppress(OSError):
        to.shutdown(socket.SHUT_WR)


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tagmill test")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "tls.crt", folder / "tls.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, private
