"""What the measured values mean, in words; pure. What is not well says what to do."""

from collections.abc import Mapping, Sequence

from agent.selftest.measure import hottest_c
from schemas.selftest import BoardFacts, CameraFacts, CoreFacts, Finding, Outcome, Sample, TogetherFacts, Trend

HOT_C = 90.0
WARM_C = 80.0
THROTTLED = 0.95
"""A frequency below this share of the highest one seen is throttled."""
LEAST_RATIO = 0.85
LEAST_RATE = 0.9
LONG_ENOUGH_S = 1800.0
"""A line through less tells more of the allocator than of a leak."""
LEAK_MB_PER_HOUR = 5.0


def ok(what: str, text: str) -> Finding:
    return Finding(what=what, outcome=Outcome.OK, text=text[:2000])


def look(what: str, text: str) -> Finding:
    return Finding(what=what, outcome=Outcome.LOOK, text=text[:2000])


def failed(what: str, text: str) -> Finding:
    return Finding(what=what, outcome=Outcome.FAILED, text=text[:2000])


def board(facts: BoardFacts) -> Finding:
    if facts.target == "cpu":
        return ok("npu", "no NPU: the model runs on the CPU")
    if facts.npu_driver is None and not facts.npu_load_told and not facts.npu_frequency_told:
        return look("npu", "no NPU driver shows itself; look for rknpu in dmesg")
    hidden = [
        name for name, told in (("load", facts.npu_load_told), ("frequency", facts.npu_frequency_told)) if not told
    ]
    if hidden:
        return look("npu", f"its {' and '.join(hidden)} cannot be read; run as root, with debugfs mounted, to see them")
    return ok("npu", f"driver {facts.npu_driver}, load and frequency can be read")


def golden(lane: str, facts: CoreFacts, least: float) -> Finding:
    text = f"{facts.golden_frames} golden frames, worst agreement {facts.least_agreement:.4f}, {least:g} is needed"
    if facts.least_agreement >= least:
        return ok(f"{lane}.golden", text)
    return failed(
        f"{lane}.golden", f"{text}: this core computes wrong numbers; compare runtime and toolkit versions, try others"
    )


def together(facts: TogetherFacts, cores: int, *, is_shared: bool) -> Finding:
    text = f"{facts.rate_hz:.1f}/s on one core"
    if cores > 1:
        text = f"{facts.rate_hz:.1f}/s on {cores} cores together, {facts.ratio:.2f} of the sum of each alone"
    if is_shared:
        return look("throughput", f"{text}; an agent runs beside: stop it for true figures")
    if cores > 1 and facts.ratio < LEAST_RATIO:
        return look("throughput", f"{text}: memory, heat or the CPU holds them up; see temperature and frequency")
    return ok("throughput", text)


def temperature(samples: Sequence[Sample]) -> Finding:
    known = [(sample.at_s, hot) for sample in samples if (hot := hottest_c(sample)) is not None]
    if not known:
        return look("temperature", "no thermal zone can be read under /sys/class/thermal")
    at_s, most = max(known, key=lambda pair: pair[1])
    text = f"{known[0][1]:.0f} °C at the start, at most {most:.0f} °C after {at_s:.0f} s"
    if most >= HOT_C:
        return failed("temperature", f"{text}: too hot to last; improve cooling")
    return look("temperature", f"{text}: warm; a longer run tells more") if most >= WARM_C else ok("temperature", text)


def throttling(samples: Sequence[Sample]) -> Finding | None:
    """None where no frequency can be read. A governor may lower it while the NPU rests, never while it works."""
    clocks = [sample.npu_frequency_hz for sample in samples if sample.npu_frequency_hz]
    if not clocks:
        return None
    share = sum(hz < THROTTLED * max(clocks) for hz in clocks) / len(clocks)
    text = f"{max(clocks) / 1e6:.0f} MHz at most, {min(clocks) / 1e6:.0f} MHz at least under load"
    if share:
        return look(
            "throttling", f"{text}, below the top in {share:.0%} of the samples: improve cooling or the governor"
        )
    return ok("throttling", text)


def memory(what: str, found: Trend | None, seconds: float) -> Finding:
    if found is None:
        return look(what, "too few samples; run it longer")
    text = f"{found.start_bytes / 1e6:.1f} MB at the start, {found.end_bytes / 1e6:.1f} MB at the end"
    if seconds < LONG_ENOUGH_S:
        return ok(what, f"{text}; whether it grows shows after {LONG_ENOUGH_S / 60:.0f} minutes")
    text = f"{text}, {found.mb_per_hour:+.1f} MB/hour"
    if found.mb_per_hour > LEAK_MB_PER_HOUR:
        return failed(what, f"{text}: it grows; send us this report with your versions")
    return ok(what, text)


def camera(name: str, facts: CameraFacts, wanted_hz: float | None) -> Finding:
    what = f"camera.{name}"
    text = f"{facts.width_px}x{facts.height_px} {facts.layout}, {facts.rate_hz:.1f} pictures/s"
    if wanted_hz is not None and facts.rate_hz < LEAST_RATE * wanted_hz:
        return look(what, f"{text}, {wanted_hz:g} are asked for: check exposure time, link and decoder")
    return ok(what, text)


def clock(*, synced: bool | None, offset_ms: float | None) -> Finding:
    if synced is None:
        return look("clock", "whether it is synchronised cannot be told; check timedatectl")
    if not synced:
        return look("clock", "not synchronised: results would carry wrong times; start chrony or systemd-timesyncd")
    return ok("clock", "synchronised" if offset_ms is None else f"synchronised, {offset_ms:+.1f} ms off")


def is_well(findings: Sequence[Finding]) -> bool:
    return all(finding.outcome is not Outcome.FAILED for finding in findings)


def counted(findings: Sequence[Finding]) -> Mapping[Outcome, int]:
    return {outcome: sum(finding.outcome is outcome for finding in findings) for outcome in Outcome}
