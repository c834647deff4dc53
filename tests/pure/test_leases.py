"""The protocol of a cache on memcached, on a model of its server: nothing stale in any order of steps."""

import random

import pytest

from memcached import FOR_EVER, RULES, SETTINGS, WHOLE, ModelMemcached, control, leasing, reader, warm_up, writer
from preheat._model import ItemStatus
from preheat._sharing.leases import LEASE, MOST_OWED, LeaseRules
from preheat._sharing.putting import TOKEN_BYTES
from preheat._sharing.rules import Life
from preheat._sharing.slabs import PAGE_BYTES, SlabRoom, item_bytes
from preheat._sharing.steps import Make
from preheat.errors import InvalidSetting, ItemTooLarge
from sharing import Origin, drive, interleavings


def is_stale(value, origin):
    return value is not None and not value.startswith(LEASE) and int(value.split()[0]) != origin.version


def stale_of(make_actors, turns=WHOLE):
    """The orders after which a stale value is there, and who put it; on an empty and on a filled cache."""
    found = []
    for order in interleavings(turns):
        for resident in (None, b"1 before"):
            server, origin = ModelMemcached(), Origin()
            if resident is not None:
                server.ask([("set", "s:k", resident, 0)])
            actors = make_actors(server, origin)
            for name in order:
                actors[name].turn()
            while waiting := [actor for actor in actors.values() if not actor.is_over]:
                for actor in waiting:  # a warm-up waits for a reader that has begun to load
                    actor.turn()
            if is_stale(server.value("s:k"), origin):
                found.append((order, resident, server.value("s:k").split()[1]))
    return found


def actors_of(server, origin, *, whole=True, puts=False):
    made, parts = [leasing(server) for _ in range(3)], (server.ask, origin)
    return {
        "w": warm_up(made[0], *parts, whole=whole),
        "u": writer(made[1], *parts, puts=puts),
        "r": reader(made[2], *parts, whole=whole),
    }


@pytest.mark.parametrize("puts", [False, True])
def test_none_of_all_420_interleavings_leaves_a_stale_value(puts):
    assert 2 * sum(1 for _ in interleavings(WHOLE)) == 420
    assert stale_of(lambda *parts: actors_of(*parts, puts=puts)) == []


@pytest.mark.parametrize(("protocol", "expected"), [("set", 54), ("add", 43)])
def test_setting_and_bare_adding_leave_stale_values_that_the_warm_up_put(protocol, expected):
    stale = stale_of(lambda server, origin: control(protocol, server.ask, origin, "s:k"))
    assert expected == sum(who == b"warm-up" for _, _, who in stale)


def test_nor_does_any_order_of_the_single_steps_down_to_each_command():
    for turns in ({"w": 6, "u": 2, "r": 2}, {"w": 2, "u": 2, "r": 5}):
        assert stale_of(lambda *parts: actors_of(*parts, whole=False), turns) == []


def random_play(seed, life=FOR_EVER):
    """Two of each, steps in random order with random delays, and now and then a server that loses what it held."""
    rng, server, origin = random.Random(seed), ModelMemcached(), Origin()
    made, parts = [leasing(server, life=life) for _ in range(6)], (server.ask, origin)
    actors = [warm_up(each, *parts, whole=False) for each in made[:2]]
    actors += [writer(made[2], *parts), writer(made[3], *parts, puts=rng.random() < 0.5)]
    actors += [reader(each, *parts, whole=False) for each in made[4:]]
    if rng.random() < 0.5:
        server.ask([("set", "s:k", b"1 before", 0)])
    while waiting := [actor for actor in actors if not actor.is_over]:
        rng.choice(waiting).turn()
        server.at += rng.choice([0.0, 0.1, 3.0, 11.0, 16.0]) * rng.random()
        if rng.random() < 0.05:
            server.values.clear()
    return is_stale(server.value("s:k"), origin)


@pytest.mark.parametrize("life", [FOR_EVER, Life(2.0)])
def test_random_schedules_with_delays_and_lost_servers_leave_nothing_stale(life):
    assert sum(random_play(seed, life) for seed in range(1500)) == 0


def test_numbers_that_come_again_would_show_in_the_same_schedules(monkeypatch):
    def comes_again(self, place, data, seconds):
        self.numbers = 0
        return put(self, place, data, seconds)

    put = ModelMemcached._set
    monkeypatch.setattr(ModelMemcached, "_set", comes_again)
    assert sum(random_play(seed) for seed in range(1500)) > 0


# ------------------------------------------------------------------------------------------------------ leases


def begun_to_load(steps, server):
    """`steps` up to the load, which a lease is there for."""
    step = next(steps)
    while not isinstance(step, Make):
        step = steps.send(server.ask(step.commands))
    assert server.value("s:k").startswith(LEASE)
    return steps


def test_whoever_finds_a_lease_loads_and_keeps_nothing():
    server = ModelMemcached()
    loading = begun_to_load(leasing(server).warm(["k"], [9]), server)
    assert drive(leasing(server).find(["k"]), server) == [False]
    assert drive(leasing(server).read("k"), server) == ("1 k", False)
    with pytest.raises(StopIteration) as end:
        loading.send(server.ask(loading.send(["2 k"]).commands))
    assert end.value.value[0].status is ItemStatus.LOADED
    assert server.value("s:k") == b"2 k"


def test_a_warm_up_waits_for_what_another_has_begun_to_load():
    server = ModelMemcached()
    loading = begun_to_load(leasing(server).read("k"), server)
    waits = []

    def puts_then(seconds):
        if not waits:
            server.ask(loading.send(["2 k"]).commands)
        waits.append(seconds)

    (result,) = drive(leasing(server).warm(["k"], [9]), server, wait=puts_then)
    assert (result.status, len(waits), server.value("s:k")) == (ItemStatus.RESIDENT, 1, b"2 k")


def test_a_warm_up_loads_what_another_had_begun_to_load_when_it_died():
    server = ModelMemcached()
    begun_to_load(leasing(server).warm(["k"], [9]), server).close()
    results = drive(leasing(server).warm(["j", "k"], [9, 9]), server)
    assert [result.status for result in results] == [ItemStatus.LOADED, ItemStatus.LOADED]
    assert server.value("s:k") == b"1 k"


def test_a_warm_up_gives_up_on_what_others_begin_to_load_again_and_again():
    server = ModelMemcached()
    begun_to_load(leasing(server).read("k"), server)

    def begins_again(seconds):
        server.values.clear()
        begun_to_load(leasing(server).read("k"), server)

    (result,) = drive(leasing(server).warm(["k"], [9]), server, wait=begins_again)
    assert result.status is ItemStatus.REJECTED
    assert server.at <= 1_000.0 + RULES.load_deadline_seconds + 3.0


def test_a_value_as_long_as_a_token_is_resident():
    server = ModelMemcached()
    server.ask([("set", "s:k", b"v" * (len(LEASE) + TOKEN_BYTES), 0)])
    assert drive(leasing(server).find(["k", "l"]), server) == [True, False]


def test_a_load_that_fails_gives_its_lease_back():
    server = ModelMemcached()

    def broken(key):
        return ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        drive(leasing(server).read("k"), server, broken)
    (result,) = drive(leasing(server).warm(["k"], [9]), server, broken)
    assert (result.status, result.reason) == (ItemStatus.FAILED, "ValueError: broken")
    assert server.value("s:k") is None
    drive(leasing(server).read("k"), server)
    assert server.value("s:k") == b"1 k"


def test_a_value_that_can_t_be_read_is_replaced_unless_it_has_changed():
    server = ModelMemcached()
    server.ask([("set", "s:k", b"\xff", 0)])
    drive(leasing(server).read("k"), server)
    assert server.value("s:k") == b"1 k"
    server.ask([("set", "s:k", b"\xff", 0)])

    def overtaken(key):
        server.ask([("set", "s:k", b"2 newer", 0)])
        return "1 k"

    drive(leasing(server).read("k"), server, overtaken)
    assert server.value("s:k") == b"2 newer"


def test_a_lease_ends_by_itself_when_its_process_does():
    server = ModelMemcached()
    begun_to_load(leasing(server).read("k"), server).close()
    server.at += RULES.load_deadline_seconds + 1
    drive(leasing(server).read("k"), server)
    assert server.value("s:k") == b"1 k"


# ---------------------------------------------------------------------------------------------- servers away


def test_deletes_that_no_server_took_are_owed_and_not_read_until_then():
    server, made = ModelMemcached(), None
    server.ask([("set", "s:k", b"1 before", 0)])
    made = leasing(server)
    server.is_away = True
    assert drive(made.delete(["k"]), server) is False
    server.is_away = False
    made._settle_at = server.at + 1.0
    assert drive(made.read("k"), server, lambda key: "2 k") == ("2 k", False)
    assert drive(made.warm(["k"], [9]), server)[0].status is ItemStatus.RESIDENT
    server.at += 2.0
    drive(made.read("other"), server)
    assert server.value("s:k") is None
    assert not made.owed


def test_what_is_owed_is_bounded():
    server = ModelMemcached()
    server.is_away = True
    made = leasing(server)
    drive(made.delete([f"{n}" for n in range(MOST_OWED + 10)]), server)
    assert len(made.owed) == MOST_OWED
    assert "9" not in made.owed


def test_a_write_that_no_server_took_is_a_delete():
    server, made = ModelMemcached(), None
    made = leasing(server)
    assert drive(made.write("k", "1 k"), server) is True
    server.is_away = True
    assert drive(made.write("k", "2 k"), server) is False
    assert list(made.owed) == ["k"]


def test_traffic_loads_while_the_server_is_away_and_a_warm_up_fails():
    server = ModelMemcached()
    server.is_away = True
    made = leasing(server)
    assert drive(made.read("k"), server) == ("1 k", False)
    assert drive(made.find(["k"]), server) is None
    assert {result.status for result in drive(made.warm(["k", "l"], [9, 9]), server)} == {ItemStatus.FAILED}


@pytest.mark.parametrize(("comes_back", "status"), [(True, ItemStatus.LOADED), (False, ItemStatus.FAILED)])
def test_a_warm_up_keeps_what_it_has_loaded_in_hand_while_the_server_is_away(comes_back, status):
    server = ModelMemcached()
    loads = []

    def goes_away(key):
        loads.append(key)
        server.is_away = True
        return "1 k"

    waits = []

    def wait(seconds):
        waits.append(seconds)
        server.is_away = not (comes_back and len(waits) > 2)

    (result,) = drive(leasing(server).warm(["k"], [9]), server, goes_away, wait)
    assert (result.status, loads) == (status, ["k"])


class Leaving(ModelMemcached):
    """Goes away for three seconds at its n-th question."""

    def __init__(self, n):
        super().__init__()
        self.left, self.back_at = n, 0.0

    def ask(self, commands):
        self.left -= 1
        if self.left == 0:
            self.back_at = self.at + 3.0
        self.is_away = self.at < self.back_at
        return super().ask(commands)


@pytest.mark.parametrize("n", range(1, 8))
def test_whenever_a_server_goes_away_a_warm_up_waits_and_loads_each_once(n):
    server, loads = Leaving(n), []
    made = leasing(server, RULES._replace(patience_seconds=5.0))
    results = drive(made.warm(["k", "l"], [9, 9]), server, lambda key: loads.append(key) or "1 x")
    assert {result.status for result in results} == {ItemStatus.LOADED}
    assert loads == ["k", "l"]
    assert (server.left <= 0) is (n <= 5)  # look, memory, lease, its number, put


# ------------------------------------------------------------------------------------------------------ lives


@pytest.mark.parametrize(("seconds", "kept"), [(None, True), (5.9, True), (0.5, False), (-1.0, False)])
def test_lives_are_whole_seconds_rounded_down(seconds, kept):
    server = ModelMemcached()
    made = leasing(server, life=Life(None, lambda key, value: seconds))
    drive(made.read("k"), server)
    assert (server.value("s:k") is not None) == kept
    assert drive(made.write("k", "1 k"), server) == kept
    server.at += 5.0
    assert (server.value("s:k") is not None) == (seconds is None)


def test_a_failed_load_tells_for_how_long_its_origin_asks_for_rest():
    class Busy(Exception):
        retry_after = 7

    made = leasing(server := ModelMemcached())
    results = drive(made.warm(["k0", "k1"], [9, 9]), server, lambda key: Busy() if key == "k1" else "1 fine")
    assert [(result.status, result.wait_seconds) for result in results] == [
        (ItemStatus.LOADED, None),
        (ItemStatus.FAILED, 7.0),
    ]


def test_a_value_whose_time_is_over_is_unavailable():
    made = leasing(server := ModelMemcached(), life=Life(None, lambda key, value: 0.2))
    (result,) = drive(made.warm(["k"], [9]), server)
    assert (result.status, server.value("s:k")) == (ItemStatus.UNAVAILABLE, None)


# ------------------------------------------------------------------------------------------------ keys, sizes


@pytest.mark.parametrize(
    ("key", "is_digest"), [("plain", False), ("two words", True), ("é", True), ("x" * 300, True), ("\ud800", True)]
)
def test_keys_that_no_server_takes_are_kept_under_their_digest(key, is_digest):
    place = RULES.place(key)
    assert place.startswith("s#" if is_digest else "s:")
    assert len(place) <= 250
    assert place == RULES.place(key) != RULES.place(key + "x")


@pytest.mark.parametrize(
    "rules", [RULES._replace(namespace="two words"), RULES._replace(namespace=""), LeaseRules("s", 0.5, 0.0)]
)
def test_rules_that_can_t_hold_are_refused(rules):
    with pytest.raises(InvalidSetting):
        rules.demand()


def test_what_a_loader_finds_too_large_or_the_server_would_not_take_says_so():
    server = ModelMemcached()
    (result,) = drive(leasing(server).warm(["k"], [9]), server, lambda key: ItemTooLarge("9 bytes"))
    assert (result.status, result.reason) == (ItemStatus.TOO_LARGE, "9 bytes")
    (result,) = drive(leasing(server).warm(["k"], [9]), server, lambda key: "1 " + "x" * (1 << 20))
    assert result.status is ItemStatus.TOO_LARGE
    (result,) = drive(leasing(server).warm(["k"], [9]), server, lambda key: LEASE.decode())
    assert result.status is ItemStatus.FAILED
    assert server.value("s:k") is None


# ------------------------------------------------------------------------------------------------------- room


def room_of(limit_pages, slabs=None):
    stats = {"limit_maxbytes": limit_pages << 20, "evictions": 0}
    return SlabRoom.of([(stats, slabs or {}, SETTINGS)])


def test_items_take_chunks_of_their_class_then_pages():
    room = room_of(10)
    per_page = PAGE_BYTES // 600
    assert 7 * per_page == room.holds([(8, 500)] * 20_000)  # nine pages, of which one and a bit bear the leases
    assert room.servers[0].pages == 9


def test_chunks_that_are_free_in_a_class_count_though_no_page_is_left():
    slabs = {f"{n}:chunk_size": size for n, size in ((1, 96), (2, 120))} | {"total_malloced": 10 << 20}
    slabs |= {f"{n}:{what}": count for n, count in ((1, 1000), (2, 600)) for what in ("free_chunks", "total_chunks")}
    full = room_of(10, slabs)
    assert full.holds([(8, 8)] * 1000) == 540  # a tenth is left to traffic; leases are of the larger class
    assert full.holds([(8, 5000)]) == 0


def test_what_is_larger_than_the_largest_chunk_takes_several():
    room = room_of(10)
    assert room.holds([(8, 900_000)] * 10) == 8
    assert item_bytes(8, 900_000) > 1 << 19


def test_the_fullest_server_decides():
    stats = [{"limit_maxbytes": pages << 20, "evictions": 1} for pages in (64, 2)]
    room = SlabRoom.of([(each, {}, SETTINGS) for each in stats])
    assert (room.evicted, room.holds([(8, 400_000)] * 10)) == (2, 0)
    assert room.without_any().holds([(8, 8)]) == 0


def test_a_full_or_evicting_server_gets_nothing():
    server = ModelMemcached()
    server.pages = 0
    assert drive(leasing(server).warm(["k"], [9]), server)[0].status is ItemStatus.REJECTED
    server.pages, made = 64, leasing(server)
    assert drive(made.warm(["k"], [9]), server)[0].status is ItemStatus.LOADED
    server.evicted += 1
    assert drive(made.warm(["l"], [9]), server)[0].status is ItemStatus.REJECTED
    server.at += 61
    assert drive(made.warm(["l"], [9]), server)[0].status is ItemStatus.LOADED


def test_what_turns_out_to_be_larger_than_what_is_left_is_not_put():
    server = ModelMemcached()
    server.pages = 2
    (result,) = drive(leasing(server).warm(["k"], [9]), server, lambda key: "1 " + "x" * 600_000)
    assert result.status is ItemStatus.REJECTED
    assert server.value("s:k") is None
