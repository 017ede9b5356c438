"""Brokers for tests: a Valkey of our own, a Sentinel that watches it, TLS before it."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import redis
from bench import services
from bench.moto import free_port
from bench.relay import Relay
from bench.services import RABBIT
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.polling import missing, until
from tagmill.embedded import valkey_server
from tagmill.settings import Settings, load_settings


@contextmanager
def valkey(folder: Path, *options: str, password: str | None = None) -> Iterator[int]:
    """A Valkey on a port of its own."""
    with services.valkey(folder, *options, password=password) as (port, _):
        yield port


@contextmanager
def rabbitmq() -> Iterator[Settings]:
    """The RabbitMQ of this machine, with queues of our own that go afterwards."""
    settings = load_settings(broker_url=RABBIT, namespace=f"test-{uuid.uuid4().hex[:8]}")
    if not services.is_rabbitmq_there():
        missing("no RabbitMQ on its standard port")
    try:
        yield settings
    finally:
        services.delete_queues(settings)


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
    relay = Relay(port, wrap=lambda raw: context.wrap_socket(raw, server_side=True))
    with closing(relay):
        yield relay.port, certificate


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
