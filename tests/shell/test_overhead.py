"""What the service itself costs, as the system tells it."""

import logging
import threading

import pytest

from preheat._log import log_failure
from preheat._overhead import folder_bytes, thread_seconds


def test_the_time_of_our_threads_is_told_by_kind():
    ended, has_worked = threading.Event(), threading.Barrier(3)

    def work():
        sum(range(2_000_000))
        has_worked.wait()
        ended.wait()

    threads = [threading.Thread(target=work, name=f"preheat-test-{n}") for n in (1, 2)]
    threads.append(threading.Thread(target=ended.wait, name="of the application"))
    for thread in threads:
        thread.start()
    has_worked.wait()
    told = thread_seconds()
    ended.set()
    for thread in threads:
        thread.join()
    assert told["test"] > 0
    assert "of the application" not in told
    assert "test" not in thread_seconds()


def test_a_folder_weighs_what_its_files_occupy(tmp_path):
    assert folder_bytes(tmp_path) == 0
    assert folder_bytes(tmp_path / "nothing") == 0
    (tmp_path / "below").mkdir()
    for place in (tmp_path / "a", tmp_path / "below" / "b"):
        place.write_bytes(b"x" * 10_000)
    assert 20_000 <= folder_bytes(tmp_path) <= 40_000


@pytest.mark.parametrize(
    ("error", "said"),
    [(KeyError("secret"), "what it says is not logged"), (FileNotFoundError(2, "secret", "secret"), "No such file")],
)
def test_of_a_failure_the_kind_and_the_place_are_logged(caplog, error, said):
    with caplog.at_level(logging.ERROR, "preheat"):
        try:
            raise error
        except Exception:
            log_failure("something of %r failed", "pages")
    [record] = caplog.records
    assert record.exc_info[0] is type(error)
    for told in ("something of 'pages' failed", type(error).__name__, said, "test_overhead.py"):
        assert told in caplog.text
    assert "secret" not in caplog.text.replace('KeyError("secret")', "").replace('"secret", "secret"', "")


def test_an_error_that_led_to_another_is_not_told_either(caplog):
    words = "sec" + "ret"
    try:
        try:
            raise OSError(words)
        except OSError as error:
            raise RuntimeError(words) from error
    except RuntimeError:
        log_failure("it failed")
    assert words not in caplog.text
