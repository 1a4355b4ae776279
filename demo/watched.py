"""A server in a process of its own that is started, ended or killed, and that never outlives us.

Decides how such a process runs: its log and its id in a folder, and a shell between us and it that ends it
when our end of its pipe closes, so it dies with us, however we die. What runs in it, and when it is ready,
those say who build on this.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sluice.errors import DemoServerError

STOP_SECONDS = 15
_WATCHED = '"$@" </dev/null 3<&- & own=$!; (cat <&3; kill -s "$ASK" "$own") >/dev/null 2>&1 & wait "$own"'


class Watched:
    """A process with its log in a folder; `ask` is the signal that it takes as a request to stop."""

    def __init__(self, folder: Path, name: str, *, ask: str = "TERM") -> None:
        self.folder, self.log = folder, folder / f"{name.lower()}.log"
        self._name, self._ask = name, ask
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self._process is not None and self._process.poll() is None

    def launch_command(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start a command as its process, with more in its environment; it answers later."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", f"exec 3<&0; {_WATCHED}", self._name, *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | {"ASK": self._ask} | dict(environment or {}),
                start_new_session=True,  # the terminal's Ctrl-C is for us, not for it
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
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            if self._process.stdin:
                self._process.stdin.close()
            self._process = None
            self._pid.unlink(missing_ok=True)

    def end_leftover(self) -> None:
        """End a process whose owner was killed, should it still be stopping."""
        with suppress(FileNotFoundError, ValueError, ProcessLookupError, PermissionError):
            group = int(self._pid.read_text())
            deadline = time.monotonic() + STOP_SECONDS
            while self._is_ours(group) and time.monotonic() < deadline:
                time.sleep(0.2)
            if self._is_ours(group):
                os.killpg(group, signal.SIGKILL)

    def failed(self, detail: str) -> DemoServerError:
        """Make the error that tells what its log said last."""
        log = self.log.read_text(errors="replace")[-2_000:] if self.log.exists() else ""
        fix = f"read {self.log}, or delete the folder"
        return DemoServerError(self._name, str(self.folder), f"{detail}\n{log}", fix)

    @property
    def _pid(self) -> Path:
        return self.folder / "pid"

    def _is_ours(self, group: int) -> bool:
        """Tell whether a process is the shell that we started, not a later one of the same number."""
        listed = subprocess.run(["ps", "-p", str(group), "-o", "args="], capture_output=True, check=False)
        return str(self.folder).encode() in listed.stdout
