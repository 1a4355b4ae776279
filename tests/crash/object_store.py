"""Lakes on an object store: put there, fetched back; a run dies, or is stopped, at one of its writes.

Decides what a write is: a request that changes an object of the lake. The process ends as its request comes
to a proxy, which then drops it, or passes it on and keeps the answer to itself.
"""

import shutil
import signal
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

import boto3

from tests.crash.forks import Child
from tests.fault_proxy import FaultProxy
from tests.seaweed import KEYS, SeaweedFS

_BUCKET = "lake"
_CHANGES = ("PUT", "POST", "DELETE")
_ENDS = 30  # seconds in which a process that was killed has ended


@dataclass(frozen=True)
class Write:
    """Where a run ends, or (with SIGSTOP) is stopped: at its n-th write below a folder of its lake.

    `down`: the store never has it. `cut`: the store has it, and nobody hears of it.
    """

    number: int
    fault: Literal["down", "cut"] = "down"
    below: str = ""
    signal: int = signal.SIGKILL

    def __str__(self) -> str:
        """Say it for people."""
        return f"write {self.number} below /{self.below} ({self.fault})"


@dataclass
class Watched:
    """The writes of a run: how many came, where it ends, who it is."""

    end: Write | None
    victim: Future[Child] = field(default_factory=Future)
    count: int = 0


class _Proxy(FaultProxy):
    """Counts the writes of each lake's run; ends it at the one."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.runs: dict[str, Watched] = {}

    def fault_of(self, method: str, path: str) -> str | None:
        """Tell whether a run ends here, and then how its request fares."""
        super().fault_of(method, path)
        _, _, name, *rest = f"{path}//".split("/", 3)
        run = self.runs.get(name)
        if run is None or method not in _CHANGES:
            return None
        with self._lock:
            counts = run.end is None or rest[0].startswith(run.end.below)
            run.count += counts
            if run.end is None or not counts or run.count != run.end.number:
                return None
        victim = run.victim.result(_ENDS)
        victim.signal(run.end.signal)
        if run.end.signal == signal.SIGKILL:
            victim.ended.wait(_ENDS)
        return run.end.fault


class Bucket:
    """A SeaweedFS, as a context manager; each lake is a folder of its bucket."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._weed = SeaweedFS(folder)

    def __enter__(self) -> Self:
        """Start it, and a proxy before it."""
        self._weed.start()
        self._proxy = _Proxy(self._weed.address)
        self._client = boto3.client("s3", endpoint_url=self._weed.address, region_name="us-east-1", **KEYS)
        return self

    def __exit__(self, *_: object) -> None:
        """End both."""
        self._proxy.close()
        self._weed.kill()

    def environment(self, name: str) -> dict[str, str]:
        """Give what a run needs to write to a lake."""
        keys = {key.upper(): value for key, value in KEYS.items()}
        return keys | {"LAKE_URI": f"s3://{_BUCKET}/{name}", "S3_ENDPOINT_URL": self._proxy.address}

    def watch(self, name: str, end: Write | None = None) -> Watched:
        """Count the writes to a lake from now on; the run dies where told, once it is known."""
        self._proxy.runs[name] = Watched(end)
        return self._proxy.runs[name]

    def put(self, lake: Path, name: str) -> None:
        """Put a lake of this machine into the bucket."""
        for path in lake.rglob("*"):
            if path.is_file():
                key = f"{name}/{path.relative_to(lake).as_posix()}"
                self._client.upload_file(str(path), _BUCKET, key)

    def fetch(self, name: str, lake: Path) -> None:
        """Replace a lake of this machine by what the bucket has."""
        shutil.rmtree(lake, ignore_errors=True)
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=_BUCKET, Prefix=f"{name}/")
        for found in (each for page in pages for each in page.get("Contents", ())):
            target = lake / found["Key"].removeprefix(f"{name}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            self._client.download_file(_BUCKET, found["Key"], str(target))
