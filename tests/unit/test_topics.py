import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.topics import BadTopic, Parsed, Topics, parse

TOPICS = Topics("berlin", "board-1")


@pytest.mark.parametrize(
    ("topic", "parsed"),
    [
        (TOPICS.status, Parsed("berlin", "board-1", "status")),
        (TOPICS.info, Parsed("berlin", "board-1", "info")),
        (TOPICS.desired("model"), Parsed("berlin", "board-1", "desired", "model")),
        (TOPICS.reported("config"), Parsed("berlin", "board-1", "reported", "config")),
        (TOPICS.command("ping"), Parsed("berlin", "board-1", "cmd", "ping")),
        (TOPICS.job_request("j1"), Parsed("berlin", "board-1", "job", "j1", "request")),
        (TOPICS.job_status("j1"), Parsed("berlin", "board-1", "job", "j1", "status")),
        (TOPICS.result("top"), Parsed("berlin", "board-1", "result", "top")),
        (TOPICS.telemetry("host"), Parsed("berlin", "board-1", "telemetry", "host")),
        (TOPICS.event("camera-lost"), Parsed("berlin", "board-1", "event", "camera-lost")),
        (TOPICS.alarm("camera-lost"), Parsed("berlin", "board-1", "alarm", "camera-lost")),
    ],
)
def test_a_topic_is_parsed_into_what_it_was_built_from(topic: str, parsed: Parsed) -> None:
    assert parse(topic) == parsed


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "rkfleet/v2/a/b/status",
        "rkfleet/v1/a/b",
        "rkfleet/v1//b/status",
        "rkfleet/v1/a/b/status/more",
        "rkfleet/v1/a/b/cmd",
        "rkfleet/v1/a/b/cmd/",
        "rkfleet/v1/a/b/cmd/+",
        "rkfleet/v1/a/#",
        "rkfleet/v1/a/b/job/1",
        "rkfleet/v1/a/b/job/1/cancel",
        "rkfleet/v1/a/b/unheard/x",
        "rkfleet/v1/a/b/cmd/pi ng",
        "rkfleet/v1/a/b/cmd/ping\n",
    ],
)
def test_what_is_no_topic_of_ours_is_refused(topic: str) -> None:
    with pytest.raises(BadTopic):
        parse(topic)


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parsed = parse(f"rkfleet/v1/a/b/{text}")
    except BadTopic:
        return
    assert "/".join(part for part in (parsed.family, parsed.name, parsed.tail) if part) == text


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "ä", "x" * 129])
def test_a_name_that_cannot_stand_in_a_topic_is_refused(name: str) -> None:
    with pytest.raises(BadTopic):
        Topics("berlin", name)
