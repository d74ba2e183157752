"""`rkfleet demo`, as a new user runs it."""

import json
import subprocess
import sys
from pathlib import Path


def test_the_demo_swaps_to_the_better_model_and_refuses_the_others(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fleet.cli", "demo", "--seconds", "8", "--json", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert report["lost"] == 0
    assert report["received"] == report["recorded"] > 100
    swap, (corrupted, bad) = report["swap"], report["refusals"]
    assert (swap["phase"], swap["framesLost"]) == ("COMMITTED", 0)
    assert [phase["phase"] for phase in swap["phases"]][-2:] == ["PROBATION", "COMMITTED"]
    assert swap["gapMs"] > 0
    assert swap["steadyP99Ms"] > 0
    assert (corrupted["phase"], corrupted["code"]) == ("REJECTED", "model-digest-mismatch")
    assert corrupted["resultsOfIt"] == 0
    assert (bad["phase"], bad["code"]) == ("ROLLED_BACK", "probation-failed")
    assert {corrupted["inspectingAfter"], bad["inspectingAfter"]} == {"1.1.0"}
    assert (tmp_path / "swap.png").stat().st_size > 1000
    assert (tmp_path / "defects.png").stat().st_size > 1000
