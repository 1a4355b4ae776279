"""Apache Kafka's jars, from Maven Central into a folder, without Java or Maven being installed.

Decides which Kafka the demo and the tests run, and fetches it once: the folder appears when it is complete,
or not at all. It refuses to go on where Maven Central cannot be reached.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests
from jgo.maven import MavenContext

from resources.settings import PROJECT
from sluice.errors import DownloadError

KAFKA = "4.3.1"
CACHE = PROJECT / ".cache" / "kafka"
# "!": jgo would take log4j's word for the version of Kafka's own client, which is an older one.
_WANTED = (f"org.apache.kafka:kafka_2.13:{KAFKA}!", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4!")
_TIMEOUT = 30  # seconds without a byte
_ATTEMPTS = 3  # a file


def kafka_jars(cache: Path = CACHE) -> Path:
    """Give the folder of Kafka's jars, fetched (44 MB) where it is not there yet.

    Raises:
        DownloadError: Maven Central does not answer, or breaks off.
    """
    return jars(cache / f"kafka-{KAFKA}", _WANTED)


def jars(folder: Path, wanted: Sequence[str], *, dependencies: bool = True) -> Path:
    """Fetch jars (`group:artifact:version`) into a folder where it is not there yet, with what they need.

    Raises:
        DownloadError: Maven Central does not answer, or breaks off.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test run may fetch them now
        if not folder.is_dir():
            _fetch(folder, wanted, dependencies=dependencies)
    return folder


def _fetch(folder: Path, names: Sequence[str], *, dependencies: bool) -> None:
    print(f"fetching {folder.name} from Maven Central, once", flush=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        context = MavenContext(repo_cache=Path(place) / "repository", local_repos=[], timeout=_TIMEOUT)
        try:
            wanted = [context.create_dependency(name) for name in names]
            others = context.resolver.resolve(wanted)[1] if dependencies else []
            complete = Path(place) / "jars"
            complete.mkdir()
            artifacts = [dependency.artifact for dependency in (*wanted, *others)]
            for number, artifact in enumerate(artifacts, 1):
                path = _download(artifact)
                shutil.move(path, complete)
                size = (complete / path.name).stat().st_size / 1e6
                print(f"  {number}/{len(artifacts)} {path.name} ({size:.1f} MB)", flush=True)
        except (requests.RequestException, RuntimeError) as error:  # what jgo raises for all its failures
            raise DownloadError("Maven Central", str(error)) from error
        os.rename(complete, folder)  # noqa: PTH104  # in one step: complete or not there


def _download(artifact: Any) -> Path:
    """Fetch one file; a half one is never taken for a whole one."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return Path(artifact.resolve())
        except (requests.RequestException, RuntimeError):
            artifact.cached_path.unlink(missing_ok=True)
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


if __name__ == "__main__":
    kafka_jars()
