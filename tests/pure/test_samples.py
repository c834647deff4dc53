from preheat._samples import LARGEST, Samples


def samples(*seen: tuple[float, int], most: int = 3) -> Samples:
    made = Samples(most)
    for at, number in seen:
        made.add(at, number)
    return made


def test_the_newest_are_kept():
    assert list(samples((1.0, 10), (2.0, 20)).newest_first()) == [(2.0, 20), (1.0, 10)]
    kept = samples((1.0, 10), (2.0, 20), (3.0, 30), (4.0, 40))
    assert list(kept.newest_first()) == [(4.0, 40), (3.0, 30), (2.0, 20)]
    assert len(kept) == 3
    assert kept.last_at == 4.0


def test_what_was_seen_at_an_instant_is_the_newest_before_it_or_else_the_oldest():
    seen = samples((1.0, 10), (2.0, 20), (3.0, 30), (4.0, 40))
    assert [seen.as_of(at) for at in (0.0, 2.0, 3.5, 9.0)] == [20, 20, 30, 40]


def test_nothing_is_left_once_they_are_forgotten():
    seen = samples((1.0, 10), (2.0, 20))
    seen.clear()
    assert not seen
    assert list(seen.newest_first()) == []
    seen.add(3.0, 30)
    assert seen.as_of(0.0) == 30
    assert list(seen.newest_first()) == [(3.0, 30)]


def test_a_number_beyond_the_largest_counts_as_that():
    assert samples((1.0, 2**80)).as_of(1.0) == LARGEST
