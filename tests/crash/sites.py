"""Every place in the code that writes to the lake, found by reading the code; marked as it is loaded.

Decides what counts as such a place: a call of one of delta-rs's writers or of the lake's, a batch that is
handed on to be written, and what Dagster is told. Loaded through here (a fork server's process only), each
place marks its beginning and its end, so that a process can die there, and a test sees which were passed.
"""

import ast
import builtins
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from tests.crash.seam import mark

PROJECT = Path(__file__).resolve().parents[2]
ROOMS = ("assets", "resources")
_DELTA = {
    "write_deltalake",
    "create_write_transaction",
    "write_parquet",
    "add_columns",
    "compact",
    "z_order",
    "vacuum",
    "create_checkpoint",
}
_DELTA |= {"cleanup_metadata", "delete_file", "convert_to_deltalake", "restore", "set_table_properties"}
_LAKE = {"commit", "ensure", "create"}  # of the lake, and of DeltaTable
_HANDED_ON = {
    "append",
    "decide",
    "settle",
    "put",
    "resolve",
}  # a batch; lists have methods of these names too
_TOLD = {"MaterializeResult", "AssetMaterialization"}
_MARK = "_sluice_crash_mark"


class _Marking(ast.NodeTransformer):
    """Puts marks around each site, and remembers its name: file, function, call, and which of its kind."""

    def __init__(self, file: str) -> None:
        self.sites: list[str] = []
        self._file, self._functions = file, list[str]()
        self._named: Counter[str] = Counter()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Know the function that a site is in."""
        return self._inside(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Know the class, too."""
        return self._inside(node)

    def _inside(self, node: ast.FunctionDef | ast.ClassDef) -> ast.AST:
        self._functions.append(node.name)
        visited = self.generic_visit(node)
        self._functions.pop()
        return visited

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Turn a site into `(mark, call, mark)[1]`."""
        self.generic_visit(node)
        called = _called(node)
        if called is None or not self._functions:
            return node
        name = f"{self._file}:{'.'.join(self._functions)}:{called}"
        self._named[name] += 1
        site = f"{name}#{self._named[name]}"
        self.sites.append(site)
        begin, finish = (
            ast.Call(ast.Name(_MARK, ast.Load()), [ast.Constant(f"{when} {site}")], [])
            for when in ("begin", "finish")
        )
        around = ast.Tuple([begin, node, finish], ast.Load())
        return ast.copy_location(ast.Subscript(around, ast.Constant(1), ast.Load()), node)


def _called(node: ast.Call) -> str | None:
    """Give the name of the writer that is called, or None."""
    match node.func:
        case ast.Name(id=name) if name in _DELTA | (_HANDED_ON - {"resolve"}):
            return name
        case ast.Attribute(attr=name) if name in _DELTA | _TOLD:
            return name
        case ast.Attribute(attr=name, value=ast.Name(id="lake" | "long" | "DeltaTable")) if name in _LAKE:
            return name
        case ast.Attribute(attr=name, value=ast.Attribute(attr="lake")) if name in _LAKE:
            return name
        case ast.Attribute(attr=name, value=ast.Name(id="side_tables")) if name in _HANDED_ON:
            return name
    return None


def marked(file: Path) -> tuple[ast.Module, list[str]]:
    """Read a file: its code with marks, and the names of its sites."""
    marking = _Marking(file.relative_to(PROJECT).as_posix())
    tree = marking.visit(ast.parse(file.read_text(), str(file)))
    return ast.fix_missing_locations(tree), marking.sites


def sites() -> list[str]:
    """Name every site of the code as it stands."""
    return [
        site for room in ROOMS for file in sorted((PROJECT / room).glob("*.py")) for site in marked(file)[1]
    ]


class _Loader(SourceFileLoader):
    """Loads a module with its marks, always from its source."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile the marked code."""
        path = self.get_filename(fullname)
        return compile(marked(Path(path))[0], path, "exec")


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Load the rooms through the loader above."""
        if fullname.partition(".")[0] not in ROOMS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec and spec.origin and spec.origin.endswith(".py"):
            spec.loader = _Loader(fullname, spec.origin)
        return spec


def instrument() -> None:
    """Load `assets` and `resources` with marks from now on; nothing of them is loaded yet."""
    assert not [name for name in sys.modules if name.split(".")[0] in ROOMS]
    setattr(builtins, _MARK, mark)
    sys.meta_path.insert(0, _Finder())
