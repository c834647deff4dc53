"""The protocol of a shared cache, on a model of its server: nothing stale in any order of steps."""

import random

import pytest

from preheat._attempt import failure_of
from preheat._model import ItemStatus
from preheat._sharing.protocol import MOST_OWED, ROOM_SECONDS, Sharing
from preheat._sharing.rules import TOMBSTONE, Life, Room, Rules
from preheat._sharing.steps import Ask, Refused, side_by_side
from preheat.errors import InvalidSetting, ItemTooLarge
from sharing import (
    CODEC,
    FOR_EVER,
    RULES,
    WHOLE,
    ModelServer,
    Origin,
    control,
    drive,
    interleavings,
    is_stale,
    reader,
    sharing,
    warm_up,
    writer,
)


def play(order, actors):
    for name in order:
        actors[name].turn()
    for actor in actors.values():
        while not actor.is_over:
            actor.turn()


def stale_of(make_actors, turns, *, may_script=True):
    """The orders after which a stale value is there, and who put it; on an empty and on a filled cache."""
    found = []
    for order in interleavings(turns):
        for resident in (None, b"1 before"):
            server, origin = ModelServer(() if may_script else ["EVALSHA", "EVAL"]), Origin()
            if resident is not None:
                server.ask([("SET", "s:k", resident)])
            play(order, make_actors(server, origin))
            if is_stale(server.value("s:k"), origin):
                found.append((order, resident, server.value("s:k").split()[1]))
    return found


def actors_of(server, origin, *, whole=True, may_script=True):
    made = [sharing(server) for _ in range(3)]
    for each in made:
        each.places.may_script = may_script
    parts = (server.ask, origin)
    return {
        "w": warm_up(made[0], *parts, whole=whole),
        "u": writer(made[1], *parts),
        "r": reader(made[2], *parts, whole=whole),
    }


@pytest.mark.parametrize("may_script", [True, False])
def test_none_of_all_420_interleavings_leaves_a_stale_value(may_script):
    assert 2 * sum(1 for _ in interleavings(WHOLE)) == 420
    assert stale_of(lambda *parts: actors_of(*parts, may_script=may_script), WHOLE) == []


@pytest.mark.parametrize(("protocol", "expected"), [("set", 54), ("add", 43)])
def test_setting_and_bare_adding_leave_stale_values_that_the_warm_up_put(protocol, expected):
    stale = stale_of(lambda *parts: control(protocol, *parts), WHOLE)
    assert expected == sum(who == b"warm-up" for _, _, who in stale)


def test_nor_does_any_order_of_the_single_steps_down_to_each_command():
    turns = {"w": 6, "u": 2, "r": 3}
    assert stale_of(lambda *parts: actors_of(*parts, whole=False), turns) == []


def random_play(seed, rules=RULES, *, life=FOR_EVER, may_script=True, loses=True):
    """Two of each, steps in random order with random delays, and now and then a server that loses what it held."""
    rng, server, origin = random.Random(seed), ModelServer(), Origin()
    made = [sharing(server, rules, life=life) for _ in range(6)]
    for each in made:
        each.places.may_script = may_script
    parts = (server.ask, origin)
    actors = [warm_up(each, *parts, whole=False) for each in made[:2]]
    actors += [writer(made[2], *parts), writer(made[3], *parts, puts=rng.random() < 0.5)]
    actors += [reader(each, *parts, whole=False) for each in made[4:]]
    if rng.random() < 0.5:
        server.ask([("SET", "s:k", b"1 before")])
    while waiting := [actor for actor in actors if not actor.is_over]:
        rng.choice(waiting).turn()
        server.at += rng.choice([0.0, 0.1, 3.0, 11.0, 16.0]) * rng.random()
        if loses and rng.random() < 0.05:
            rng.choice([server.lose_everything, server.values.clear, server.log.clear])()
    return is_stale(server.value("s:k"), origin)


SCHEDULES = 3000
SHORT = Life(2.0)


@pytest.mark.parametrize("life", [FOR_EVER, SHORT])
def test_random_schedules_with_delays_and_lost_servers_leave_nothing_stale(life):
    assert sum(random_play(seed, life=life) for seed in range(SCHEDULES)) == 0


def test_nor_without_scripts_while_the_server_loses_nothing_and_values_outlive_loads():
    assert sum(random_play(seed, may_script=False, loses=False) for seed in range(SCHEDULES)) == 0


def test_a_hold_off_that_ends_before_a_load_may_be_put_shows_in_the_same_schedules():
    short = RULES._replace(hold_off_seconds=2.0)
    assert sum(random_play(seed, short, may_script=False, loses=False) for seed in range(SCHEDULES)) > 0


@pytest.mark.parametrize("may_script", [True, False])
@pytest.mark.parametrize("puts", [True, False])
def test_only_scripts_see_what_has_gone_again_before_the_warm_up_puts(may_script, puts):
    """A newer value of short life, or a tombstone that the server lost."""
    server, origin = ModelServer(), Origin()
    made = sharing(server, life=SHORT)
    made.places.may_script = may_script
    warming = warm_up(made, server.ask, origin)
    warming.turn()
    writing = writer(sharing(server, life=SHORT), server.ask, origin, puts=puts)
    writing.turn()
    writing.turn()
    if puts:
        server.at += 3.0
    else:
        server.lose_everything()
    warming.turn()
    assert is_stale(server.value("s:k"), origin) is not may_script


# ------------------------------------------------------------------------------------------------- the rules


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"hold_off_seconds": 10.0}, "longer than load_deadline_seconds"),
        ({"hold_off_seconds": float("nan")}, "longer than load_deadline_seconds"),
        ({"load_deadline_seconds": 0.0}, "has to be positive"),
        ({"load_deadline_seconds": float("inf")}, "has to be positive"),
        ({"patience_seconds": -1.0}, "patience_seconds"),
        ({"namespace": ""}, "namespace"),
        ({"namespace": "a b"}, "namespace"),
    ],
)
def test_rules_that_would_not_hold_are_refused(changes, why):
    with pytest.raises(InvalidSetting, match=why):
        RULES._replace(**changes).demand()


# --------------------------------------------------------------------------------------------------- traffic


def test_a_read_loads_what_is_missing_and_finds_it_the_next_time():
    server = ModelServer()
    made = sharing(server)
    assert drive(made.read("k"), server) == ("1 k", False)
    assert drive(made.read("k"), server, load=None) == ("1 k", True)


def test_a_read_passes_on_what_the_load_raised():
    server = ModelServer()

    with pytest.raises(KeyError):
        drive(sharing(server).read("k"), server, load=KeyError)
    assert server.value("s:k") is None


def test_a_value_that_can_t_be_decoded_is_loaded_and_replaced():
    server = ModelServer()
    server.ask([("SET", "s:k", b"\xff")])
    assert drive(sharing(server).read("k"), server) == ("1 k", False)
    assert server.value("s:k") == b"1 k"


def test_after_a_delete_traffic_keeps_what_it_loads_and_a_warm_up_nothing():
    server = ModelServer()
    made = sharing(server)
    assert drive(made.delete(["k"]), server)
    assert server.value("s:k").startswith(TOMBSTONE)
    (result,) = drive(made.warm(["k"], [9]), server)
    assert (result.status, result.reason) == (ItemStatus.REJECTED, "it was deleted a moment ago")
    assert drive(made.read("k"), server) == ("1 k", False)
    assert server.value("s:k") == b"1 k"


def test_without_scripts_traffic_keeps_nothing_within_the_hold_off():
    server = ModelServer(["EVALSHA", "EVAL"])
    made = sharing(server)
    drive(made.delete(["k"]), server)
    assert drive(made.read("k"), server) == ("1 k", False)
    assert server.value("s:k").startswith(TOMBSTONE)
    assert not made.places.may_script
    server.at += RULES.hold_off_seconds
    drive(made.read("k"), server)
    assert server.value("s:k") == b"1 k"


def test_a_server_that_is_away_costs_no_error_and_keeps_nothing():
    server = ModelServer()
    server.is_away_until = float("inf")
    made = sharing(server)
    assert drive(made.read("k"), server) == ("1 k", False)
    assert not drive(made.write("k", "2"), server)
    assert not drive(made.delete(["l"]), server)
    assert {"k", "l"} == set(made.owed)


def test_a_delete_that_could_not_be_told_is_told_later_and_honoured_meanwhile():
    server = ModelServer()
    made = sharing(server)
    server.ask([("SET", "s:k", b"1 old")])
    server.is_away_until = float("inf")
    drive(made.delete(["k"]), server)
    server.is_away_until = 0.0
    assert drive(made.read("k"), server) == ("1 k", False)
    assert not made.owed


def test_on_a_read_only_replica_a_deleted_value_is_not_read():
    server = ModelServer(["SET"])
    server.values["s:k"] = (b"1 old", float("inf"))
    made = sharing(server)
    assert not drive(made.delete(["k"]), server)
    assert drive(made.read("k"), server) == ("1 k", False)


def test_owed_deletes_are_bounded_and_the_newest_stay():
    server = ModelServer()
    server.is_away_until = float("inf")
    made = sharing(server)
    drive(made.delete([str(n) for n in range(MOST_OWED + 5)]), server)
    assert len(made.owed) == MOST_OWED
    assert str(MOST_OWED + 4) in made.owed


def test_a_newer_value_of_the_application_replaces_whatever_is_there():
    server = ModelServer()
    made = sharing(server)
    drive(made.delete(["k"]), server)
    assert drive(made.write("k", "2"), server)
    assert drive(made.read("k"), server) == ("2", True)


# ------------------------------------------------------------------------------------------------- a warm-up


def warm(made, server, count=4, expected=9, **more):
    return drive(made.warm([f"k{n}" for n in range(count)], [expected] * count), server, **more)


def statuses(results):
    return [result.status for result in results]


def test_a_warm_up_loads_what_is_absent_only():
    server = ModelServer()
    server.ask([("SET", "s:k1", b"1 before")])
    loaded, resident = ItemStatus.LOADED, ItemStatus.RESIDENT
    assert [loaded, resident, loaded, loaded] == statuses(warm(sharing(server), server))
    assert server.value("s:k1") == b"1 before"
    assert [resident] * 4 == statuses(warm(sharing(server), server, load=None))


def test_a_failed_load_and_a_value_that_is_no_value_are_results_of_their_own():
    server = ModelServer()
    values = {"k0": ValueError("no"), "k1": 5, "k2": TOMBSTONE.decode() + "x", "k3": "1 fine"}
    results = warm(sharing(server), server, load=values.get)
    assert statuses(results) == [ItemStatus.FAILED] * 3 + [ItemStatus.LOADED]


def test_a_failed_load_tells_for_how_long_its_origin_asks_for_rest():
    class Busy(Exception):
        retry_after = 7

    results = warm(sharing(server := ModelServer()), server, load=lambda key: Busy() if key == "k1" else "1 fine")
    assert [result.wait_seconds for result in results] == [None, 7.0, None, None]


def test_no_warm_up_goes_beyond_nine_tenths_of_the_server_s_limit():
    server = ModelServer()
    server.limit_bytes = 2000
    results = warm(sharing(server), server, count=20)
    assert 0 < sum(result.status is ItemStatus.LOADED for result in results) < 20
    assert {"its server is nine tenths full, or evicts"} == {
        result.reason for result in results if result.status is ItemStatus.REJECTED
    }


def test_what_will_not_fit_is_not_even_loaded():
    server = ModelServer()
    server.limit_bytes = 2000
    assert statuses(warm(sharing(server), server, expected=2000, load=None)) == [ItemStatus.REJECTED] * 4


def test_a_server_that_has_begun_to_evict_is_warmed_no_further():
    server = ModelServer()
    server.limit_bytes = 10**9
    made = sharing(server)
    assert statuses(warm(made, server, count=1)) == [ItemStatus.LOADED]
    server.evicted = 1
    server.at += 2 * ROOM_SECONDS
    assert statuses(warm(made, server)[1:]) == [ItemStatus.REJECTED] * 3


def test_of_what_a_server_said_a_moment_ago_that_is_left_which_was_not_given_out():
    server = ModelServer()
    server.limit_bytes = 4000
    made = sharing(server)
    assert statuses(warm(made, server)) == [ItemStatus.LOADED] * 4
    server.limit_bytes = 10**9
    more = [f"more {n}" for n in range(20)]
    told = drive(made.warm(more, [9] * 20), server)
    assert 0 < statuses(told).count(ItemStatus.LOADED) < 20  # what it says now is not asked for
    server.at += 2 * ROOM_SECONDS
    assert ItemStatus.REJECTED not in statuses(drive(made.warm(more, [9] * 20), server))


def test_a_batch_takes_two_questions_and_what_is_there_one():
    server = ModelServer()
    made, asked = sharing(server), []
    warm(made, server)
    ask, server.ask = server.ask, lambda commands: asked.append([name for name, *_ in commands]) or ask(commands)
    drive(made.warm(["a", "b"], [9, 9]), server)
    drive(made.warm(["a", "b"], [9, 9]), server)
    assert asked == [["XREVRANGE", "EXISTS"], ["EVALSHA"], ["XREVRANGE", "EXISTS"], ["GETRANGE", "GETRANGE"]]


def test_operations_side_by_side_ask_at_once_and_each_hears_its_own():
    def asks(*rounds):
        heard = []
        for commands in rounds:
            heard.append((yield Ask(commands)))
        return heard

    both = side_by_side(asks([("a",), ("b",)]), asks(), asks([("c",)], [("d",)]))
    assert next(both) == Ask([("a",), ("b",), ("c",)])
    assert both.send([1, 2, 3]) == Ask([("d",)])
    with pytest.raises(StopIteration) as end:
        both.send(None)
    assert end.value.value == ([[1, 2]], [], [[3], None])


def test_a_server_that_does_not_tell_how_full_it_is_is_not_warmed():
    server = ModelServer(["INFO"])
    results = warm(sharing(server), server, load=None)
    assert {"the server does not tell how full it is; its user has to be allowed INFO"} == {r.reason for r in results}


def test_without_scripts_a_warm_up_adds():
    server = ModelServer(["EVALSHA", "EVAL"])
    made = sharing(server)
    assert statuses(warm(made, server)) == [ItemStatus.LOADED] * 4
    assert [ItemStatus.LOADED, *statuses(warm(sharing(ModelServer()), ModelServer()))] == [ItemStatus.LOADED] * 5


def test_without_scripts_a_load_that_took_longer_than_its_deadline_is_not_put():
    server = ModelServer(("EVALSHA", "EVAL"))
    made = sharing(server)
    made.places.may_script = False

    def slow(key):
        server.at += RULES.load_deadline_seconds + 0.1
        return "1 late"

    (result,) = warm(made, server, count=1, load=slow)
    assert (result.status, "load_deadline_seconds" in result.reason) == (ItemStatus.FAILED, True)
    assert server.value("s:k0") is None


def test_what_was_loaded_before_the_server_lost_its_data_is_not_put():
    server = ModelServer()

    def load(key):
        server.lose_everything()
        return "1 old"

    (result,) = warm(sharing(server), server, count=1, load=load)
    assert result.reason.startswith("the server lost what it held")


def test_while_the_server_is_away_nothing_is_loaded_and_the_items_may_be_tried_again():
    server = ModelServer()
    server.is_away_until = float("inf")
    assert statuses(warm(sharing(server), server, load=None)) == [ItemStatus.FAILED] * 4


def test_a_value_in_hand_is_put_when_the_server_is_back_and_not_loaded_again():
    server, loads = ModelServer(), []
    steps = sharing(server).warm(["k"], [9])

    def load(key):
        loads.append(key)
        server.is_away_until = server.at + 3.0
        return "1 kept"

    assert statuses(drive(steps, server, load=load)) == [ItemStatus.LOADED]
    assert loads == ["k"]
    assert server.at > 1_002.0


def test_finding_asks_in_parts_and_tells_each():
    server = ModelServer()
    server.ask([("SET", "s:k600", b"x")])
    keys = [f"k{n}" for n in range(1200)]
    assert [key == "k600" for key in keys] == drive(sharing(server).find(keys), server)
    server.is_away_until = float("inf")
    assert drive(sharing(server).find(keys), server) is None


# ------------------------------------------------------------------------------------------------------ life


def test_lives_of_warmed_values_are_staggered_by_a_tenth_and_those_of_traffic_are_exact():
    lives = {Life(100.0).milliseconds("k", "v", random.Random(n)) for n in range(500)}
    assert 90_000 <= min(lives) < 91_500
    assert 108_500 < max(lives) <= 110_000
    assert Life(100.0).milliseconds("k", "v") == 100_000
    assert Life().milliseconds("k", "v", random.Random(1)) == 0


def test_what_is_left_of_a_value_s_own_life_is_never_extended():
    life = Life(None, lambda key, value: 100.0)
    assert max(life.milliseconds("k", "v", random.Random(n)) for n in range(500)) <= 100_000
    assert Life(None, lambda key, value: -3.0).milliseconds("k", "v") == -1
    assert Life(None, lambda key, value: None).milliseconds("k", "v") == 0


def test_a_value_whose_life_is_over_is_served_and_not_kept():
    server = ModelServer()
    made = sharing(server, life=Life(None, lambda key, value: 0.0))
    assert drive(made.read("k"), server) == ("1 k", False)
    assert server.value("s:k") is None
    assert statuses(drive(made.warm(["k"], [9]), server)) == [ItemStatus.UNAVAILABLE]
    assert not drive(made.write("k", "2"), server)


def test_the_room_of_a_server_is_what_is_free_below_nine_tenths():
    assert Room(900 - 350, 7) == Room.of(
        {"maxmemory": 1000, "used_memory": 400, "mem_not_counted_for_evict": 50}, {"evicted_keys": 7}
    )
    assert Room(None, 0) == Room.of({"maxmemory": 0, "used_memory": 400}, {})


def test_a_protocol_is_made_with_rules_that_hold():
    rng = random.Random(0)
    with pytest.raises(InvalidSetting):
        Sharing(Rules("s", 1.0, 2.0, 0.0), CODEC, Life(), put_digest="", clock=float, rng=rng, failed=failure_of)


# ------------------------------------------------------------------------------------- a server in trouble


class Moody(ModelServer):
    """Answers commands as it is told, by name: a refusal, or one that comes once."""

    def __init__(self, **answers):
        super().__init__()
        self.answers = answers

    def _carry_out(self, name, *arguments):
        return self.answers[name] if name in self.answers else super()._carry_out(name, *arguments)


def test_a_script_that_the_server_does_not_know_is_sent_to_it():
    server = Moody(EVALSHA=Refused("NOSCRIPT"))
    server._eval = server._evalsha
    assert statuses(warm(sharing(server), server)) == [ItemStatus.LOADED] * 4


@pytest.mark.parametrize("refusal", [Refused("OOM"), [b"--", b"OOM command not allowed"]])
def test_a_server_without_memory_rejects_what_was_loaded(refusal):
    server = Moody(EVALSHA=refusal)
    results = warm(sharing(server), server, count=2)
    assert {(r.status, r.reason) for r in results} == {(ItemStatus.REJECTED, "the server has no memory left")}


def test_another_refusal_is_the_item_s_reason():
    server = Moody(EVALSHA=Refused("WRONGTYPE"))
    results = warm(sharing(server), server, count=1)
    assert results[0].reason == "the server of the cache refused it: WRONGTYPE"


def test_once_a_server_took_no_writes_nothing_is_loaded_until_it_does():
    server, loads = Moody(EVALSHA=Refused("READONLY"), XADD=Refused("READONLY")), []
    server.log.append((b"1-1", ""))
    made = sharing(server)

    def load(key):
        loads.append(key)
        return "1 x"

    assert statuses(warm(made, server, count=1, load=load)) == [ItemStatus.FAILED]
    assert statuses(warm(made, server, load=load)) == [ItemStatus.FAILED] * 4
    assert loads == ["k0"]
    server.answers.clear()
    assert statuses(warm(made, server, load=load)) == [ItemStatus.LOADED] * 4


def test_a_warm_up_waits_patiently_for_a_server_that_comes_back():
    server = ModelServer()
    made = sharing(server, RULES._replace(patience_seconds=5.0))
    server.is_away_until = server.at + 3.0
    assert statuses(warm(made, server)) == [ItemStatus.LOADED] * 4


class Leaving(ModelServer):
    """Goes away for three seconds at its n-th question, which it carries out or not."""

    def __init__(self, n, is_carried_out):
        super().__init__()
        self.left, self.is_carried_out = n, is_carried_out

    def ask(self, commands):
        self.left -= 1
        if self.left == 0:
            if self.is_carried_out:
                super().ask(commands)
            self.is_away_until = self.at + 3.0
        return super().ask(commands)


@pytest.mark.parametrize("is_carried_out", [True, False])
@pytest.mark.parametrize("n", range(1, 8))
def test_whenever_a_server_goes_away_a_warm_up_waits_and_loads_each_once(n, is_carried_out):
    server, loads = Leaving(n, is_carried_out), []
    made = sharing(server, RULES._replace(patience_seconds=5.0))
    results = warm(made, server, load=lambda key: loads.append(key) or "1 x")
    assert set(statuses(results)) <= {ItemStatus.LOADED, ItemStatus.RESIDENT}
    assert [server.value(f"s:k{n}") for n in range(4)] == [b"1 x"] * 4
    assert len(loads) == 4
    assert (server.left <= 0) is (n <= 5)  # log's end, its first note, its end again, memory, put


@pytest.mark.parametrize("refused", ["EXISTS", "XREVRANGE"])
def test_what_can_t_be_looked_up_is_not_loaded(refused):
    server = Moody(**{refused: Refused("WRONGTYPE")})
    assert statuses(warm(sharing(server), server, load=None)) == [ItemStatus.FAILED] * 4


def test_what_turns_out_larger_than_thought_is_rejected_and_too_large_is_too_large():
    server = ModelServer()
    server.limit_bytes = 4000
    values = {"k0": "x" * 5000, "k1": ItemTooLarge("huge")}
    assert statuses(warm(sharing(server), server, count=2, load=values.get)) == [
        ItemStatus.REJECTED,
        ItemStatus.TOO_LARGE,
    ]


def test_without_scripts_a_server_that_goes_away_is_waited_for_with_the_values_in_hand():
    server = ModelServer(["EVALSHA", "EVAL"])
    made = sharing(server)
    made.places.may_script = False

    def load(key):
        server.is_away_until = server.at + 2.0
        return "1 x"

    assert statuses(warm(made, server, count=1, load=load)) == [ItemStatus.LOADED]


def test_debts_are_settled_before_a_warm_up():
    server = ModelServer()
    made = sharing(server)
    server.is_away_until = server.at + 1.0
    drive(made.delete(["k0"]), server)
    server.at += 2.0
    assert statuses(warm(made, server, count=2)) == [ItemStatus.REJECTED, ItemStatus.LOADED]
    server.is_away_until = float("inf")
    drive(made.delete(["k1"]), server)
    for _ in range(2):  # asked no more than once a second
        drive(made.read("k1"), server)
    assert set(made.owed) == {"k1"}


def test_many_values_are_put_in_parts():
    server = ModelServer()
    results = drive(sharing(server).warm([f"k{n}" for n in range(3)], [9] * 3), server, load=lambda _: "x" * (3 << 20))
    assert statuses(results) == [ItemStatus.LOADED] * 3
