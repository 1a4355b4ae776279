"""Stages that overlap: order, how far one may run ahead, errors, and what ends them."""

from contextlib import closing
from threading import Event, active_count
from weakref import ref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.ahead import ahead


@given(st.lists(st.integers()))
def test_items_come_all_and_in_order(items):
    assert list(ahead(ahead(iter(items)))) == items


def test_one_item_is_made_while_one_is_worked_on_and_no_more():
    made, second = [], Event()

    def items():
        for number in range(100):
            made.append(number)
            if number == 1:
                second.set()
            yield number

    with closing(ahead(items())) as found:
        assert next(found) == 0
        assert second.wait(10)
        Event().wait(0.05)
        assert made == [0, 1]


def test_no_item_is_held_but_by_its_consumer():
    class Large:
        """What can be watched."""

    seen, second = [], Event()

    def items():
        for number in range(3):
            if number == 1:
                second.set()
            item = Large()
            seen.append(ref(item))
            yield item
            del item

    with closing(ahead(items())) as found:
        item = next(found)
        del item
        assert second.wait(10)
        assert seen[0]() is None


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        raise KeyboardInterrupt  # even one that is no Exception

    found = ahead(ahead(items()))
    assert next(found) == 1
    with pytest.raises(KeyboardInterrupt):
        next(found)


def test_who_stops_consuming_ends_all_threads_and_closes_what_they_read():
    closed, before = [], active_count()

    def items():
        try:
            yield from range(10)
        finally:
            closed.append(True)

    with closing(ahead(ahead(items()))) as found:
        next(found)
    assert closed == [True]
    assert active_count() == before
