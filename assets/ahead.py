"""Work one item ahead: an iterator runs in a thread of its own while its consumer works on what it gave.

Decides how the stages of a long run overlap and how they are held back: one item waits between two stages,
one is being made, never more. Whoever stops consuming ends the thread, which finishes what it is at; an error
of the iterator is raised where its item was waited for. It refuses to reorder.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _Given(Generic[T]):
    """An item, or the end: with the error that made it, or none."""

    item: T | None = None
    ended: bool = False
    error: BaseException | None = None


def ahead(items: Iterator[T], name: str = "ahead") -> Generator[T, None, None]:
    """Give the items of an iterator, which is at work on the next one meanwhile.

    Close it where it is not consumed to its end: it waits for the item that is being made, and drops it.
    """
    waiting: Queue[_Given[T]] = Queue(maxsize=1)
    gone = Event()
    thread = Thread(target=_work, args=(items, waiting, gone), name=name, daemon=True)
    thread.start()
    try:
        while not (given := waiting.get()).ended:
            yield given.item  # type: ignore[misc]  # only the end has none
        if given.error is not None:
            raise given.error
    finally:
        gone.set()
        _drop(waiting)  # the thread may wait for room
        thread.join()


def _work(items: Iterator[T], waiting: "Queue[_Given[T]]", gone: Event) -> None:
    last: _Given[T] = _Given(ended=True)
    try:
        for item in items:
            if gone.is_set():
                break
            waiting.put(_Given(item))
    except BaseException as error:  # noqa: BLE001  # it belongs to the consumer, whatever it is
        last = _Given(ended=True, error=error)
    try:
        if isinstance(items, Generator):
            items.close()
    except BaseException as error:  # noqa: BLE001  # as above
        last = _Given(ended=True, error=last.error or error)
    if not gone.is_set():
        waiting.put(last)


def _drop(waiting: "Queue[_Given[T]]") -> None:
    try:
        while True:
            waiting.get_nowait()
    except Empty:
        return
