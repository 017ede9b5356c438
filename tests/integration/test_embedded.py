"""The embedded broker and the state folder, for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import redis

from tagmill.broker import Broker
from tagmill.contract import ChunkMessage
from tagmill.embedded import EmbeddedBroker
from tagmill.errors import BrokerError, StateFolderError
from tagmill.settings import load_settings
from tagmill.state_folder import StateFolder


def client(broker: EmbeddedBroker) -> redis.Redis:
    return redis.Redis(unix_socket_path=broker.url.removeprefix("redis+socket://"))


def test_messages_survive_the_broker_in_its_append_only_file(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    with folder.locked():
        broker = EmbeddedBroker(folder)
        broker.start()
        sender = Broker(load_settings(broker_url=broker.url))
        sender.send([ChunkMessage(job="j", seq=seq) for seq in range(3)])
        sender.close()
        broker.stop()
        again = EmbeddedBroker(folder)
        again.start()
        with client(again) as connection:
            assert connection.llen("label:3") == 3
            body = json.loads(connection.lindex("label:3", -1))
        again.stop()
        again.forget()
        again.start()
        with client(again) as connection:
            assert connection.llen("label:3") == 0
        again.stop()
    assert body["content-type"] == "application/json"


def test_folders_of_long_names_are_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    folder = StateFolder(long / "state")
    with folder.locked():
        broker = EmbeddedBroker(folder)
        broker.start()
        with client(broker) as connection:
            assert connection.ping()
        broker.stop()
    assert not os.path.exists(os.path.dirname(broker.url.removeprefix("redis+socket://")))


def test_leftover_server_is_ended_before_a_new_one_starts(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    with folder.locked():
        lost = EmbeddedBroker(folder)
        lost.start()
        with client(lost) as connection:
            pid = connection.info("server")["process_id"]
        broker = EmbeddedBroker(folder)
        broker.start()
        with client(broker) as connection:
            assert connection.info("server")["process_id"] != pid
        lost.stop()  # reaps it
        assert not psutil.pid_exists(pid)
        broker.stop()


def test_long_path_of_the_state_folder_is_no_trouble(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / ("d" * 120))
    with folder.locked():
        broker = EmbeddedBroker(folder)
        broker.start()
        with client(broker) as connection:
            assert connection.ping()
        broker.stop()
    assert not Path(broker.url.removeprefix("redis+socket://")).parent.exists()


def test_server_that_cannot_start_is_said(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    with folder.locked():
        (folder.broker / "appendonlydir").write_text("in the way")
        with pytest.raises(BrokerError, match="did not start"):
            EmbeddedBroker(folder).start()


def test_state_folder_is_for_one_at_a_time(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    said = f"process {os.getpid()}"
    with folder.locked(), pytest.raises(StateFolderError, match=said), folder.locked():
        pass
    with folder.locked():
        pass


def test_state_folder_of_another_format_is_refused(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    for content, said in (('{"format": 99}', "has format 99"), ("nonsense", "not a state folder")):
        (tmp_path / "format.json").write_text(content)
        with pytest.raises(StateFolderError, match=said), folder.locked():
            pass


def test_state_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StateFolderError, match="Not a directory"),
        StateFolder(tmp_path / "file" / "state").locked(),
    ):
        pass


def test_light_side_imports_no_model_runtime_and_nothing_of_the_worker() -> None:
    code = (
        "import sys, tagmill.cli; "
        "print([m for m in sys.modules if m.split('.')[0] in "
        "('tensorflow', 'keras', 'ai_edge_litert', 'numpy', 'tagmill_worker', 'pyarrow')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
