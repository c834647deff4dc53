"""Laws of what protects an origin."""

from array import array
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from origins import FAILED, LOADED, SimulatedOrigin, VirtualRun
from preheat._execution import Execution
from preheat._model import ItemResult, ItemStatus
from preheat._origin import RETRY_AFTER_CAP_SECONDS, Limits, Origin, parse_retry_after
from preheat._origin.bucket import TokenBucket
from preheat._origin.limit import LEAST, DelayLimit
from preheat._origin.retry import MAX_ATTEMPTS

ANSWERS = [LOADED, LOADED, FAILED, replace(FAILED, wait_seconds=0.0), replace(FAILED, wait_seconds=2.5)]
ANSWERS += [ItemResult(ItemStatus.RESIDENT), ItemResult(ItemStatus.UNAVAILABLE)]


@given(
    st.floats(0.1, 1e4),
    st.floats(0.1, 1e4),
    st.lists(st.tuples(st.floats(0, 5), st.floats(0.01, 1e4)), min_size=1, max_size=60),
)
def test_in_any_span_a_bucket_lets_pass_no_more_than_its_rate_its_burst_and_one_amount(rate, burst, asked):
    bucket, at, passed = TokenBucket(rate, burst), 0.0, []
    for pause, amount in asked:
        at = max(at + pause, bucket.ready_at(at + pause, amount))
        assert bucket.ready_at(at, amount) <= at * (1 + 1e-9)
        bucket.take(at, amount)
        passed.append((at, amount))
    largest = max(amount for _, amount in passed)
    for n, (since, _) in enumerate(passed):
        total = 0.0
        for until, amount in passed[n:]:
            total += amount
            assert total <= (rate * (until - since) + burst + largest) * (1 + 1e-6)


@given(st.one_of(st.text(), st.binary(), st.floats(), st.integers(), st.booleans(), st.none(), st.datetimes()))
def test_whatever_an_exception_carries_the_wait_is_none_or_within_bounds(value):
    wait = parse_retry_after(value, 1.7e9)
    assert wait is None or 0.0 <= wait <= RETRY_AFTER_CAP_SECONDS


@given(st.lists(st.one_of(st.floats(0, 100), st.none()), max_size=400), st.integers(1, 64))
def test_the_limit_stays_within_its_bounds_whatever_loads_take(seconds, most):
    limit, at = DelayLimit(most), 0.0
    for took in seconds:
        if took is None:
            limit.overloaded(at, 0)
        else:
            at += took
            limit.own.count += 1
            limit.own.seconds += took
            if limit.own.count >= limit.judge_at:
                limit.judge(at, 0)
        assert LEAST <= limit.limit <= most
        assert limit.slots == int(limit.limit)
        assert limit.judge_at <= limit.own.count + 300


@st.composite
def plans(draw):
    n = draw(st.integers(1, 60))
    caches = draw(st.lists(st.sampled_from("ab"), min_size=n, max_size=n))
    phase = sorted(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    needs = {item: draw(st.lists(st.integers(0, item - 1), max_size=2)) for item in range(1, n, 3)}
    return caches, phase, needs


def play(plan, seed, answers, is_shared, outage):
    caches, phase, needs = plan
    since, until = sorted(outage)
    tries, ended_at = Counter(), {}

    def answer(at, chance):
        return (FAILED if since <= at < until else answers[int(chance.integers(len(answers)))]), 1.0

    own = {name: Origin(name, Limits(8), seed=seed) for name in "ab"}
    gates = dict.fromkeys("ab", own["a"]) if is_shared else own
    execution = Execution(
        caches, array("q", [1]) * len(caches), phase, needs,
        budget_bytes=2**30, concurrency_limit=4, batch_size=4, gates=gates, seed=seed,
    )  # fmt: skip
    origins = {name: SimulatedOrigin(4, 0.5, seed + n, answer) for n, name in enumerate("ab")}
    run = VirtualRun(execution, caches, origins)
    tell = run._tell

    def watched(event):
        for item, result in zip(getattr(event, "positions", ()), getattr(event, "results", ()), strict=False):
            tries[item] += result is not None
        tell(event)
        for item, result in enumerate(execution.results):
            if result is not None:
                ended_at.setdefault(item, run.now)

    run._tell = watched
    run.perform(until=3_600.0)
    return run, tries, ended_at


@settings(max_examples=40, deadline=None)
@given(
    plans(),
    st.integers(0, 2**20),
    st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=6),
    st.booleans(),
    st.tuples(st.floats(0, 60), st.floats(0, 60)),
)
def test_whatever_an_origin_answers_every_item_ends_once_after_three_tries_at_most(plan, seed, answers, shared, outage):
    run, tries, ended_at = play(plan, seed, answers, shared, outage)
    results = list(run.execution.results)
    assert run.finished is not None, "a run never waits for an origin for ever"
    assert None not in results
    assert run.execution.done == len(results)
    assert max(tries.values(), default=0) <= MAX_ATTEMPTS
    resident = {n for n, result in enumerate(results) if result.status in {ItemStatus.LOADED, ItemStatus.RESIDENT}}
    for item, needed in plan[2].items():
        assert item not in resident or resident.issuperset(needed)
        assert item not in resident or all(ended_at[each] <= ended_at[item] for each in needed)
    asked = sum(len(origin.requests) for origin in run.origins.values())
    assert sum(record.requests for record in run.execution.origins) == asked
    again, _, _ = play(plan, seed, answers, shared, outage)
    assert list(again.execution.results) == results
    assert again.now == run.now
