"""Servers that stand in for a company's own, on loopback and in a folder of their own: PostgreSQL, and an S3 that moto plays."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx

BINARIES = [Path("/usr/lib/postgresql"), Path("/usr/local/pgsql")]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def postgres_binaries() -> Path | None:
    """The folder of initdb and postgres, on the PATH or where Debian keeps it."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return next((path.parent for folder in BINARIES for path in sorted(folder.glob("**/bin/initdb"), reverse=True)), None)


def no_postgres() -> str | None:
    """Why there can be no PostgreSQL here; None when there can."""
    if find_spec("psycopg2") is None:
        return "psycopg2 is not installed (the extra `postgres`)"
    if postgres_binaries() is None:
        return "PostgreSQL's initdb is not installed"
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "PostgreSQL does not run as root, and there is no setpriv to be somebody else"
    return None


def no_s3() -> str | None:
    """Why there can be no S3 here; None when there can."""
    missing = [name for name in ("s3fs", "moto", "flask") if find_spec(name) is None]
    return f"not installed: {', '.join(missing)} (the extra `s3`, and moto[server])" if missing else None


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL of its own; yields the SQLAlchemy URL of a database on it."""
    binaries, port = postgres_binaries(), free_port()
    folder.mkdir(parents=True)
    user: list[str] = []
    if os.geteuid() == 0:
        # It refuses to run as root; nobody owns the folder instead, and may walk to it.
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        os.chown(folder, 65534, 65534)
        for parent in folder.parents:
            if parent.stat().st_uid == 0 and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o011)
    data = folder / "data"
    subprocess.run([*user, binaries / "initdb", "-D", data, "-U", "flywheel", "--auth=trust", "--no-sync", "-E", "UTF8"], check=True, stdout=subprocess.DEVNULL, cwd=folder)
    with (folder / "server.log").open("wb") as out:
        server = subprocess.Popen(
            [*user, binaries / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder, "-c", "fsync=off"],
            stdout=out, stderr=out, cwd=folder,
        )
    try:
        deadline = time.monotonic() + 30
        ready = [binaries / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"]
        while subprocess.run(ready, check=False).returncode:
            assert server.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL did not start"
            time.sleep(0.1)
        yield f"postgresql+psycopg2://flywheel@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # a fast shutdown: it waits for nobody
        server.wait(20)


@contextmanager
def s3(folder: Path, *buckets: str) -> Iterator[dict[str, str]]:
    """An S3 of its own with these buckets; yields the environment with which clients find it."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "s3.log").open("wb") as out:
        server = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        for bucket in buckets:
            while True:
                try:
                    if httpx.put(f"{url}/{bucket}", trust_env=False).is_success:
                        break
                except httpx.TransportError:
                    assert server.poll() is None, (folder / "s3.log").read_text()
                assert time.monotonic() < deadline, "the S3 did not start"
                time.sleep(0.1)
        yield {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    finally:
        server.terminate()
        server.wait(20)
