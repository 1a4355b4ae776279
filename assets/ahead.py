"""Work one item ahead: an iterator runs in a thread of its own while its consumer works on what it gave.

Decides how the stages of a long run overlap and how they are held back: one item is being made while one is
worked on, and none is held besides, since items are large: the next one is begun when the last was taken.
Whoever stops consuming ends the thread, which finishes what it is at; an error of the iterator is raised
where its item was waited for. It refuses to reorder.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
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
    given: SimpleQueue[_Given[T]] = SimpleQueue()
    taken, gone = Semaphore(0), Event()
    thread = Thread(target=_work, args=(items, given, taken, gone), name=name, daemon=True)
    thread.start()
    try:
        while not (last := given.get()).ended:
            taken.release()
            item = [last.item]
            del last  # only the consumer holds it
            yield item.pop()  # type: ignore[misc]  # only the end has none
        if last.error is not None:
            raise last.error
    finally:
        gone.set()
        taken.release()
        thread.join()


def _work(items: Iterator[T], given: "SimpleQueue[_Given[T]]", taken: Semaphore, gone: Event) -> None:
    last: _Given[T] = _Given(ended=True)
    try:
        for item in items:
            given.put(_Given(item))
            del item
            taken.acquire()
            if gone.is_set():
                break
    except BaseException as error:  # noqa: BLE001  # it belongs to the consumer, whatever it is
        last = _Given(ended=True, error=error)
    try:
        if isinstance(items, Generator):
            items.close()
    except BaseException as error:  # noqa: BLE001  # as above
        last = _Given(ended=True, error=last.error or error)
    given.put(last)
