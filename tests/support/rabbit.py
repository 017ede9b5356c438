"""A RabbitMQ of a test's own, whose alarms it may raise."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.moto import free_port
from kombu import Connection

from support.polling import missing, until

INSTALLED = Path("/usr/lib/rabbitmq/lib")


class OwnRabbit:
    """A RabbitMQ that runs.

    Args:
        scripts: the folder of its programs.
        environment: that it was started with.
        url: where it answers.
    """

    def __init__(self, scripts: Path, environment: dict[str, str], url: str) -> None:
        self._scripts = scripts
        self._environment = environment
        self.url = url

    def raise_alarm(self) -> None:
        self._limit("absolute", "1MB")

    def clear_alarm(self) -> None:
        self._limit("0.9")

    def _limit(self, *words: str) -> None:
        command = [str(self._scripts / "rabbitmqctl"), "set_vm_memory_high_watermark", *words]
        subprocess.run(
            command, env=self._environment, check=True, timeout=60, stdout=subprocess.DEVNULL
        )


@contextmanager
def own_rabbitmq(folder: Path) -> Iterator[OwnRabbit]:
    """A RabbitMQ on a port of its own, with all that it keeps in a folder."""
    scripts = next(iter(sorted(INSTALLED.glob("rabbitmq_server-*/sbin"))), None)
    if scripts is None:
        missing(f"no RabbitMQ in {INSTALLED}")
    port = free_port()
    (folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\n")
    environment = {
        **os.environ,
        "HOME": str(folder),  # of its cookie
        "RABBITMQ_NODENAME": f"test-{uuid.uuid4().hex[:8]}@localhost",
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_DIST_PORT": str(free_port()),
    }
    process = subprocess.Popen(
        [str(scripts / "rabbitmq-server")],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"amqp://guest:guest@127.0.0.1:{port}//"

    def answers() -> bool:
        assert process.poll() is None, "RabbitMQ did not start"
        try:
            with Connection(url, connect_timeout=2) as connection:
                connection.connect()
        except OSError:
            return False
        return True

    try:
        until(answers)
        yield OwnRabbit(scripts, environment, url)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
