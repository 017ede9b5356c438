"""Brokers for tests: a Valkey of our own, a Sentinel that watches it, TLS before it."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis
from bench import services
from bench.moto import free_port
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kombu import Connection

from support.polling import missing, until
from tagmill.celery_app import celery_app
from tagmill.embedded import valkey_server
from tagmill.settings import Settings, load_settings

RABBIT = "amqp://guest:guest@127.0.0.1:5672//"


@contextmanager
def valkey(folder: Path, *options: str, password: str | None = None) -> Iterator[int]:
    """A Valkey on a port of its own."""
    with services.valkey(folder, *options, password=password) as (port, _):
        yield port


@contextmanager
def rabbitmq() -> Iterator[Settings]:
    """The RabbitMQ of this machine, with queues of our own that go afterwards."""
    settings = load_settings(broker_url=RABBIT, namespace=f"test-{uuid.uuid4().hex[:8]}")
    with Connection(RABBIT) as connection:
        try:
            connection.ensure_connection(max_retries=1, timeout=2)
        except OSError:
            missing("no RabbitMQ on its standard port")
        yield settings
        for queue in celery_app(settings).conf.task_queues:
            queue(connection.default_channel).delete()


@contextmanager
def sentinel(folder: Path, port: int, name: str) -> Iterator[int]:
    """A Sentinel that knows the Valkey on a port as the master of that name."""
    own = free_port()
    file = folder / "sentinel.conf"
    file.write_text(f"port {own}\nsentinel monitor {name} 127.0.0.1 {port} 1\n")
    process = subprocess.Popen(
        [valkey_server(), str(file), "--sentinel"], stdout=subprocess.DEVNULL, cwd=folder
    )
    try:
        with redis.Redis(port=own) as client:
            until(lambda: services.pings(client))
        yield own
    finally:
        process.kill()
        process.wait()


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
