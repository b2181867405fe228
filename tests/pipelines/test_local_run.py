"""The local run: ports, credentials, settings, and that nothing outlives it."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipelines.errors import StopTheLine
from pipelines.local_run import LocalAirflow, _end, _log_line, _settings_env, free_port
from pipelines.settings import Settings, Source

ROOT = Path(__file__).resolve().parents[2]


def test_a_free_port_is_taken_as_wanted_and_a_busy_one_replaced():
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        taken = busy.getsockname()[1]
        assert free_port(taken) not in (taken, 0)
    assert free_port(taken) == taken


def test_everything_is_below_the_home_and_on_loopback(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "3")
    env = LocalAirflow(tmp_path, port=8123).environment()
    home = str(tmp_path / "airflow")
    assert env["AIRFLOW_HOME"] == home
    assert env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"sqlite:///{home}/airflow.db"
    assert env["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8123/execution/"
    assert env["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
    assert env["AIRFLOW__CORE__PARALLELISM"] == "3", "one's own AIRFLOW__* wins over local.env"
    assert env["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_the_password_is_made_once_and_readable_by_its_owner_alone(tmp_path):
    first, second = LocalAirflow(tmp_path), LocalAirflow(tmp_path)
    first.home.mkdir()
    first._set_password()
    second._set_password()
    assert first.password == second.password
    assert len(first.password) >= 16
    assert stat.S_IMODE((first.home / "passwords.json").stat().st_mode) == 0o600


def test_two_runs_do_not_share_a_home(tmp_path):
    first = LocalAirflow(tmp_path)
    first.home.mkdir()
    first._take_lock()
    with pytest.raises(StopTheLine, match="Airflow already runs on"), LocalAirflow(tmp_path):
        pass
    first.stop()
    LocalAirflow(tmp_path)._take_lock()


def test_tasks_see_the_sources_given_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = Settings.load(sources={"mine": Source(url="s3://bucket/{day}", format="litellm")})
    for name, value in _settings_env(given).items():
        monkeypatch.setenv(name, value)
    seen = Settings.load()
    assert seen.sources == given.sources
    assert seen.feeds == given.feeds


def test_ending_a_component_ends_what_it_started_even_if_it_will_not(tmp_path):
    pids = tmp_path / "pids"
    script = f"trap '' TERM; setsid sleep 600 & echo $! $$ > {pids}; wait"
    process = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    while not pids.exists() or len(pids.read_text().split()) < 2:
        time.sleep(0.01)
    _end(process, patience_s=0.2)
    time.sleep(0.1)
    alive = [pid for pid in map(int, pids.read_text().split()) if psutil.pid_exists(pid)]
    assert [pid for pid in alive if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE] == []


def test_a_log_line_carries_the_error_and_where_it_was_raised():
    record = {
        "timestamp": "2026-03-01T00:00:00.000000Z",
        "level": "error",
        "event": "Task failed with exception",
        "error_detail": [{"exc_type": "StopTheLine", "exc_value": "no such file", "frames": [{"filename": "a.py", "lineno": 7}]}],
    }
    assert _log_line(record).splitlines() == [
        "2026-03-01T00:00:00 error    Task failed with exception",
        "    at a.py:7",
        "    StopTheLine: no such file",
    ]


@pytest.mark.airflow
def test_sigterm_in_mid_work_leaves_no_process_behind(tmp_path):
    script = (
        "import sys; from datetime import date; from pipelines.local_run import run; from pipelines.settings import Settings;"
        "sys.exit(run(Settings.load(), [date(2026, 3, 1)], answer=print, once=True))"
    )
    sources = json.dumps({"none": {"url": str(tmp_path / "none"), "format": "litellm"}})
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | {"FLYWHEEL_HOME": str(tmp_path), "FLYWHEEL_SOURCES": sources, "PYTHONUNBUFFERED": "1"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    lines = iter(child.stdout.readline, "")
    assert any(line.startswith("Airflow runs at http://127.0.0.1:") for line in lines)
    started = psutil.Process(child.pid).children(recursive=True)
    assert len(started) >= 3
    child.send_signal(signal.SIGTERM)
    rest = child.communicate(timeout=40)[0]
    assert child.returncode == 128 + signal.SIGTERM, rest
    assert [process for process in started if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
