"""Each attack of the TUF specification on the real adapter, over HTTP; afterwards the honest registry is believed.

Source: https://theupdateframework.io/security/
"""

import hashlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import MetaFile, Root, TargetFile, Targets, Timestamp

from agent.adapters.fetcher_http import HttpFetcher
from agent.adapters.trust_tuf.pace import Pace
from agent.core.fetch_plan import FetchPlan
from agent.errors import AgentError, Permanent, Retryable
from fleet.adapters.registry_tuf import rotate
from schemas.codes import FailureCode
from schemas.registry import ISSUED_FIELD, MAX_SIGNED_MANIFEST_BYTES, target_path
from schemas.target import Target
from tests.contract.file_server import Answer
from tests.contract.tuf_world import NEVER, NOW, World, a_signer, world

SIGNATURE, DOWNLOAD = FailureCode.SIGNATURE_INVALID, FailureCode.DOWNLOAD_FAILED
PATH = target_path("probe", "1.0.0")
_1970 = datetime(1970, 1, 1, 0, 5, tzinfo=UTC)


@pytest.fixture
def there(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def later(signed: Any) -> None:
    signed.version += 1
    signed.expires = NEVER


def arbitrary_targets(there: World) -> None:
    """Signed by somebody whom no root names."""
    there.show(there.forge("targets", [a_signer()], later), 3)


def garbage(there: World) -> None:
    there.say("timestamp.json", b"\0" * 100)


def deeply_nested(there: World) -> None:
    there.say("timestamp.json", b"[" * 16_000)


def endless_timestamp(there: World) -> None:
    there.say("timestamp.json", Answer(b"{", framing="close", then="endless"))


def endless_root(there: World) -> None:
    there.say("2.root.json", Answer(b"{", framing="close", then="endless"))


def endless_targets(there: World) -> None:
    there.say("2.targets.json", Answer(b"{", framing="close", then="endless"))


def drip(there: World) -> None:
    there.say("timestamp.json", Answer(b"", framing="close", then="drip"))


def silence(there: World) -> None:
    there.say("timestamp.json", Answer(b"x" * 100, send=1, then="stall"))


def snapshot_of_before(there: World) -> None:
    """Mix-and-match: the timestamp is today's, the snapshot under its name is another."""
    there.say("2.snapshot.json", (there.metadata / "1.snapshot.json").read_bytes())


def targets_of_before(there: World) -> None:
    there.say("2.targets.json", (there.metadata / "1.targets.json").read_bytes())


def one_root_key(there: World) -> None:
    """Of the two that are needed, and one of the attacker's own."""
    thief = a_signer()

    def take_over(root: Root) -> None:
        later(root)
        root.add_key(thief.public_key, "root")
        root.add_key(thief.public_key, "targets")

    there.say("2.root.json", there.forge("root", [there.signers("root")[0], thief], take_over))


def online_keys_sign_targets(there: World) -> None:
    """Snapshot's and timestamp's keys are stolen; they may not say which models there are."""
    thieves = [*there.signers("snapshot"), *there.signers("timestamp")]
    there.show(there.forge("targets", thieves, later), 3)


def publisher_signs_a_root(there: World) -> None:
    there.say("2.root.json", there.forge("root", there.signers("targets"), later))


STOLEN_ONLINE_KEYS = {arbitrary_targets, online_keys_sign_targets}


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        (arbitrary_targets, SIGNATURE),
        (garbage, SIGNATURE),
        (deeply_nested, SIGNATURE),
        (endless_timestamp, DOWNLOAD),
        (endless_root, DOWNLOAD),
        (endless_targets, DOWNLOAD),
        (drip, DOWNLOAD),
        (silence, DOWNLOAD),
        (snapshot_of_before, SIGNATURE),
        (targets_of_before, SIGNATURE),
        (one_root_key, SIGNATURE),
        (online_keys_sign_targets, SIGNATURE),
        (publisher_signs_a_root, SIGNATURE),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_attack_is_refused_and_leaves_nothing_behind(
    there: World, attack: Callable[[World], None], code: FailureCode
) -> None:
    board = there.board()
    attack(there)
    refused = board.authorise(there.desired("1.0.0"))
    assert isinstance(refused, Retryable), refused
    assert refused.code is code, refused.text
    assert not board.store.has(there.digests["1.0.0"])
    if attack in STOLEN_ONLINE_KEYS:
        rotate(there.registry, "snapshot", NOW)
        rotate(there.registry, "timestamp", NOW)
    there.serve()
    assert isinstance(board.authorise(there.desired("1.0.0")), FetchPlan)


def test_a_signed_model_is_authorised_from_its_signature_alone(there: World) -> None:
    board = there.board()
    chosen = board.authorise(there.desired("1.0.0"))
    assert isinstance(chosen, FetchPlan)
    assert [file.path for file in chosen.files] == ["manifest.json", "cpu.onnx", "golden.png", "golden.map.png"]
    assert all(asked.path.startswith("/metadata/") for asked in there.server.asked)
    raw = board.store.read(there.digests["1.0.0"], 100_000)
    assert hashlib.sha256(raw).hexdigest() == there.digests["1.0.0"]
    assert all(file.path != "manifest.json" for file in board.store.missing(chosen))


def test_arbitrary_model_files_do_not_pass_the_digests_that_were_signed(there: World, tmp_path: Path) -> None:
    chosen = there.board().authorise(there.desired("1.0.0"))
    assert isinstance(chosen, FetchPlan)
    model = next(file for file in chosen.files if file.path == "cpu.onnx")
    desired = there.desired("1.0.0")
    there.server.script(f"/bundles/{desired.manifest_sha256}/cpu.onnx", Answer(b"\0" * (model.bytes or 0)))
    with pytest.raises(Permanent) as caught:
        HttpFetcher().fetch(model, desired.urls, tmp_path / "partial", threading.Event())
    assert caught.value.code is FailureCode.MODEL_DIGEST_MISMATCH


def test_a_rollback_to_metadata_of_before_is_refused(there: World) -> None:
    old = (there.metadata / "timestamp.json").read_bytes()
    there.publish("1.1.0")
    there.serve()
    board = there.board()
    assert isinstance(board.authorise(there.desired("1.1.0")), FetchPlan)
    there.say("timestamp.json", old)
    refused = board.authorise(there.desired("1.1.0"))
    assert isinstance(refused, Retryable)
    assert refused.code is SIGNATURE
    board = there.board()  # the same disk, another process
    assert isinstance(board.authorise(there.desired("1.1.0")), Retryable)


def test_a_frozen_registry_is_believed_until_its_timestamp_expires(there: World) -> None:
    board = there.board()
    board.clock.now = NOW + timedelta(days=1)
    assert isinstance(board.authorise(there.desired("1.0.0")), FetchPlan)
    board.clock.now = NOW + timedelta(days=3)
    refused = board.authorise(there.desired("1.0.0"))
    assert isinstance(refused, Retryable)
    assert refused.code is SIGNATURE
    assert "expired" in refused.text
    there.registry.refresh(NOW + timedelta(days=3))
    there.serve()
    assert isinstance(board.authorise(there.desired("1.0.0")), FetchPlan)


@pytest.mark.parametrize("days", [3, 8, 400, 800], ids=["timestamp", "snapshot", "targets", "root"])
def test_expired_metadata_of_any_role_are_refused(there: World, days: int) -> None:
    """What a stolen timestamp key can renew does not help once the roles behind it have expired."""
    board = there.board()
    board.clock.now = NOW + timedelta(days=days)
    if days > 3:
        there.say("timestamp.json", there.forge("timestamp", there.signers("timestamp"), later))
    refused = board.authorise(there.desired("1.0.0"))
    assert isinstance(refused, Retryable)
    assert "expired" in refused.text


def test_a_fast_forward_blocks_the_board_only_until_the_stolen_key_is_replaced(there: World) -> None:
    board = there.board()

    def far(timestamp: Timestamp) -> None:
        timestamp.version, timestamp.expires = 2**31, NEVER

    there.say("timestamp.json", there.forge("timestamp", there.signers("timestamp"), far))
    assert isinstance(board.authorise(there.desired("1.0.0")), FetchPlan), "it is validly signed"
    there.publish("1.1.0")
    there.serve()
    assert isinstance(board.authorise(there.desired("1.1.0")), Retryable), "a lower version is a rollback"
    rotate(there.registry, "timestamp", NOW)
    there.serve()
    assert isinstance(board.authorise(there.desired("1.1.0")), FetchPlan)


def test_stolen_online_keys_do_not_move_the_boards_time(there: World) -> None:
    board = there.board()
    there.say("timestamp.json", there.forge("timestamp", there.signers("timestamp"), later))
    assert isinstance(board.authorise(there.desired("1.0.0")), FetchPlan)
    assert board.least.now() <= NOW + timedelta(hours=1)


def test_a_digest_that_the_publisher_has_not_signed_is_refused_for_good(there: World) -> None:
    refused = there.board().authorise(there.desired("1.0.0", manifest_sha256="0" * 64))
    assert isinstance(refused, Permanent)
    assert refused.code is FailureCode.MODEL_DIGEST_MISMATCH


def test_a_model_that_is_not_listed_is_waited_for(there: World) -> None:
    """The desired state may be quicker than a mirror."""
    refused = there.board().authorise(there.desired("1.0.0").model_copy(update={"version": "9.9.9"}))
    assert isinstance(refused, Retryable)
    assert refused.code is SIGNATURE


def swapped(targets: Targets) -> None:
    """Under the name of one version, the other."""
    targets.version += 1
    other = targets.targets[target_path("probe", "1.1.0")]
    targets.targets[PATH] = TargetFile(other.length, other.hashes, PATH, dict(other.unrecognized_fields))


def enlarged(targets: Targets) -> None:
    targets.version += 1
    custom = targets.targets[PATH].unrecognized_fields["custom"]
    custom["manifest"] += " " * MAX_SIGNED_MANIFEST_BYTES


def emptied(targets: Targets) -> None:
    targets.version += 1
    targets.targets[PATH].unrecognized_fields.clear()


def altered(targets: Targets) -> None:
    targets.version += 1
    custom = targets.targets[PATH].unrecognized_fields["custom"]
    custom["manifest"] = custom["manifest"].replace("grey", "gray")


@pytest.mark.parametrize(
    ("change", "digest_of"),
    [(swapped, "1.1.0"), (enlarged, "1.0.0"), (emptied, "1.0.0"), (altered, "1.0.0")],
    ids=["wrong target", "manifest too large", "no manifest", "another manifest than was digested"],
)
def test_what_a_publisher_has_signed_wrongly_is_refused_for_good(
    there: World, change: Callable[[Targets], None], digest_of: str
) -> None:
    there.publish("1.1.0")
    there.serve()
    there.show(there.forge("targets", there.signers("targets"), change), 4)
    refused = there.board().authorise(there.desired("1.0.0", manifest_sha256=there.digests[digest_of]))
    assert isinstance(refused, Permanent)
    assert refused.code is FailureCode.MODEL_INVALID


def test_the_wrong_soc_is_refused_before_a_byte_of_the_bundle_is_downloaded(there: World) -> None:
    refused = there.board(target=Target.RK3588).authorise(there.desired("1.0.0"))
    assert isinstance(refused, Permanent)
    assert refused.code is FailureCode.MODEL_WRONG_TARGET
    assert {asked.path.split("/")[1] for asked in there.server.asked} == {"metadata"}


def test_a_bundle_above_the_boards_limit_is_refused_before_it_is_downloaded(there: World) -> None:
    refused = there.board(max_bundle_bytes=100).authorise(there.desired("1.0.0"))
    assert isinstance(refused, Permanent)
    assert refused.code is FailureCode.MODEL_INVALID
    assert {asked.path.split("/")[1] for asked in there.server.asked} == {"metadata"}


def test_a_list_of_models_above_the_limit_is_not_read(there: World) -> None:
    """Without the length that a snapshot announces."""

    def unmeasured(snapshot: Any) -> None:
        snapshot.version += 1
        snapshot.meta["targets.json"] = MetaFile(2)

    snapshot = there.forge("snapshot", there.signers("snapshot"), unmeasured)
    there.say("3.snapshot.json", snapshot)

    def at(timestamp: Timestamp) -> None:
        timestamp.version += 1
        timestamp.snapshot_meta = MetaFile(3)

    there.say("timestamp.json", there.forge("timestamp", there.signers("timestamp"), at))
    refused = there.board(most_targets_bytes=100).authorise(there.desired("1.0.0"))
    assert isinstance(refused, Retryable)
    assert refused.code is DOWNLOAD


def test_a_board_in_1970_takes_a_model_and_then_knows_when_it_was_signed(there: World) -> None:
    board = there.board()
    board.clock.now = _1970
    assert isinstance(board.authorise(there.desired("1.0.0")), FetchPlan)
    assert board.least.now() == NOW


def test_a_board_that_is_thrown_back_to_1970_still_refuses_what_had_expired(there: World) -> None:
    frozen = (there.metadata / "timestamp.json").read_bytes()
    there.registry.refresh(NOW + timedelta(days=5))
    there.serve()
    board = there.board()
    board.clock.now = NOW + timedelta(days=5)
    assert isinstance(board.authorise(there.desired("1.0.0")), FetchPlan)
    again = there.board()
    again.clock.now = _1970
    assert isinstance(again.authorise(there.desired("1.0.0")), FetchPlan), "today's are good"
    for path in (there.folder / "board" / "tuf").glob("*.json"):
        path.unlink()  # even if the versions were lost
    there.say("timestamp.json", frozen)
    refused = again.authorise(there.desired("1.0.0"))
    assert isinstance(refused, Retryable)
    assert "expired" in refused.text
    assert "clock is behind" in refused.text


def test_a_publisher_whose_clock_runs_ahead_is_believed_no_further_than_what_expires_first(there: World) -> None:
    def ahead(targets: Targets) -> None:
        targets.version += 1
        targets.unrecognized_fields[ISSUED_FIELD] = (NOW + timedelta(days=100)).isoformat()

    there.show(there.forge("targets", there.signers("targets"), ahead), 3)
    board = there.board()
    refused = board.authorise(there.desired("1.0.0"))
    assert isinstance(refused, Retryable)
    assert "expired" in refused.text
    assert NOW + timedelta(days=1) < board.least.now() < NOW + timedelta(days=3)


def test_a_look_up_that_is_stopped_ends_at_once(there: World) -> None:
    silence(there)
    board = there.board(pace=Pace(wait_s=60.0, window_s=60.0))
    outcome: list[Any] = []
    asking = threading.Thread(target=lambda: outcome.append(board.authorise(there.desired("1.0.0"))))
    asking.start()
    assert there.server.stalled.wait(20)
    board.stop.set()
    asking.join(10)
    assert isinstance(outcome[0], Retryable)
    assert outcome[0].code is FailureCode.CANCELED


def test_all_of_it_has_a_deadline_however_the_server_drips(there: World) -> None:
    silence(there)
    board = there.board(within_s=2.0, pace=Pace(wait_s=60.0, window_s=60.0))
    refused = board.authorise(there.desired("1.0.0"))
    assert isinstance(refused, Retryable)
    assert refused.code is DOWNLOAD


def test_a_board_without_its_root_says_so(there: World) -> None:
    board = there.board()
    (there.folder / "board" / "root.json").unlink()
    refused = board.authorise(there.desired("1.0.0"))
    assert isinstance(refused, AgentError)
    assert refused.code is FailureCode.CONFIG_INVALID
