import logging
import threading
from collections.abc import Iterator

import pytest

from agent.adapters.log_ring import LogRing


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.Logger("test")  # noqa: LOG001  one that no other test sees
    yield logger
    for handler in logger.handlers:
        handler.close()


def ring(logger: logging.Logger, most_lines: int = 10) -> LogRing:
    handler = LogRing(most_lines)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    return handler


def test_the_newest_lines_are_kept_oldest_first(logger: logging.Logger) -> None:
    handler = ring(logger, 3)
    for number in range(5):
        logger.info("line %d", number)
    assert handler.lines(10) == ["INFO line 2", "INFO line 3", "INFO line 4"]
    assert handler.lines(2) == ["INFO line 3", "INFO line 4"]
    assert handler.lines(0) == []


def test_a_level_leaves_out_what_is_below_it(logger: logging.Logger) -> None:
    handler = ring(logger)
    logger.debug("a")
    logger.warning("b")
    logger.info("c")
    logger.error("d")
    assert handler.lines(10, "WARNING") == ["WARNING b", "ERROR d"]
    assert handler.lines(1, "INFO") == ["ERROR d"]
    assert len(handler.lines(10)) == 4
    with pytest.raises(ValueError, match="no level"):
        handler.lines(1, "LOUD")


def test_long_lines_are_cut(logger: logging.Logger) -> None:
    handler = ring(logger)
    logger.info("x" * 10_000)
    assert len(handler.lines(1)[0]) == 2000


def test_a_call_that_does_not_fit_its_text_costs_its_line_alone(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    handler = ring(logger)
    logger.info("%d", "no number")
    logger.info("next")
    assert handler.lines(10) == ["INFO next"]


def test_any_thread_may_log_while_another_reads(logger: logging.Logger) -> None:
    handler = ring(logger, 100)

    def write() -> None:
        for _ in range(500):
            logger.info("x")

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert len(handler.lines(1000)) <= 100
    assert handler.lines(1000) == ["INFO x"] * 100
