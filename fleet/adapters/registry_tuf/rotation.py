"""A role's key is replaced or taken away: a new root version, signed as the old root asks and as the new one does.

Before the new root is shown, what the role has signed is signed by the coming key too, so that a board finds valid
metadata at every moment, and a command that was stopped leaves a valid repository.
"""

import copy
from datetime import datetime

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root, Targets

from fleet.adapters.registry_tuf import controllers
from fleet.adapters.registry_tuf.disk import locked
from fleet.adapters.registry_tuf.metadata import ROLES
from fleet.adapters.registry_tuf.registry import Registry
from fleet.errors import ErrorCode, NotFound, Permanent


def rotate(registry: Registry, role: str, now: datetime, keyid: str | None = None) -> str:
    """Replace one key of the role, by default its first; returns the id of the new one. A controller's key is added,
    and the old one obeyed until it is revoked.

    Errors: NotFound, KeysMissing, Permanent(INVALID) for a role that there is not.
    """
    with locked(registry.folder):
        if role == "controller":
            return controllers.add(registry.folder, registry.keys.make(role)).keyid
        if role not in ROLES:
            raise Permanent(ErrorCode.INVALID, f"no role {role!r}; there are {', '.join(ROLES)} and controller")
        keyids = registry.metadata.root().signed.roles[role].keyids
        if keyid is not None and keyid not in keyids:
            raise NotFound(f"{keyid} is no key of {role}")
        made = _change(registry, role, keyid or keyids[0], now, is_replaced=True)
        if made is None:
            raise Permanent(ErrorCode.INTERNAL, f"no new key of {role} was made")
        return made


def revoke_key(registry: Registry, keyid: str, now: datetime) -> str | None:
    """From now on it signs nothing. Returns the id of the key that was made in its place, None where the others are
    enough. Errors: NotFound, KeysMissing, Permanent(INVALID) for the last controller key.
    """
    with locked(registry.folder):
        if any(each.keyid == keyid for each in controllers.read(registry.folder)):
            controllers.remove(registry.folder, keyid)
            return None
        roles = registry.metadata.root().signed.roles
        role = next((name for name in ROLES if keyid in roles[name].keyids), None)
        if role is None:
            raise NotFound(f"{keyid} is no key of the registry")
        enough = len(roles[role].keyids) > roles[role].threshold
        return _change(registry, role, keyid, now, is_replaced=not enough)


def _change(registry: Registry, role: str, old: str, now: datetime, *, is_replaced: bool) -> str | None:
    """Owns the order of things; the lock is held. A key is made only once the root keys are at hand."""
    metadata, keys = registry.metadata, registry.keys
    root = metadata.root().signed
    before = root.roles["root"]
    signers = keys.enough("root", before.keyids, before.threshold)
    targets = metadata.targets(root).signed
    new = keys.make(role) if is_replaced else None
    coming = _coming(root, role, old, new)
    after = coming.roles["root"]
    added = [new] if new and role == "root" else []
    lasting = [each for each in [*signers, *added] if each.public_key.keyid in after.keyids]
    if len(lasting) < after.threshold:
        raise Permanent(ErrorCode.UNAVAILABLE, f"the new root needs {after.threshold} keys, {len(lasting)} are at hand")
    if new and role != "root":
        _sign_with_both(registry, root, role, new, now)
    metadata.write(coming, [*signers, *added], now)
    if role == "targets" and metadata.newest("targets", Targets, coming) is None:
        metadata.write(targets, [new] if new else keys.signers(role, coming.roles[role].keyids), now)
    registry.renew(now, {})
    keys.forget(role, old)
    return new.public_key.keyid if new else None


def _coming(root: Root, role: str, old: str, new: CryptoSigner | None) -> Root:
    coming = copy.deepcopy(root)  # to_dict shares its lists
    if new is not None:
        coming.add_key(new.public_key, role)
    coming.revoke_key(old, role)
    return coming


def _sign_with_both(registry: Registry, root: Root, role: str, new: CryptoSigner, now: datetime) -> None:
    """Not possible without the old key; then there is a moment in which boards must try again."""
    old = registry.keys.signers(role, root.roles[role].keyids)
    if len(old) < root.roles[role].threshold:
        return
    if role == "targets":
        registry.metadata.write(registry.metadata.targets(root).signed, [*old, new], now)
        registry.renew(now, {})
    else:
        registry.renew(now, {role: [new]}, force=True)
