"""A process that has imported everything, and forks: each child begins at once, and may be killed.

Decides how tests start such a process, tell it what its children shall do (`work.run` is a function of a
module beside this) and learn how they ended. It refuses to fork when threads are at work in it: a fork would
not have them.
"""

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

PROJECT = Path(__file__).resolve().parents[2]
_QUIET = "background_thread:false"  # the allocators' own threads do not outlive a fork
_IDLE = {"polars-ooc-clea"}  # waits for spilled files; there are none before the fork
_START_SECONDS = 180


@dataclass
class Child:
    """A forked process: how it ended (as Python's exit codes: -9 was killed), and what it said."""

    pid: int
    log: Path
    code: int | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    began: float = field(default_factory=time.monotonic)

    def wait(self, seconds: float = 120) -> int:
        """Give its exit code; it is killed where it takes longer."""
        if not self.ended.wait(seconds):
            self.signal(signal.SIGKILL)
            self.ended.wait(30)
            raise TimeoutError(f"a child took more than {seconds} s:\n{self.said()}")
        assert self.code is not None
        return self.code

    def signal(self, number: int) -> None:
        """Send a signal to it and to what it started; nothing happens where it has ended."""
        if not self.ended.is_set():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def said(self) -> str:
        """Give the end of what it wrote."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    def tells(self, words: str) -> bool:
        """Tell whether it wrote some words."""
        return self.log.exists() and words in self.log.read_text(errors="replace")


class Forks:
    """The fork server, as a context manager: `start(function, **arguments)` gives a child."""

    def __init__(self, folder: Path, preload: Path | None = None, **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        quiet = {"JE_ARROW_MALLOC_CONF": _QUIET, "_RJEM_MALLOC_CONF": _QUIET, "DO_NOT_TRACK": "1"}
        more = {"LD_PRELOAD": str(preload)} if preload else {}
        self._folder, self._started = folder, 0
        self._children: dict[int, Child] = {}
        self._lock, self._forked = threading.Lock(), threading.Event()
        self._answer: dict[str, Any] = {}
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.forks"],
            cwd=PROJECT,
            env=os.environ | quiet | environment | more | {"PYTHONPATH": str(PROJECT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        """Wait until it has imported everything."""
        assert self._ready.wait(_START_SECONDS), "the fork server does not answer"
        return self

    def __exit__(self, *_: object) -> None:
        """End it, with all its children."""
        for child in list(self._children.values()):
            child.signal(signal.SIGKILL)
        assert self.server.stdin
        self.server.stdin.close()
        self.server.wait(30)

    def start(self, function: str, environment: Mapping[str, str] | None = None, **arguments: Any) -> Child:
        """Fork; the child calls a function of a module of `tests.crash` and ends."""
        with self._lock:
            self._started += 1
            log = self._folder / f"child-{self._started}.log"
            order = {"function": function, "arguments": arguments, "environment": dict(environment or {})}
            self._forked.clear()
            assert self.server.stdin
            self.server.stdin.write(json.dumps(order | {"log": str(log)}) + "\n")
            self.server.stdin.flush()
            assert self._forked.wait(60), "the fork server does not fork"
            return self._children[self._answer["pid"]]

    def _listen(self) -> None:
        assert self.server.stdout
        for line in self.server.stdout:
            told = json.loads(line)
            if "ready" in told:
                self._ready.set()
            elif "code" in told:
                child = self._children.pop(told["pid"])
                child.code = told["code"]
                child.ended.set()
            else:
                self._children[told["pid"]] = Child(told["pid"], Path(told["log"]))
                self._answer = told
                self._forked.set()


def busy_threads() -> list[str]:
    """Name the threads of this process that a fork would miss."""
    others = [task for task in Path("/proc/self/task").iterdir() if task.name != str(os.getpid())]
    names = [(task / "comm").read_text().strip() for task in others]
    return [name for name in names if name not in _IDLE]


def _serve() -> None:
    """Fork for each line of the input; report the ends of children; end with the input."""
    read, write = os.pipe()
    os.set_blocking(write, False)  # as Python wants it
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write)
    _tell(ready=True)
    rest = b""
    while True:
        ready, _, _ = select.select([0, read], [], [])
        if read in ready:
            os.read(read, 4096)
            _reap()
        if 0 in ready:
            new = os.read(0, 65536)
            if not new:
                return
            *lines, rest = (rest + new).split(b"\n")
            for line in lines:
                _fork(json.loads(line))


def _tell(**what: object) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _reap() -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            _tell(pid=pid, code=os.waitstatus_to_exitcode(status))


def _fork(order: dict[str, Any]) -> None:
    if busy := busy_threads():
        raise RuntimeError(f"threads that a fork would miss: {busy}")
    pid = os.fork()
    if pid:
        with suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)
        _tell(pid=pid, log=order["log"])
        return
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    code = 1
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(order["environment"])
        module, name = order["function"].split(".")
        getattr(importlib.import_module(f"tests.crash.{module}"), name)(**order["arguments"])
        code = 0
    except BaseException:  # noqa: BLE001  # whatever it was: the log has it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    from tests.crash.sites import instrument

    instrument()
    import tests.crash.gold_work
    import tests.crash.numbers
    import tests.crash.work  # noqa: F401  # all that children need

    _serve()
