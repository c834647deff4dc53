"""Where keys are on a cluster: everything that is done at once in one slot, and everything spread evenly."""

import random
from collections import Counter

import pytest

from preheat._model import ItemStatus
from preheat._sharing.slots import CLUSTER_SHARDS, SLOTS, Shards, cluster_tags, slot_of
from preheat._sharing.steps import Refused
from sharing import ModelServer, Origin, drive, is_stale, reader, sharing, warm_up, writer

ON_CLUSTER = Shards(cluster_tags())


@pytest.mark.parametrize(
    ("place", "slot"), [("123456789", 0x31C3), ("foo", 12182), ("a{foo}b", 12182), ("{}x", slot_of("{}x")), ("", 0)]
)
def test_slots_are_those_of_the_specification(place, slot):
    assert slot_of(place) == slot


def test_empty_braces_are_no_tag():
    assert slot_of("{}a") != slot_of("{}b")


def test_there_is_one_tag_in_each_equal_part_of_the_slots():
    parts = [slot_of(tag) * CLUSTER_SHARDS // SLOTS for tag in cluster_tags()]
    assert parts == list(range(CLUSTER_SHARDS))


def test_keys_are_spread_over_all_shards():
    counts = Counter(ON_CLUSTER.of(f"page {n}") for n in range(64_000))
    assert len(counts) == CLUSTER_SHARDS
    assert max(counts.values()) < 1.2 * min(counts.values())


def test_a_key_and_the_log_that_it_is_noted_in_are_in_one_slot():
    places = sharing(ModelServer(), shards=ON_CLUSTER).places
    for n in range(100):
        key = f"page {n} {{braces}}"
        assert slot_of(places.place(key)) == slot_of(places.log_place(ON_CLUSTER.of(key)))
    assert len({slot_of(place) for place in places.log_places()}) == CLUSTER_SHARDS


def test_on_a_single_server_names_are_as_they_were():
    places = sharing(ModelServer()).places
    assert (places.place("k"), places.log_places()) == ("s:k", ["s\x00log"])


class Listening(ModelServer):
    """One that notes the names of the commands of each request."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def ask(self, commands):
        self.asked.append([command[0] for command in commands])
        return super().ask(commands)


def a_cluster():
    server = Listening()
    server.is_cluster = True
    return server


def test_a_batch_goes_out_by_shards_and_no_command_crosses_slots():
    server = a_cluster()
    keys = [f"{n}" for n in range(600)]
    made = sharing(server, shards=ON_CLUSTER)
    assert {result.status for result in drive(made.warm(keys, [9] * 600), server)} == {ItemStatus.LOADED}
    scripts = [len(commands) for commands in server.asked if commands[0] == "EVALSHA"]
    assert len(scripts) == 2
    assert max(scripts) <= CLUSTER_SHARDS
    assert drive(made.find([*keys[:5], "absent"]), server) == [True] * 5 + [False]
    assert {result.status for result in drive(made.warm(keys, [9] * 600), server)} == {ItemStatus.RESIDENT}
    assert drive(made.delete(keys), server)
    assert drive(made.read("7"), server) == ("1 7", False)
    assert drive(made.read("7"), server) == ("1 7", True)


def test_without_shards_the_same_batch_crosses_slots():
    server = a_cluster()
    results = drive(sharing(server).warm(["a", "b"], [9, 9]), server)
    assert {result.status for result in results} == {ItemStatus.FAILED}


def random_play(seed):
    rng, server, origin = random.Random(seed), a_cluster(), Origin()
    made = [sharing(server, shards=ON_CLUSTER) for _ in range(4)]
    parts = (server.ask, origin)
    actors = [warm_up(made[0], *parts, whole=False), writer(made[1], *parts), writer(made[2], *parts, puts=True)]
    actors.append(reader(made[3], *parts, whole=False))
    while waiting := [actor for actor in actors if not actor.is_over]:
        rng.choice(waiting).turn()
        server.at += rng.choice([0.0, 3.0, 11.0, 16.0]) * rng.random()
        if rng.random() < 0.05:
            server.lose_everything()
    return is_stale(server.value(made[0].places.place("k")), origin)


def test_random_schedules_on_a_cluster_leave_nothing_stale():
    assert sum(random_play(seed) for seed in range(2000)) == 0


class Partly(ModelServer):
    """A cluster of which the shard of one key is away."""

    def ask(self, commands):
        away = ON_CLUSTER.mark(ON_CLUSTER.of("away"))
        replies = super().ask(commands)
        pairs = zip(commands, replies, strict=True)
        return [
            Refused("CLUSTERDOWN") if any(away in str(part) for part in command) else reply for command, reply in pairs
        ]


def test_a_part_of_the_cluster_that_is_away_costs_its_keys_only():
    server = Partly()
    made = sharing(server, shards=ON_CLUSTER)
    assert drive(made.read("k"), server) == ("1 k", False)
    assert drive(made.read("k"), server) == ("1 k", True)
    assert [drive(made.read("away"), server) for _ in range(2)] == [("1 away", False)] * 2
    assert drive(made.find(["k", "away"]), server) is None
