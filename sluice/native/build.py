"""Builds the C files beside this, once, during set-up: `python -m sluice.native.build`.

The compiler is the one of the wheel `ziglang`, else the system's `cc`. Where there is none, or it fails, this
says so in one line and set-up goes on: the same work is then done in Python.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from sluice.native import BUILT, HERE, place

_FLAGS = ("-std=c11", "-O3", "-g0", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-fno-sanitize=all")


def compiler() -> list[str] | None:
    """Give the command that compiles C, if there is one."""
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    found = shutil.which("cc")
    return [found] if found else None


def build(name: str) -> Path:
    """Compile `<name>.c` where its library does not stand yet; half-written ones are never seen.

    Raises:
        RuntimeError: there is no compiler, or it refuses; its message is in the text.
    """
    target = place(name)
    if target.exists():
        return target
    command = compiler()
    if command is None:
        raise RuntimeError("no C compiler: neither the wheel `ziglang` nor `cc` was found")
    BUILT.mkdir(exist_ok=True)
    unfinished = target.with_suffix(f".{os.getpid()}.tmp")
    made = subprocess.run(  # noqa: S603  # our own command, our own files
        [*command, *_FLAGS, "-o", str(unfinished), str(HERE / f"{name}.c")],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise RuntimeError(f"{name}.c: {made.stderr.strip()[-2000:]}")
    unfinished.replace(target)
    return target


def main() -> None:
    """Build all; say in one line what could not be built."""
    for source in sorted(HERE.glob("*.c")):
        try:
            build(source.stem)
        except RuntimeError as error:
            print(f"without machine code for {source.stem}, slower: {error}")  # noqa: T201  # a command's output


if __name__ == "__main__":
    main()
