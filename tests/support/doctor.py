"""The doctor in tests: what it says of one thing, and settings that name wrong servers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from tagmill.doctor import Finding, Health, examine
from tagmill.settings import Settings, load_settings


def found(settings: Settings, what: str, **options: Any) -> list[Finding]:
    """What the doctor says of a thing, no secret among it, and a way out where it is ill."""
    findings = list(examine(settings, **options))
    for finding in findings:
        assert "hush" not in f"{finding.said} {finding.mend}"
        if finding.health is Health.ILL:
            assert finding.mend
    return [finding for finding in findings if finding.what == what]


def said(findings: Sequence[Finding], health: Health) -> str:
    return "; ".join(f"{one.said} → {one.mend}" for one in findings if one.health is health)


def ill(settings: Settings, what: str, **options: Any) -> str:
    return said(found(settings, what, **options), Health.ILL)


def notes(settings: Settings, what: str, **options: Any) -> str:
    return said(found(settings, what, **options), Health.NOTE)


def with_broker(settings: Settings, url: str, **more: object) -> Settings:
    return load_settings(**{**settings.model_dump(), "broker_url": url, **more})


def with_store(settings: Settings, url: str) -> Settings:
    return load_settings(**{**settings.model_dump(), "store_url": url})


@contextmanager
def answering(line: bytes) -> Iterator[int]:
    """A server that answers whatever it is sent with one line."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                made, _ = listening.accept()
            except OSError:
                return
            with suppress(OSError), made:
                while made.recv(4096):
                    made.sendall(line)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        listening.close()
