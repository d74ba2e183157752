"""What `rkfleet rollout example` prints."""

EXAMPLE = """\
# A rollout: one model to many boards, in waves. `rkfleet rollout create FILE --dry-run` shows who would be in which
# wave; docs/rollouts.md tells the whole of it. All but name, model, target and waves may be left out.
schema: rkfleet.rollout/1
name: better-solder
description: Finds thin bridges that 1.1.0 misses.

# Which model: a line of `rkfleet nodes models`.
model:
  name: pcb-unet
  version: 1.2.0
  manifestSha256: 5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c

# Which boards: a filter; `rkfleet nodes list 'FILTER'` shows whom it names.
target: site=plant1 and soc=rk3588 and seen<1d
targetSelection: CONTINUOUS     # boards that come to match later join; SNAPSHOT: only those of now

# In this order; the next begins when the one before it has succeeded. One of filter, count and percent (of all
# targets) each; the last may have none of them: all the rest.
waves:
  - name: canary
    filter: group=canary
    successThresholdPercentage: 100   # of its boards must have COMMITTED
    soakMinutes: 60                   # then they run on; the gates must hold at the end
  - name: tenth
    percent: 10
    soakMinutes: 30
  - name: rest
    confirmationRequired: true        # waits for `rkfleet rollout confirm`

# What the boards measure must lie within these bounds. action: ABORT (default) or PAUSE.
gates:
  - {metric: shadowAgreement, atLeast: 0.95}    # old and new model agree on live pictures
  - {metric: probationP95Ratio, atMost: 1.2}    # latency of the new one by that of the old one
  - {metric: absNgDrift, atMost: 0.05}          # change of the share of parts that are not OK
  - {metric: faultRate, atMost: 0.001, thresholdPercentage: 95, action: PAUSE}

# Over all boards that have come to an end.
abortCriteria:
  - {failureType: ALL, thresholdPercentage: 5, minNumberOfExecutedThings: 20}
onAbort: revert                       # all go back to what they ran; keep: who has it keeps it

rolloutRate: {maximumPerMinute: 60, maxInFlight: 100}
inProgressTimeoutInMinutes: 60        # silence is failure
retries:
  - {failureType: TIMED_OUT, numberOfRetries: 1}

# Only between these times, and only in the windows (UTC).
scheduling:
  startTime: 2026-03-06T16:00:00Z
  maintenanceWindows:
    - {startTime: "22:00", durationInMinutes: 360}

# What each board does by itself.
board:
  shadow: {frames: 200, leastAgreement: 0.9}
"""
