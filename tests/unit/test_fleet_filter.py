"""The language that names boards."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.core.roster import Filter, FilterError, Node, parse
from fleet.core.roster.fields import FIELDS, Kind
from fleet.core.roster.syntax import All, And, Compare, In, Not, Op, Or, Value
from tests.unit.fleet_board import OLD, T0, info, node, node_id

BOARD = node(
    1, group="canary", labels={"rack": "7", "floor": "ground floor"}, last_seen=T0 - timedelta(minutes=5),
    info=info(node_id(1), agent_version="0.10.1", soc="rk3588"),
)  # fmt: skip


@pytest.mark.parametrize(("text", "holds"), [
    ("", True), ("all", True), ("not all", False),
    ("site=plant1", True), ("site=plant2", False), ("site!=plant1", False), ("node=board-001", True),
    ("site=plant1 and soc=rk3588 and not group=canary", False),
    ("site=plant2 or group=canary", True), ("site=plant2 or site=plant3 and group=canary", False),
    ("(site=plant2 or site=plant1) and group=canary", True), ("SITE=plant1", None), ("site=plant1 AND all", True),
    ("site in (plant2, plant1)", True), ("site not in (plant2, plant*)", False), ("not site in (x)", True),
    ("line=smt-*", True), ("line=smt-?", True), ("line=smt", False), ('line="smt-*"', False), ("line!=smt-*", False),
    ("agent>=0.4", True), ("agent>0.10", True), ("agent<0.9", False), ("agent=0.10.1", True), ("agent=0.10", False),
    ("agent=0.10.1.0", True), ("agent<=0.10.1", True), ("agent>0.10.1-rc1", True), ("agent=0.*", True),
    ("version=1", True), ("version>=2", False), ("model=pcb", True), (f"digest={'a' * 64}", True),
    ("cores=3", True), ("cores>2", True), ("cores<3", False), ("generation=0", True), ("cameras in (0, 1)", True),
    ("seen<10m", True), ("seen<300s", False), ("seen>=5m", True), ("seen<0.5h", True), ("seen>1d", False),
    ("label.rack=7", True), ("rack=7", True), ("rack!=7", False), ("label.none=7", False), ("label.none!=7", True),
    ('label.none=""', True), ('label.floor="ground floor"', True), ('group!=""', True), ("online=true", True),
    ("health=silent", True), ("phase=COMMITTED", True), ("target=rk3588", True), ('area=""', True), ("area=*", False),
])  # fmt: skip
def test_what_a_filter_is_true_of(text: str, holds: bool | None) -> None:
    if holds is None:
        with pytest.raises(FilterError, match="did you mean site"):
            parse(text)
        return
    assert parse(text, labels=["rack"]).matches(BOARD, T0) is holds


@pytest.mark.parametrize(("text", "at", "problem"), [
    ("siet=plant1", 0, "did you mean site?"),
    ("site=plant1 adn soc=rk3588", 12, "did you mean and?"),
    ("site=plant1 soc=rk3588", 12, "expected and, or, or the end"),
    ("site=", 5, "expected a value for site, not 'the end'"),
    ("site=a and", 10, "expected a field"),
    ("site", 4, "expected =, !="),
    ("site=(a)", 5, "expected a value"),
    ("(site=a", 7, "closing parenthesis"),
    ("site=a)", 6, "the end, not ')'"),
    ("site in a", 8, "opening parenthesis"),
    ("site in (a b)", 11, "comma"),
    ("site in ()", 9, "expected a value"),
    ("site not a", 9, "expected in"),
    ("site>3", 4, "with = and != only"),
    ("seen=10m", 4, "for example seen<10m"),
    ("seen in (1m)", 8, "an age"),
    ("seen<10", 5, "with s, m, h or d"),
    ("cores=many", 6, "a number"),
    ("agent>1.*", 6, "= and != only"),
    ("rack=7", 0, "a label is written label.rack"),
    ('site="a', 5, "not closed"),
    ("site='a'", 5, "double quotation marks"),
    ("site=a; drop", 6, "means nothing"),
    ("site=a ä", 7, "means nothing"),
    ("not " * 60 + "all", 204, "nested deeper"),
    ("(" * 60 + "all", 51, "nested deeper"),
    ("site=" + "a" * 5000, 4000, "at most 4000"),
])  # fmt: skip
def test_errors_point_at_the_spot(text: str, at: int, problem: str) -> None:
    with pytest.raises(FilterError, match=None) as caught:
        parse(text)
    assert problem in caught.value.problem
    assert caught.value.at == at
    line, caret = caught.value.pointed.split("\n")
    if at < len(text):
        assert line[caret.index("^")] == text[at]


WORDS = ["plant1", "plant2", "smt-1", "a b", 'q"\\', "and", "", "rk3588", "x*", "0.4.0"]
TEXTS = [name for name, field in FIELDS.items() if field.kind is Kind.TEXT] + ["label.rack", "label.x.y"]
VERSIONS = [name for name, field in FIELDS.items() if field.kind is Kind.VERSION]


def values(*texts: str) -> Any:
    return st.builds(Value, st.sampled_from(texts))


VALUES = values(*WORDS) | st.builds(Value, st.sampled_from(["plant*", "?*", "smt-?"]), st.just(True))
OPS = st.sampled_from(list(Op))
TESTS = st.one_of(
    st.builds(Compare, st.sampled_from(TEXTS), st.sampled_from([Op.EQUAL, Op.DIFFERENT]), VALUES),
    st.builds(Compare, st.sampled_from(VERSIONS), OPS, values("1", "0.4", "0.4.0-rc1")),
    st.builds(Compare, st.just("cores"), OPS, values("0", "3", "12")),
    st.builds(Compare, st.just("seen"), st.sampled_from([Op.LESS, Op.AT_LEAST]), values("5m", "1.5h")),
    st.builds(In, st.sampled_from(TEXTS), st.lists(VALUES, min_size=1, max_size=3).map(tuple)),
    st.just(All()),
)
TREES = st.recursive(
    TESTS,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: And(tuple(parts))),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: Or(tuple(parts))),
    ),
    max_leaves=8,
)


@given(TREES)
@settings(max_examples=150, deadline=None)
def test_what_is_written_down_reads_back_the_same(tree: Any) -> None:
    assert parse(str(Filter(tree))).tree == tree


def plainly(tree: Any, board: Node) -> bool:
    """What the tree means, without any of its own code."""
    if isinstance(tree, All):
        return True
    if isinstance(tree, Not):
        return not plainly(tree.inner, board)
    if isinstance(tree, And | Or):
        truths = [plainly(part, board) for part in tree.parts]
        return all(truths) if isinstance(tree, And) else any(truths)
    facts = {"site": board.id.site, "group": board.group, "label.rack": board.labels.get("rack", ""), "soc": "rk3588"}
    if isinstance(tree, In):
        return facts[tree.field] in [value.text for value in tree.values]
    return (facts[tree.field] == tree.value.text) is (tree.op is Op.EQUAL)


PLAIN_VALUES = st.builds(Value, st.sampled_from(["plant1", "plant2", "canary", "7", ""]))
PLAIN_FIELDS = st.sampled_from(["site", "group", "label.rack", "soc"])
PLAIN = st.recursive(
    st.builds(Compare, PLAIN_FIELDS, st.sampled_from([Op.EQUAL, Op.DIFFERENT]), PLAIN_VALUES)
    | st.builds(In, PLAIN_FIELDS, st.lists(PLAIN_VALUES, min_size=1, max_size=3).map(tuple)),
    lambda inner: st.one_of(
        inner.map(Not),
        st.tuples(inner, inner).map(And),
        st.tuples(inner, inner).map(Or),
    ),
    max_leaves=8,
)


@given(PLAIN, st.sampled_from(["plant1", "plant2"]), st.sampled_from(["canary", ""]), st.sampled_from(["7", "8", ""]))
@settings(max_examples=150, deadline=None)
def test_a_filter_is_true_of_what_it_says(tree: Any, site: str, group: str, rack: str) -> None:
    board = node(1, OLD, site=site, group=group, labels={"rack": rack} if rack else {})
    assert parse(str(tree)).matches(board, T0) is plainly(tree, board)


@given(st.text(max_size=40) | st.text(alphabet="site=()<>! andornotin\"'*,.0", max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_filter_or_an_error_that_points(text: str) -> None:
    try:
        parse(text).matches(BOARD, T0)
        problem = None
    except FilterError as error:
        problem = error
    assert problem is None or (0 <= problem.at <= len(text) and "^" in problem.pointed)
