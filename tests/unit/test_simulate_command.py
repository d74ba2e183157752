"""`rkfleet simulate`: its options, and how boards are shared out."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from agent.simulate.config import Badness, Simulation
from fleet.cli import app, simulate, simulate_crowd
from fleet.cli.simulate_crowd import BOARDS_A_PROCESS, shares_of


@pytest.mark.parametrize("nodes", [1, 49, 99, 100, 101, 500, 501, 1999, 2000])
def test_each_board_is_in_one_process_and_no_process_has_too_many(nodes: int) -> None:
    shares = shares_of({"site": "s"}, first=7, nodes=nodes, starts_per_s=100.0)
    numbers = [n for each in shares for n in range(each["first"], each["first"] + each["nodes"])]
    assert numbers == list(range(7, 7 + nodes))
    sizes = [each["nodes"] for each in shares]
    assert max(sizes) <= BOARDS_A_PROCESS
    assert max(sizes) - min(sizes) <= 1
    assert sum(each["startsPerS"] for each in shares) == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--broker", "host:0"], "HOST:PORT"),
        (["--broker", "host:http"], "HOST:PORT"),
        (["--broker", ":1883"], "HOST:PORT"),
        (["--soc", "rk1234"], "SOC=WEIGHT"),
        (["--soc", "rk3588=much"], "SOC=WEIGHT"),
        (["--bad-model", "pcb=ng"], "NAME@VERSION"),
        (["--bad-model", "pcb@1=sad"], "selftest"),
        (["--registry", "http://r.example"], "together"),
        (["--lie", "1.5"], "--lie"),
        (["--nodes", "0"], "--nodes"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_starts(options: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["simulate", "--nodes", "3", *options])
    assert done.exit_code == 2
    assert said in done.output


def test_what_is_wrong_with_a_model_has_the_boards_words() -> None:
    assert set(simulate.BADNESS) == {each.value for each in Badness}


class Played:
    """In the place of the processes."""

    complaints: tuple[str, ...] = ()

    def __init__(self, configs: list[dict[str, Any]]) -> None:
        type(self).configs = configs

    configs: list[dict[str, Any]]

    def standings(self) -> Any:
        yield {"boards": 3, "started": 3, "online": 3, "inspected": 0, "results": 0, "phases": {"COMMITTED": 3},
               "models": {"simulated@1": 3}, "generation": 0, "processes": 1, "everOnline": 3}  # fmt: skip

    def end(self) -> None:
        """Nothing runs."""


def test_the_boards_understand_what_the_command_gives_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "Crowd", Played)
    monkeypatch.setenv("RKFLEET_BROKER_PASSWORD", "secret")
    options = ["--nodes", "3", "--broker", "broker.example:8883", "--soc", "rk3588=3,rk3576", "--bad-model", "pcb@9=ng",
               "--flap", "0.1", "--silent", "0.2", "--lie", "0.3", "--rate", "2", "--duration", "5", "--first", "10",
               "--username", "u", "--no-trust", "--seed", "4", "--json"]  # fmt: skip
    done = CliRunner().invoke(app, ["simulate", *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["online"] == 3
    (config,) = Played.configs
    given = Simulation.model_validate_json(json.dumps(config))
    assert (given.host, given.port, given.username, given.password) == ("broker.example", 8883, "u", "secret")
    assert {target.value: weight for target, weight in given.socs.items()} == {"rk3588": 3, "rk3576": 1}
    assert given.bad_models == {"pcb@9": Badness.NG}
    assert (given.shares.flap, given.shares.silent, given.shares.lie) == (0.1, 0.2, 0.3)
    assert (given.rate, given.duration_s, given.seed, given.trust.manifests) == (2, 5, 4, False)
    assert given.names() == ["sim-000010", "sim-000011", "sim-000012"]


def test_a_process_of_boards_that_ends_by_itself_is_told_with_its_words() -> None:
    crowd = simulate_crowd.Crowd([{"nodes": 0}])
    list(crowd.standings())
    crowd.end()
    (complaint,) = crowd.complaints
    assert "nodes" in complaint
