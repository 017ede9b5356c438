"""`tagmill worker` as a user starts it."""

from __future__ import annotations

import itertools
import signal
import subprocess

import psutil

from support.command import Tagmill
from support.polling import until

_numbers = itertools.count()


class Worker:
    """A started `tagmill worker`; what it says goes to a file."""

    def __init__(self, cluster: Tagmill, *arguments: object, **environment: str) -> None:
        self.cluster = cluster
        self._log = cluster.home / f"worker-{next(_numbers)}.log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                cluster.command("worker", *arguments),
                cwd=cluster.home,
                env={**cluster.environment, **environment},
                stdout=output,
                stderr=output,
            )
        self.pid = self._process.pid

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End it and its lanes without a word."""
        for process in [*psutil.Process(self.pid).children(recursive=True)] if self._runs() else []:
            process.kill()
        self._process.kill()
        self._process.wait()

    def _runs(self) -> bool:
        return self._process.poll() is None

    def log(self) -> str:
        return self._log.read_text()

    def lanes(self) -> list[psutil.Process]:
        """The lanes that said they are ready and are there."""
        pids = [
            int(line.partition("pid=")[2].split()[0])
            for line in self.log().splitlines()
            if "lane ready" in line
        ]
        return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]

    def await_lanes(self, count: int) -> list[psutil.Process]:
        def ready() -> bool:
            assert self._runs(), self.log()
            return len(self.lanes()) == count and self.check("ready").returncode == 0

        until(ready)
        return self.lanes()

    def check(self, what: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.cluster.command("worker", "--check", what),
            env=self.cluster.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def end(self, signum: int = signal.SIGTERM) -> int:
        """Send a signal and wait; nothing is left running then."""
        family = [*psutil.Process(self.pid).children(recursive=True)]
        self._process.send_signal(signum)
        code = self._process.wait(60)
        until(lambda: not any(process.is_running() for process in family))
        return code
