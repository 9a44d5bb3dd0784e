"""The page allocator: no page is held twice, none is lost, and sequences get room to grow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.common.errors import ResourceExhaustedError
from thinwire.common.language_model.kv_pool import PageAllocator


@given(
    pages=st.integers(1, 40),
    steps=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), st.booleans()), max_size=60),
)
def test_every_page_is_free_or_held_by_one_sequence(pages: int, steps: list[tuple[int, int, bool]]) -> None:
    """Whatever is taken and given back, in whatever order; a refusal changes nothing."""
    allocator = PageAllocator(pages)
    held: dict[int, list[int]] = {}
    for sequence, count, takes in steps:
        own = held.setdefault(sequence, [])
        free = pages - sum(map(len, held.values()))
        if not takes:
            allocator.give_back(own[-count:])
            del own[-count:]
        elif count > free:
            with pytest.raises(ResourceExhaustedError, match=f"at most the {free} free ones of {pages}"):
                allocator.take(count, behind=own[-1] if own else None)
        else:
            taken = allocator.take(count, behind=own[-1] if own else None)
            assert len(taken) == count
            own += taken

        everything = [page for table in held.values() for page in table]
        assert len(set(everything)) == len(everything)
        assert set(everything) <= set(range(pages))
        assert allocator.free == pages - len(everything)


def test_a_sequence_grows_into_the_page_behind_its_last_one() -> None:
    """Four sequences that grow in turn all stay in one piece."""
    allocator = PageAllocator(64)
    tables = [allocator.take(1) for _ in range(4)]
    for _ in range(15):
        for table in tables:
            table += allocator.take(1, behind=table[-1])

    assert all(table == list(range(table[0], table[0] + 16)) for table in tables)
    assert allocator.free == 0


def test_a_sequence_goes_on_elsewhere_where_its_way_is_blocked() -> None:
    """The pages of one sequence need not follow each other; none is left unused."""
    allocator = PageAllocator(4)
    first, second = allocator.take(1), allocator.take(1)
    first += allocator.take(2, behind=first[-1])

    assert sorted(first + second) == [0, 1, 2, 3]
    assert allocator.free == 0
