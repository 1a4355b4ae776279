"""Handles that a lake keeps: opened once, moved on instead of opened anew.

Decides who may move a handle: only whoever holds it. A kept handle is lent; while anything refers to what was
lent, be it a scan that was not collected yet, nobody else gets it, and a second one is opened for whoever
asks. It comes back when the last reference is gone, and moves to the newest version only as it is lent again.
So a snapshot never moves under its reader. It does not notice a deleted table: whoever deletes tables
ends the runs that write them first.
"""

import weakref
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError


class Handle(DeltaTable):
    """A Delta table that tells its local files by their names.

    delta-rs escapes the folder (`my%20lake`), and those who read take the escapes for its name.
    """

    @property
    def table_uri(self) -> str:
        """Where the table lies, `file://…` or of a store."""
        uri = super().table_uri
        return unquote(uri) if uri.startswith("file://") else uri

    def file_uris(self, *arguments: Any, **named: Any) -> list[str]:
        """List its data files: paths, or URIs of a store."""
        escaped, root = super().table_uri, self.table_uri
        if escaped == root:
            return super().file_uris(*arguments, **named)
        escaped, root = escaped.removeprefix("file://"), root.removeprefix("file://")
        return [root + uri.removeprefix(escaped) for uri in super().file_uris(*arguments, **named)]


class Handles:
    """The kept handles of a lake, by the name of their table; safe to share between threads."""

    def __init__(self) -> None:
        self._idle: defaultdict[str, deque[DeltaTable]] = defaultdict(deque)

    def newest(self, name: str, opened: Callable[[], DeltaTable | None]) -> DeltaTable | None:
        """Lend a handle of a table's newest version; None where `opened` finds no table.

        Raises:
            DeltaError, OSError: what `opened` raises.
        """
        kept = self._moved_on(name)
        if kept is None:
            kept = opened()
        return None if kept is None else self._lent(name, kept)

    def _moved_on(self, name: str) -> DeltaTable | None:
        try:
            kept = self._idle[name].pop()
            kept.update_incremental()
        except IndexError:
            return None
        except (DeltaError, OSError):  # its log may be cleaned up, or the store is away: opening it will tell
            return None
        return kept

    def _lent(self, name: str, kept: DeltaTable) -> DeltaTable:
        lent = Handle.__new__(Handle)
        lent.__dict__ = vars(kept)  # what is known of its version stays known
        weakref.finalize(lent, self._idle[name].append, kept)
        return lent
