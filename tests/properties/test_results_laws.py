"""Laws of the results that are kept of a function."""

from hypothesis import given
from hypothesis import strategies as st

from preheat.adapters.function import Results, call_of, key_of

words = st.sampled_from(["a", "b", "c", "d", "e", '[["a"],{}]', "[[1],{}]"])
steps = st.lists(st.tuples(st.sampled_from(["put", "read", "drop"]), words), max_size=60)


@given(steps, st.integers(1, 5))
def test_no_more_are_kept_than_may_be_and_what_is_kept_is_what_was_put_in(happened, maxsize):
    results, put = Results(maxsize, None), {}
    for n, (what, key) in enumerate(happened):
        if what == "put":
            results[key] = put[key] = n
        elif what == "read" and key in results:
            results.entry(key).used = True
        elif what == "drop" and key in results:
            del results[key]
        assert len(results) <= maxsize
        assert {key: results[key] for key in results} == {key: put[key] for key in results}
        assert set(results) == set(results.of_texts) | set(results.of_calls)


@given(steps, st.integers(2, 5))
def test_what_was_asked_for_since_it_came_outlives_what_was_not(happened, maxsize):
    results = Results(maxsize, None)
    for what, key in happened:
        if what != "put" or key in results or len(results) < maxsize:
            results[key] = 0
            results.entry(key).used = what == "read"
            continue
        unused = {other for other in results if not results.entry(other).used}
        before = set(results)
        results[key] = 0
        (gone,) = before - set(results)
        assert gone in unused or not unused


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def is_same(a, b):
    if isinstance(a, dict):
        return type(b) is dict and a.keys() == b.keys() and all(is_same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return type(b) is list and len(a) == len(b) and all(map(is_same, a, b))
    return type(a) is type(b) and a == b


def key_or_none(arguments, named):
    try:
        return key_of("f", arguments, named)
    except ValueError:  # what JSON can't give back is refused
        return None


@given(st.lists(values, max_size=3), st.dictionaries(st.text(min_size=1), values, max_size=2))
def test_a_key_gives_back_the_call(arguments, named):
    key = key_or_none(arguments, named)
    if key is not None:
        again = call_of(key)
        assert is_same([again[0], again[1]], [arguments, named])


@given(*[st.tuples(st.lists(values, max_size=2), st.dictionaries(st.text(min_size=1), values, max_size=1))] * 2)
def test_different_calls_have_different_keys(one, other):
    keys = [key_or_none(*call) for call in (one, other)]
    if None not in keys and keys[0] == keys[1]:
        assert is_same(list(one), list(other)) or is_same([*one[0], one[1]], [*other[0], other[1]])
