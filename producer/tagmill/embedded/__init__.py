"""The servers of the embedded default: a Valkey and one worker, started and stopped by a run."""

from __future__ import annotations

from tagmill.embedded.broker import EmbeddedBroker, valkey_server
from tagmill.embedded.servers import Servers
from tagmill.embedded.worker import (
    build_model,
    import_model,
    label_words,
    train_words,
    worker_environment,
)

__all__ = [
    "EmbeddedBroker",
    "Servers",
    "build_model",
    "import_model",
    "label_words",
    "train_words",
    "valkey_server",
    "worker_environment",
]
