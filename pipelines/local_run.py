"""Run the DAGs on this machine under Airflow's own scheduler: what `make run` does.

`LocalAirflow` starts Airflow's real components (API server, scheduler, DAG processor) on 127.0.0.1 with everything
they write below `settings.home/airflow`, and stops them again. `run` drives them through the REST API, as any
client would; nothing here imports Airflow.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import IO, Any

import httpx
import psutil
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipelines.errors import NotConfigured, RetryLater, StopTheLine
from pipelines.settings import ROOT, Settings

DAGS = ("prices", "inference_logs", "marts", "maintenance")
START_SECONDS = 120
STOP_SECONDS = 10
POLL_SECONDS = 0.5
IDLE_SECONDS = 60
SEND_ATTEMPTS = 5
LOG_TAIL_LINES = 30
TASK_ENDS = {"success", "failed", "upstream_failed", "skipped", "removed"}
BUILT_FROM = {"core.inference", "core.price"}  # the tables whose announcements start `marts`

# The scheduler would also serve task logs to the whole network; on one machine the API server reads the files.
COMPONENTS = {
    "api-server": ["api-server"],
    "dag-processor": ["dag-processor"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
}


@dataclass(frozen=True)
class TaskFailure:
    """One task instance that failed for good, with the end of its last try's log."""

    dag: str
    day: str
    task: str
    log_tail: str


class LocalAirflow:
    """Airflow's components for one home: a context manager that starts them and leaves none behind.

    Entering returns once the API answers, the scheduler and DAG processor beat, and every DAG has been parsed.
    Raises StopTheLine when a component dies or a DAG does not import (the message names the log), RetryLater when
    they are not ready in time, and StopTheLine when another run holds the same home.
    """

    def __init__(self, home: Path, *, port: int | None = None, env: dict[str, str] | None = None) -> None:
        self.home = home.resolve() / "airflow"
        self.port = port or free_port(int(os.environ.get("FLYWHEEL_PORT", "8080")))
        self.url = f"http://127.0.0.1:{self.port}"
        self.user = "admin"
        self.password = ""
        self.phases: dict[str, float] = {}
        self._extra_env = env or {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lock: IO[str] | None = None
        self._http = httpx.Client(base_url=f"{self.url}/api/v2", timeout=30, trust_env=False)

    def __enter__(self) -> LocalAirflow:
        self.home.mkdir(parents=True, exist_ok=True)
        try:
            self._take_lock()
            self._set_password()
            with self._phase("database"):
                self._migrate()
            with self._phase("api-server"):
                self._start("api-server")
                self._start("dag-processor")
                self._wait_for("the API server", self._login)
            with self._phase("scheduler"):
                # A task queued before the API server answers dies at once, and a home that was stopped in mid-run
                # has such tasks: the scheduler comes last.
                self._start("scheduler")
                # The first call to the API that tasks talk to takes as long as the scheduler's start, longer than a task
                # waits for an answer: make it now.
                self._wait_for("the task API", self._is_task_api_warm)
                self._make_pools()
                self._wait_for("the scheduler", self._is_healthy)
            with self._phase("dags"):
                self._wait_for("the DAGs", self._are_dags_parsed)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    # -- processes -------------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """What the components run with: local.env, then the caller's own AIRFLOW__*, then this home's paths."""
        env = dict(line.split("=", 1) for line in _lines(ROOT / "infra" / "airflow" / "local.env"))
        env |= os.environ
        env |= {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self._password_file),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.home / "logs"),
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "PYTHONSAFEPATH": "1",  # the folder we are called from may hold a `pipelines` or `dags` of its own
            "PYTHONUNBUFFERED": "1",
            "FLYWHEEL_HOME": str(self.home.parent),
            "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1"])),
        }
        return env | self._extra_env

    @property
    def _password_file(self) -> Path:
        return self.home / "passwords.json"

    def _set_password(self) -> None:
        if self._password_file.exists():
            self.password = json.loads(self._password_file.read_text())[self.user]
            return
        self.password = secrets.token_urlsafe(12)
        descriptor = os.open(self._password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({self.user: self.password}, file)

    def _take_lock(self) -> None:
        self._lock = (self.home / "lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # The components inherit the lock: one that outlived a killed run still holds it.
            raise StopTheLine(
                f"Airflow already runs on {self.home.parent}; stop it, or set FLYWHEEL_HOME to another folder"
            ) from None

    def _migrate(self) -> None:
        stamp = self.home / "migrated"
        wanted = version("apache-airflow-core")
        if stamp.exists() and stamp.read_text() == wanted:
            return
        self._start("db", ["db", "migrate"])
        if self._processes.pop("db").wait() != 0:
            raise StopTheLine(f"Airflow's database could not be made; see {self.log_file('db')}")
        stamp.write_text(wanted)

    def log_file(self, component: str) -> Path:
        """Where a component's own output goes."""
        return self.home / "logs" / f"{component}.log"

    def _start(self, name: str, arguments: list[str] | None = None) -> None:
        log = self.log_file(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "airflow", *(arguments or COMPONENTS[name])],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                start_new_session=True,  # Ctrl-C reaches us alone
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
                pass_fds=[self._lock.fileno()] if self._lock else [],
            )

    def check(self) -> None:
        """Raise StopTheLine when a component has ended."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise StopTheLine(f"Airflow's {name} ended with code {process.returncode}; see {self.log_file(name)}")

    def stop(self) -> None:
        """Stop every component and whatever it started; kill what does not go in time."""
        self._http.close()  # the API server waits for open connections
        with self._phase("stop"):
            # The scheduler's tasks talk to the API server to the last: it goes after them, and has nothing to finish.
            for name in ("scheduler", "dag-processor", "db", "api-server"):
                if process := self._processes.pop(name, None):
                    _end(process, 1 if name == "api-server" else STOP_SECONDS)
        if self._lock:
            self._lock.close()

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.phases[name] = time.monotonic() - started

    def _wait_for(self, what: str, is_ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check()
            with contextlib.suppress(httpx.TransportError):
                if is_ready():
                    return
            time.sleep(0.2)
        raise RetryLater(f"{what} did not come up in {START_SECONDS} s; see the logs in {self.home / 'logs'}")

    def _login(self) -> bool:
        answer = self._http.post(f"{self.url}/auth/token", json={"username": self.user, "password": self.password})
        if answer.status_code == 201:
            self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return answer.status_code == 201

    def _is_task_api_warm(self) -> bool:
        return httpx.get(f"{self.url}/execution/health", timeout=START_SECONDS, trust_env=False).is_success

    def _is_healthy(self) -> bool:
        health = self.get("/monitor/health")
        return all(health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))

    def _are_dags_parsed(self) -> bool:
        if errors := self.get("/importErrors")["import_errors"]:
            first = errors[0]
            raise StopTheLine(f"{first['filename']} does not import:\n{first['stack_trace']}")
        found = {dag["dag_id"] for dag in self.get("/dags", exclude_stale=True)["dags"]}
        return found.issuperset(DAGS)

    def _make_pools(self) -> None:
        pools = json.loads((ROOT / "infra" / "airflow" / "pools.json").read_text())
        known = {pool["name"] for pool in self.get("/pools")["pools"]}
        for name in pools.keys() - known:
            self._send("POST", "/pools", json={"name": name, **pools[name]}, accept=(httpx.codes.CONFLICT,))

    # -- the REST API ----------------------------------------------------------------------------------------

    def get(self, path: str, **parameters: Any) -> Any:
        """GET below /api/v2. Raises StopTheLine when Airflow refuses, RetryLater when it keeps failing."""
        return self._send("GET", path, params=parameters).json()

    def _send(self, method: str, path: str, *, accept: tuple[int, ...] = (), **request: Any) -> httpx.Response:
        for attempt in range(SEND_ATTEMPTS):
            if attempt:
                time.sleep(1)
            try:
                answer = self._http.request(method, path, **request)
            except httpx.TransportError:
                self.check()
                continue
            if answer.status_code == 401 and self._login():  # the token's day is over
                continue
            # On SQLite the API server can block itself for 5 s and then fail: a request that writes to the audit
            # log waits for one of a task's, which waits for the same event loop. Asked again, it succeeds.
            if answer.is_server_error:
                continue
            if answer.is_error and answer.status_code not in accept:
                raise StopTheLine(f"Airflow refused {method} {path}: {answer.status_code} {answer.text[:500]}")
            return answer
        raise RetryLater(f"Airflow failed {SEND_ATTEMPTS} times at {method} {path}; see {self.log_file('api-server')}")

    def unpause(self, dags: Sequence[str] = DAGS) -> None:
        """Let these DAGs run; `marts` first, for a paused DAG misses the announcements made to it."""
        for dag in sorted(dags, key=lambda name: name != "marts"):
            self._send("PATCH", f"/dags/{dag}", json={"is_paused": False})

    def trigger(self, dag: str, day: date) -> str:
        """Start a DAG for one UTC day; returns the run's id."""
        run = f"local__{day}__{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"  # our own id: asking twice starts one run
        body = {"dag_run_id": run, "logical_date": None, "partition_key": day.isoformat()}
        self._send("POST", f"/dags/{dag}/dagRuns", json=body, accept=(httpx.codes.CONFLICT,))
        return run

    def backfill(self, dag: str, first: date, last: date) -> int:
        """Start a DAG for every UTC day from first to last, both included; returns the backfill's id."""
        body = {"dag_id": dag, "from_date": f"{first}T00:00:00Z", "to_date": f"{last}T00:00:00Z"}
        return self._send("POST", "/backfills", json=body).json()["id"]

    def runs(self, since: datetime) -> list[dict[str, Any]]:
        """Every DAG's runs due since then."""
        return self._all("/dags/~/dagRuns", "dag_runs", run_after_gte=since.isoformat())

    def tasks(self, since: datetime) -> list[dict[str, Any]]:
        """The task instances of every DAG's runs due since then."""
        return self._all("/dags/~/dagRuns/~/taskInstances", "task_instances", run_after_gte=since.isoformat())

    def announcements(self, since: datetime) -> list[dict[str, Any]]:
        """The asset events emitted since then, each with the runs it started."""
        return self._all("/assets/events", "asset_events", timestamp_gte=since.isoformat())

    def _all(self, path: str, key: str, **parameters: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while True:
            page = self.get(path, limit=100, offset=len(rows), **parameters)
            rows += page[key]
            if not page[key] or len(rows) >= page["total_entries"]:
                return rows

    def log_tail(self, task: dict[str, Any]) -> str:
        """The end of the log of a task instance's last try."""
        answer = self._http.get(
            f"/dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}/taskInstances/{task['task_id']}"
            f"/logs/{max(1, task['try_number'])}",
            params={"map_index": task["map_index"], "full_content": True},
            headers={"Accept": "application/x-ndjson"},
        )
        records = [json.loads(line) for line in answer.text.splitlines() if line.startswith("{")]
        lines = [_log_line(record) for record in records if record.get("level") and not record["event"].startswith("::")]
        return "\n".join(lines[-LOG_TAIL_LINES:]) or f"(no log; see {self.home / 'logs'})"


def run(
    settings: Settings,
    days: Sequence[date],
    *,
    answer: Callable[[Settings], None],
    once: bool,
    price_days: Sequence[date] | None = None,
    console: Console | None = None,
) -> int:
    """Fill these UTC days through Airflow: prices first (for `price_days`, by default the first day), then the logs;
    the marts follow by their assets. Then call `answer(settings)`.

    With `once`, stop Airflow and return; otherwise leave the UI up until Ctrl-C. Returns the exit code: 0 when every
    task succeeded, 1 when one failed (its log's end is printed, and `answer` is not called), 130 after Ctrl-C and 143
    after SIGTERM in mid-work. Whatever the way out, no Airflow process is left. Raises FlywheelError as LocalAirflow does.
    """
    console = console or Console()
    previous = signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        console.print("Starting Airflow …")
        with LocalAirflow(settings.home, env=_settings_env(settings)) as airflow:
            console.print(
                f"Airflow runs at {airflow.url} (user {airflow.user}, password {airflow.password})",
                highlight=False,
                markup=False,
            )
            failures = fill(airflow, days, sorted(days)[:1] if price_days is None else price_days, console)
            for failure in failures:
                console.rule(f"[red]{failure.dag} {failure.day}: {escape(failure.task)} failed", align="left")
                console.print(failure.log_tail, markup=False, highlight=False)
            if not failures:
                answer(settings)
            if not once:
                console.print(f"\nAirflow stays up at {airflow.url}; Ctrl-C stops it.", highlight=False)
                with contextlib.suppress(KeyboardInterrupt):
                    while True:
                        airflow.check()
                        time.sleep(POLL_SECONDS)
            console.print("Stopping Airflow …")
            return 1 if failures else 0
    except _Terminated:
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGTERM, previous)


def fill(airflow: LocalAirflow, days: Sequence[date], price_days: Sequence[date], console: Console) -> list[TaskFailure]:
    """Run the DAGs for these days to their end, showing progress; returns the tasks that failed."""
    since = datetime.now(UTC)
    airflow.unpause()
    with _Progress(console) as progress:
        for dag, wanted in (("prices", price_days), ("inference_logs", days)):
            for day in wanted:
                airflow.trigger(dag, day)
            _wait_until(airflow, since, progress, lambda runs, dag=dag: _ended(runs, dag))
            if failures := _failures(airflow, since, dag):
                return failures
        _wait_until(airflow, since, progress, lambda runs: _ended(runs) and _all_consumed(airflow, since))
    return _failures(airflow, since)


def _wait_until(
    airflow: LocalAirflow,
    since: datetime,
    progress: _Progress,
    is_done: Callable[[list[dict[str, Any]]], bool],
) -> None:
    idle_since = time.monotonic()
    while True:
        airflow.check()
        # Airflow's own answers fail for the moment in which a run exists and has not started.
        with contextlib.suppress(RetryLater, httpx.TransportError):
            runs = airflow.runs(since)
            progress.show(runs, airflow.tasks(since))
            if is_done(runs):
                return
            if not _ended(runs):
                idle_since = time.monotonic()
        if time.monotonic() - idle_since > IDLE_SECONDS:
            raise StopTheLine(f"nothing has run for {IDLE_SECONDS} s; is a DAG paused? See {airflow.url}")
        time.sleep(POLL_SECONDS)


def _ended(runs: list[dict[str, Any]], dag: str | None = None) -> bool:
    return all(run["state"] in ("success", "failed") for run in runs if dag in (None, run["dag_id"]))


def _all_consumed(airflow: LocalAirflow, since: datetime) -> bool:
    """Whether each announced day has started its marts: the scheduler does so a moment after the announcement."""
    events = [event for event in airflow.announcements(since) if event["name"] in BUILT_FROM]
    return all(event["created_dagruns"] for event in events)


def _failures(airflow: LocalAirflow, since: datetime, dag: str | None = None) -> list[TaskFailure]:
    days = {run["dag_run_id"]: run["partition_key"] or "" for run in airflow.runs(since)}
    return [
        TaskFailure(task["dag_id"], days[task["dag_run_id"]], _task_name(task), airflow.log_tail(task))
        for task in airflow.tasks(since)
        if task["state"] == "failed" and dag in (None, task["dag_id"])
    ]


class _Progress:
    """One bar a DAG in a terminal; one line a finished task elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[doing]}", style="dim", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._bar_of: dict[str, Any] = {}
        self._told: set[str] = set()

    def __enter__(self) -> _Progress:
        self._bars.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bars.stop()

    def show(self, runs: list[dict[str, Any]], tasks: list[dict[str, Any]]) -> None:
        days = {run["dag_run_id"]: run["partition_key"] or "" for run in runs}
        for dag in DAGS:
            mine = [task for task in tasks if task["dag_id"] == dag]
            if not mine:
                continue
            ended = [task for task in mine if task["state"] in TASK_ENDS]
            doing = {
                f"{days.get(task['dag_run_id'], '')} {_task_name(task)}"
                + (" (will retry)" if task["state"] == "up_for_retry" else "")
                for task in mine
                if task["state"] in ("running", "up_for_retry")
            }
            if dag not in self._bar_of:
                self._bar_of[dag] = self._bars.add_task(dag, doing="")
            self._bars.update(self._bar_of[dag], completed=len(ended), total=len(mine), doing=", ".join(sorted(doing)[:3]))
            for task in ended:
                self._tell(task, days.get(task["dag_run_id"], ""))

    def _tell(self, task: dict[str, Any], day: str) -> None:
        if self._console.is_terminal or task["id"] in self._told:
            return
        self._told.add(task["id"])
        took = f"{task['duration']:.1f} s" if task["duration"] is not None else ""
        self._console.print(
            f"{task['dag_id']} {day} {_task_name(task)} {task['state']} {took}".rstrip(),
            markup=False,
            highlight=False,
        )


def free_port(wanted: int) -> int:
    """The wanted port of 127.0.0.1 if it is free, else one the system picks."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return probe.getsockname()[1]
    raise RetryLater("no port is free on 127.0.0.1")


def _settings_env(settings: Settings) -> dict[str, str]:
    """What the tasks need to see the same settings as the caller, also those given on the command line."""
    given = settings.model_dump(mode="json", include={"sources", "feeds"})
    return {f"FLYWHEEL_{name.upper()}": json.dumps(value) for name, value in given.items()}


def _task_name(task: dict[str, Any]) -> str:
    index = task["rendered_map_index"] or (task["map_index"] if task["map_index"] >= 0 else None)
    return task["task_id"] if index is None else f"{task['task_id']}[{index}]"


def _log_line(record: dict[str, Any]) -> str:
    """One record of a task's log as text, with the exceptions it carries and where the last was raised."""
    lines = [f"{str(record.get('timestamp') or '')[:19]} {record.get('level', ''):<8} {record.get('event', '')}"]
    for error in record.get("error_detail") or []:
        lines += [f"    at {frame['filename']}:{frame['lineno']}" for frame in error.get("frames", [])[-1:]]
        lines += [f"    {error['exc_type']}: {error['exc_value']}"]
    return "\n".join(lines)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise NotConfigured(f"{path} is missing: `make run` needs the whole repository, not the package alone")
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def _end_with_parent() -> None:
    """Have Linux send this process SIGTERM when the one that started it is gone, also by SIGKILL."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """Ask the component to end; kill what it started and what will not end in time, or at once on a second Ctrl-C."""
    started = _descendants(process.pid)  # tasks lead process groups of their own
    with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        process.terminate()
        process.wait(patience_s)
    for survivor in {*started, *_descendants(process.pid)}:
        with contextlib.suppress(psutil.NoSuchProcess):
            survivor.kill()
    process.kill()
    process.wait()


def _descendants(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which is to end things as Ctrl-C does."""


def _raise_terminated(signum: int, frame: FrameType | None) -> None:
    raise _Terminated
