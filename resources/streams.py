"""The streams: every contract in the folder of contracts, found, named and checked.

Each `*.py` of the folder is run from its file under a private module name, so that nothing in it can shadow
another module; files and variables that begin with `_` are no contracts. Wrong contracts are refused
together, in one error. Nothing is cached: what is loaded is what the files say now.
"""

import hashlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from difflib import get_close_matches
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType

from resources.settings import settings
from sluice.contract import Changes, Debezium, Events, Json, Stream
from sluice.errors import ContractError, Problem, SettingsError, UnknownStreamError
from sluice.partitions import Daily, Hourly
from sluice.problems import all_problems
from sluice.sources import Delta, Parquet, Postgres

_WORDS: dict[str, Callable[..., object]] = {
    word.__name__: word for word in (Events, Changes, Json, Debezium, Hourly, Daily, Delta, Parquet, Postgres)
}
_UNKNOWN_ARGUMENT = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")


def named(streams: Iterable[Stream], name: str) -> Stream:
    """Give the stream of a name; raises UnknownStreamError where there is none."""
    by_name = {stream.name: stream for stream in streams}
    if name not in by_name:
        raise UnknownStreamError(name, sorted(by_name))
    return by_name[name]


def load_streams(folder: Path | None = None) -> tuple[Stream, ...]:
    """Load every contract of a folder.

    Args:
        folder: where the contracts are; None: the setting STREAMS_DIR.

    Returns:
        The streams by name; none where the folder holds none.

    Raises:
        ContractError: contracts are wrong, or their modules fail; names every problem of every file.
        SettingsError: there is no such folder.
    """
    folder = folder or settings().streams_dir
    if not folder.is_dir():
        raise SettingsError("STREAMS_DIR", str(folder), "which is no folder; create it, or name another one")
    found: list[tuple[Stream, str]] = []
    failed: list[Problem] = []
    for path in sorted(folder.glob("*.py")):
        if not path.name.startswith("_"):
            file = f"{folder.name}/{path.name}"
            module, problem = _run(path, file)
            failed += [problem] if problem else []
            found += [(stream, file) for stream in _declared(module)]
    if problems := [*failed, *all_problems(found)]:
        raise ContractError(problems)
    streams = tuple(sorted((stream for stream, _ in found), key=lambda stream: stream.name))
    for stream in streams:
        stream.code_version  # noqa: B018  # settled now, while the file says what was run
    return streams


class _Fresh(SourceFileLoader):
    """Compiles the file as it is: a cached compilation may be older than an edit of the same second."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002  # the base class's own signature
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def _run(path: Path, file: str) -> tuple[ModuleType, Problem | None]:
    """Run a module; on failure also tell why, and give what it declared until then."""
    name = f"_contract_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}_{path.stem}"
    loader = _Fresh(name, str(path))
    spec = spec_from_loader(name, loader)
    if spec is None:  # cannot be: the loader was given
        raise SettingsError("STREAMS_DIR", str(path), "a file that Python cannot load; give it another name")
    module = module_from_spec(spec)
    sys.modules[name] = module  # where pandera and inspect look for what a class says
    try:
        loader.exec_module(module)
    except Exception as error:  # noqa: BLE001  # a contract's module may fail in any way
        return module, _failure(error, path, file)
    return module, None


def _declared(module: ModuleType) -> Iterator[Stream]:
    """Give a module's streams with their names and docs, each object once."""
    seen: set[int] = set()
    for variable, stream in vars(module).items():
        if isinstance(stream, Stream) and not variable.startswith("_") and id(stream) not in seen:
            seen.add(id(stream))
            docs = (
                module.__doc__,
                getattr(stream.schema, "__doc__", None) if inspect.isclass(stream.schema) else None,
            )
            written = "\n\n".join(inspect.cleandoc(text) for text in docs if text)
            description = written or None if stream.description is None else stream.description
            yield replace(stream, name=stream.name or variable, description=description)


def _failure(error: Exception, path: Path, file: str) -> Problem:
    """Tell why a module failed: in which line, and for an unknown argument which are known."""
    frames = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    line = error.lineno if isinstance(error, SyntaxError) else (frames or [None])[-1]
    if match := _UNKNOWN_ARGUMENT.search(str(error)):
        word, argument = match.groups()
        if word in _WORDS:
            known = list(inspect.signature(_WORDS[word]).parameters)
            near = get_close_matches(argument, known, n=1)
            found = f"an argument that {word} does not have{f' (do you mean {near[0]!r}?)' if near else ''}"
            return Problem(file, f"line {line}", argument, found, ", ".join(known))
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return Problem(file, f"line {line}", "module", text, "a module that runs without an error")
