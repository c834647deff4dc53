"""Plans that people edit: what may be changed, and what is refused in which words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from builders import item, plan_of, planned, reasons
from preheat import plan_from_json, plan_to_json
from preheat._model import MemoryPressureLevel
from preheat._plan import saved
from preheat._plan.fitting import fit_plan
from preheat.errors import InvalidPlan

ROWS = [item("top", "base", cost=9.0), item("base", cost=0.1), item("good", cost=3.0), item("fair", cost=2.0)]


def tree():
    return json.loads(plan_to_json(plan_of(ROWS)))


def read(document):
    return plan_from_json(json.dumps(document), "plan.json")


def keys(plan):
    return [list(phase.items.keys) for phase in plan.phases]


def test_an_item_a_line_so_that_people_and_their_tools_can_edit_it():
    lines = plan_to_json(plan_of(ROWS)).splitlines()
    assert sum('"key"' in line for line in lines) == len(ROWS)
    assert next(line for line in lines if '"key": "top"' in line).strip().startswith('{"cache": "c", "key": "top",')


def test_keys_of_any_text_are_kept_as_they_are():
    plan = plan_of([item('c:"quoted" : é\n\u2028')])
    assert plan_from_json(plan_to_json(plan)).candidates.keys[0] == '"quoted" : é\n\u2028'


def test_a_plan_of_bytes_is_read_too():
    assert planned(plan_from_json(plan_to_json(plan_of(ROWS)).encode())) == planned(plan_of(ROWS))


def test_the_order_of_the_document_is_the_order_of_loading():
    document = tree()
    document["phases"]["standard"] = document["phases"]["standard"][::-1]
    document["phases"]["standard"].sort(key=lambda each: each["key"] == "top")
    assert keys(read(document))[1] == [each["key"] for each in document["phases"]["standard"]]


def test_a_critical_priority_moves_an_item_and_what_it_needs_to_the_first_phase():
    document = tree()
    next(each for each in document["phases"]["standard"] if each["key"] == "top")["priority"] = 9
    assert keys(read(document))[0] == ["base", "top"]


def test_an_item_added_by_hand_needs_only_its_name():
    document = tree()
    document["phases"]["background"].append({"cache": "c", "key": "new"})
    plan = read(document)
    assert plan.candidates[len(plan.candidates) - 1].priority == 5
    assert keys(plan)[2][-1] == "new"


def test_a_plan_without_a_budget_is_what_its_items_weigh():
    document = tree()
    del document["budget"]
    plan = read(document)
    assert (plan.budget.granted_bytes, plan.budget.pressure) == (plan.size_bytes, MemoryPressureLevel.LOW)


def test_what_is_held_out_stays_held_out():
    plan = plan_of([item(str(n)) for n in range(40)], holdout_ratio=0.3, seed=3)
    again = plan_from_json(plan_to_json(plan))
    assert {again.candidates.keys[row] for row in again.held_out.tolist()} == {
        plan.candidates.keys[row] for row in plan.held_out.tolist()
    }
    assert len(again.comparable) == len(plan.comparable)


def test_size_factors_are_kept():
    plan = replace(plan_of(ROWS), size_factors={("c", "kind"): 1.5})
    assert plan_from_json(plan_to_json(plan)).size_factors == {("c", "kind"): 1.5}


def edit(**changes):
    document = tree()
    document["phases"]["standard"][0] |= changes
    return document


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ([], r"it has to be an object with fields, and is \[\]"),
        ({}, "the field 'schema' is missing"),
        (tree() | {"schema": "preheat-saved-plan/9"}, "its schema is 'preheat-saved-plan/9'; this version reads"),
        (tree() | {"phase": {}}, r"there is no field 'phase'; did you mean 'phases'\? there are: schema"),
        (tree() | {"phases": {"urgent": []}}, "phases: there is no field 'urgent'"),
        (tree() | {"phases": {"critical": {}}}, "phases: critical is {}; it has to be a list of items"),
        (
            tree() | {"phases": {"critical": [7]}},
            r"phases, critical\[0\]: it has to be an object .* is 7",
        ),
        (tree() | {"seed": -1}, "seed is -1; it has to be a whole number from 0"),
        (tree() | {"budget": {"pressure": "low"}}, "budget: pressure is 'low'; it has to be one of LOW, MODERATE"),
        (tree() | {"size_factors": [["c", "", 1e9]]}, r"size_factors\[0\] is \['c', '', 1000000000.0\]"),
        (tree() | {"size_factors": 3}, "size_factors is 3; it has to be a list"),
        (edit(size_bytes=-1), r"standard\[0\], item c:base: size_bytes is -1; it has to be a whole number of bytes"),
        (edit(size_bytes=1.5), "item c:base: size_bytes is 1.5"),
        (edit(size_bytes=True), "item c:base: size_bytes is True"),
        (edit(size_bytes=2**60), "item c:base: size_bytes is 1152921504606846976"),
        (edit(warmup_cost=-0.1), "item c:base: warmup_cost is -0.1; it has to be a number, 0 or more"),
        (edit(priority=11), "item c:base: priority is 11; it has to be a whole number from 1 to 10"),
        (edit(prio=3), "item c:base: there is no field 'prio'; did you mean 'priority'?"),
        (edit(needs="top"), "item c:base: needs is 'top'; it has to be a list of pairs"),
        (edit(needs=[["c", "gone"]]), "item c:base needs c:gone, which the plan does not have; put it in"),
        (edit(needs=[["c", "top"]]), "item c:base needs c:top, which comes later; move it up"),
        (edit(needs=[["c", "base"]]), "item c:base needs c:base, which comes later"),
        (edit(key="good"), "item c:good stands in it twice; take one of them out"),
        (edit(key="\ud800"), "key is '\\\\ud800'; it has to be text"),
    ],
)
def test_what_can_not_be_is_refused_with_file_item_and_remedy(document, sentence):
    with pytest.raises(InvalidPlan, match=rf"^plan\.json: .*{sentence}") as refusal:
        read(document)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "plan.json, line 1: no JSON: "),
        (b"\xff", "plan.json is not UTF-8"),
        ("[" * 10**6, "plan.json is nested too deeply to be a plan"),
        ('{"seed": 1, "seed": 2}', "plan.json: the field 'seed' stands twice in one place"),
        ('{"seed": NaN}', "plan.json: NaN is no number that a plan can hold"),
        ('{"seed": ' + "9" * 5000 + "}", "plan.json: "),
    ],
)
def test_what_is_no_json_is_refused_in_a_sentence(text, sentence):
    with pytest.raises(InvalidPlan, match=f"^{sentence}"):
        plan_from_json(text, "plan.json")


def test_what_is_needed_must_not_be_held_out():
    document = tree()
    document["held_out"].append(document["phases"]["standard"].pop(0))
    with pytest.raises(InvalidPlan, match="item c:top needs c:base, which is held out; move it to a phase"):
        read(document)


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        ("MOST_TEXT_BYTES", "a plan may have 3"),
        ("MOST_ITEMS", "a plan may have 3"),
        ("MOST_NEEDS", "those of a plan may have 0"),
    ],
)
def test_what_is_too_large_is_refused(monkeypatch, limit, sentence):
    monkeypatch.setattr(saved, limit, 0 if limit == "MOST_NEEDS" else 3)
    with pytest.raises(InvalidPlan, match=sentence):
        read(tree())


# --------------------------------------------------------------------------------------------------------- fitting


def fitted(document, granted, **free):
    plan = read(document)
    return fit_plan(plan, plan.budget._replace(granted_bytes=granted, reason="now"), free)


def test_a_plan_that_fits_stays_as_it_is():
    plan = fitted(tree(), 400, c=None)
    assert (planned(plan), reasons(plan)) == (planned(plan_of(ROWS)), {})
    assert (plan.budget.granted_bytes, plan.budget.reason) == (400, "now")


def test_what_does_not_fit_any_more_is_left_out_from_the_end():
    assert reasons(fitted(tree(), 300)) == {"fair": "OVER_BUDGET"}
    assert reasons(fitted(tree(), 400, c=300)) == {"fair": "OVER_CAPACITY"}


def test_what_needs_something_that_has_no_place_is_left_out_with_it():
    document = tree()
    next(each for each in document["phases"]["standard"] if each["key"] == "base")["size_bytes"] = 1000
    assert reasons(fitted(document, 400)) == {"base": "OVER_BUDGET", "top": "OVER_BUDGET"}
