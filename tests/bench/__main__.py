"""`make bench`: all figures, a table on the terminal and JSON in build/bench/. Name benches to run only these."""

import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.adapters.mqtt_paho import LinkOptions, PahoLink
from agent.core.outgoing import Outgoing
from tests.bench import (
    bench_adaptive,
    bench_agent,
    bench_batch,
    bench_chain,
    bench_ingest,
    bench_lanes,
    bench_link,
    bench_pipeline,
    bench_process,
    bench_push,
    bench_spool,
    bench_start,
    bench_swap,
    bench_vision,
)
from tests.contract.brokers import Iotcore

OUT = Path("build/bench")


def drain() -> Mapping[str, Any]:
    """The spool over a real broker, against raw paho."""
    with tempfile.TemporaryDirectory() as folder, Iotcore(Path(folder)) as broker:
        options = LinkOptions(broker.host, "bench", broker.port, window=20)
        return bench_spool.drain_over_broker(
            broker.port,
            lambda: PahoLink(options, lambda: 1, lambda _n: Outgoing("bench/will", b""), lambda _topic, _size: None),
        )


BENCHES: dict[str, Callable[[], Mapping[str, Any]]] = {
    "vision": lambda: bench_vision.run(6.0),
    "pipeline": bench_pipeline.run,
    "process": bench_process.run,
    "spool": bench_spool.run,
    "drain": drain,
    "link": bench_link.run,
    "agent": bench_agent.run,
    "start": bench_start.run,
    "swap": bench_swap.run,
    "lanes": bench_lanes.run,
    "adaptive": bench_adaptive.run,
    "batch": bench_batch.run,
    "chain": bench_chain.run,
    "ingest": bench_ingest.run,
    "push": bench_push.run,
}


def main() -> int:
    names = sys.argv[1:] or list(BENCHES)
    if unknown := set(names) - set(BENCHES):
        sys.stderr.write(f"no bench {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}\n")
        return 2
    OUT.mkdir(parents=True, exist_ok=True)
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "load": os.getloadavg()[0]}
    for name in names:
        figures = BENCHES[name]()
        document = {"bench": name, "at": datetime.now(UTC).isoformat(), "machine": machine, "figures": figures}
        (OUT / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
        print(f"\n{name}")
        for key, value in _flat(figures):
            print(f"  {key:48s} {value:>12.3f}" if isinstance(value, float) else f"  {key:48s} {value:>12}")
    print(f"\nJSON: {OUT}/")
    return 0


def _flat(figures: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in figures.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(prefix + key, value)]
    return rows


if __name__ == "__main__":
    sys.exit(main())
