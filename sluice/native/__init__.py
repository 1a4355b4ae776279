"""What runs as machine code, where set-up could build it: one shared library for each C file beside this.

Decides how such a library is found: built from the very sources that stand here, or not at all. Everything
that it does is also done in Python, slower, with equal results: who asks for it goes the other way on None.
"""

import ctypes
import hashlib
import platform
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
BUILT = HERE / "built"


def place(name: str) -> Path:
    """Tell where the library of `<name>.c` and `<name>_*.h` lies; its name changes with them."""
    text = b"".join(path.read_bytes() for path in sorted([HERE / f"{name}.c", *HERE.glob(f"{name}_*.h")]))
    digest = hashlib.sha256(text + platform.platform(terse=True).encode()).hexdigest()[:12]
    return BUILT / f"{name}-{platform.machine()}-{digest}.so"


@cache
def library(name: str) -> ctypes.CDLL | None:
    """Load the library of `<name>.c`; None where it was not built, or does not load here."""
    built = place(name)
    if not built.exists():
        return None
    try:
        return ctypes.CDLL(str(built))
    except OSError:
        return None
