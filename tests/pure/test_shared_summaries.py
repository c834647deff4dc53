"""What others than the operator may read of a report."""

from preheat._summary import UNTOLD, kind_of_fault, strategies_summary, without_keys, without_user

REPORT = {
    "schema": "preheat-report/1",
    "failures": [
        {"item": "pages:secret/1", "reason": "OSError: secret is not to be had"},
        {"item": "pages:secret/2", "reason": "OSError: secret again"},
        {"item": "pages:secret/3", "reason": "secret: whatever"},
    ],
    "memory_events": [
        {"kind": "eviction", "cache": "pages", "cause": "secret"},
        {"kind": "pressure", "cache": "pages", "cause": "secret"},
        {"kind": "pressure", "cache": "", "cause": "LOW -> HIGH: pauses"},
    ],
    "origins": [{"origin": "redis://user:secret@host/1", "requests": 1}],
}


def test_failures_are_counted_by_cache_and_kind():
    assert without_keys(REPORT)["failures"] == [
        {"item": "pages", "reason": "OSError", "count": 2},
        {"item": "pages", "reason": UNTOLD, "count": 1},
    ]


def test_items_are_named_where_that_is_allowed_and_their_reasons_never():
    told = without_keys(REPORT, shows_items=True)["failures"]
    assert [row["item"] for row in told] == ["pages:secret/1", "pages:secret/2", "pages:secret/3"]
    assert {row["reason"] for row in told} == {"OSError", UNTOLD}


def test_nothing_of_an_application_s_words_is_left():
    assert "secret" not in str(without_keys(REPORT))


def test_causes_of_ours_are_left():
    assert [event["cause"] for event in without_keys(REPORT)["memory_events"]] == ["", "", "LOW -> HIGH: pauses"]


def test_a_report_of_another_version_will_do():
    assert without_keys({"failures": "?", "memory_events": None, "origins": [1]}) == {
        "failures": [], "memory_events": [], "origins": [],
    }  # fmt: skip


def test_the_report_is_left_as_it_is():
    before = str(REPORT)
    without_keys(REPORT)
    assert str(REPORT) == before


def test_kinds_of_faults():
    assert kind_of_fault("TimeoutError") == "TimeoutError"
    assert kind_of_fault("ReadTimeout: x") == "ReadTimeout"
    assert kind_of_fault("hunter2Error: x") == UNTOLD
    assert kind_of_fault("") == UNTOLD


def test_users_and_passwords_are_taken_out_of_addresses():
    assert without_user("https://user:p@ss@host/path") == "https://host/path"
    assert without_user("pages") == "pages"


def test_no_plans_are_no_strategies():
    assert strategies_summary([])["strategies"] == []
