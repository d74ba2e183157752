"""`rkfleet demo`, as a new user runs it."""

import json
import subprocess
import sys
from pathlib import Path


def test_the_demo_rolls_the_better_model_out_and_takes_the_bad_one_back(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fleet.cli", "demo", "--seconds", "4", "--json", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert report["lost"] == 0
    assert report["received"] == report["recorded"] == report["stored"] > 100
    good, bad = report["rollouts"]
    assert (good["state"], set(good["members"].values())) == ("FINISHED", {"SUCCEEDED"})
    assert (bad["state"], bad["members"]["demo/board-1"]) == ("STOPPED", "REVERTED")
    assert "absNgDrift" in bad["reason"]
    assert bad["resultsOfIt"]["board-1"] > 0
    assert report["boards"]["board-1"]["models"] == ["1.0.0", "1.1.0", "1.2.0", "1.1.0"]
    assert report["boards"]["board-2"]["models"] == ["1.0.0", "1.1.0"]
    assert (report["swap"]["phase"], report["swap"]["framesLost"]) == ("COMMITTED", 0)
    assert "not signed" in report["forgedOrder"]
    assert (tmp_path / "rollout.png").stat().st_size > 1000
    assert (tmp_path / "defects.png").stat().st_size > 1000
