"""What tests of a reconciliation let happen beside it: others that write, and an end half-way."""

import threading
from collections.abc import Callable

_ASKED = 6  # ranges that are read before it ends


class Beside:
    """Threads at work until the block ends; each work looks at `over`."""

    def __init__(self, *work: Callable[[], None]) -> None:
        self.over = threading.Event()
        self._threads = [threading.Thread(target=one) for one in work]

    def __enter__(self):  # noqa: D105
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:  # noqa: D105
        self.over.set()
        for thread in self._threads:
            thread.join()


def ended_half_way(monkeypatch, snapshot: type) -> list[object]:
    """End the reading of ranges of a kind of source once, as a person would; give what was asked for."""
    monkeypatch.setattr("resources.text_compare.RANGE", 100)
    monkeypatch.setattr("resources.text_compare._AT_ONCE", 1)
    monkeypatch.setattr("resources.text_compare._KEEP_SECONDS", 0.0)
    part, asked = snapshot.part, []

    def counted(self, bounds, start, stop):
        asked.append(start)
        if len(asked) == _ASKED:
            raise KeyboardInterrupt
        return part(self, bounds, start, stop)

    monkeypatch.setattr(snapshot, "part", counted)
    return asked
