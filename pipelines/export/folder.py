"""A finished folder of files, brought to where people want it: whole, or without a manifest."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import fsspec


def listed(folder: Path, rows: dict[str, int | None]) -> list[dict[str, Any]]:
    """For a manifest: each file's name, rows, bytes and SHA-256."""
    found = []
    for name, count in rows.items():
        with (folder / name).open("rb") as file:
            found.append({"name": name, "rows": count, "bytes": (folder / name).stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()})
    return found


def publish(folder: Path, to: str) -> None:
    """Copy the files to a folder at any fsspec URL, beside their names, then rename them, manifest.json last."""
    fs, target = fsspec.core.url_to_fs(to.rstrip("/"))
    fs.makedirs(target, exist_ok=True)
    names = sorted((p.name for p in folder.iterdir()), key=lambda n: (n == "manifest.json", n))
    if fs.exists(f"{target}/manifest.json"):
        fs.rm_file(f"{target}/manifest.json")
    for name in names:
        fs.put_file(str(folder / name), f"{target}/.{name}.part")
    for name in names:
        fs.mv(f"{target}/.{name}.part", f"{target}/{name}")
