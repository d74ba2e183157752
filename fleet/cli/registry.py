"""`rkfleet registry`: keys, models, and the metadata that vouch for them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.output import AsJson, Exit, fail, show, table
from fleet.errors import Conflict, ErrorCode, FleetError, NotFound

if TYPE_CHECKING:
    from fleet.adapters.registry_tuf import Registry

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The signed registry of models (TUF).\n\n"
    "Keys are files below --keys (root/, publisher/, online/), sealed by the passphrase of RKFLEET_KEY_PASSPHRASE or "
    "of the prompt; or they come from the environment: RKFLEET_KEY_ROOT, _TARGETS, _SNAPSHOT, _TIMESTAMP, _CONTROLLER, "
    "each base64 of 32 random bytes.\n\nExit codes: 1 failed, 3 not found, 4 refused.",
)
Folder = Annotated[Path, typer.Option("--dir", help="The registry's folder, as it is served.")]
Keys = Annotated[Path, typer.Option("--keys", help="The keys' folder; root/ in it may be another medium.")]
_FOLDER, _KEYS = Path("registry"), Path("registry-keys")


@app.command()
def init(
    *,
    folder: Folder = _FOLDER,
    keys: Keys = _KEYS,
    root_keys: Annotated[int, typer.Option(min=1, max=16, help="How many root keys.")] = 3,
    threshold: Annotated[int, typer.Option(min=1, max=16, help="How many of them a new root needs.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Make keys and an empty registry.

    `rkfleet registry init --root-keys 3 --threshold 2 --keys /media/safe/keys`: afterwards each root key goes to its
    own keeper, and publisher/ and online/ to the machines that need them.
    """
    with _told(as_json=as_json):
        made = _open(folder, keys)
        root = made.init(_now(), root_keys=root_keys, threshold=threshold)
        controller = folder / "controller-keys.json"
        words = f"Registry {folder}, keys {keys}.\nBoards are provisioned with {root} and {controller}."
        show({"root": str(root), "controllerKeys": str(controller), "keys": str(keys)}, words, as_json=as_json)


@app.command()
def publish(
    bundle: Annotated[Path, typer.Argument(help="A model bundle: a folder with manifest.json.")],
    *,
    folder: Folder = _FOLDER,
    keys: Keys = _KEYS,
    as_json: AsJson = False,
) -> None:
    """Verify a bundle, sign it, and offer its files. Needs the publisher's key.

    `rkfleet registry publish modelkit/zoo/pcb-unet-1.1.0`: the path that it prints, behind the registry's URL, is what
    `urls` of `desired/model` names.
    """
    with _told(as_json=as_json):
        done = _open(folder, keys).publish(bundle, _now())
        words = f"{done.name} {done.version} is {'published' if done.is_new else 'published already'}: {done.path}"
        if not done.is_live:
            words += "\nBoards see it after `rkfleet registry refresh` where the online keys are."
        document = {
            "name": done.name,
            "version": done.version,
            "manifestSha256": done.manifest_sha256,
            "path": done.path,
            "isNew": done.is_new,
            "isLive": done.is_live,
        }
        show(document, words, as_json=as_json)


@app.command("list")
def list_models(*, folder: Folder = _FOLDER, as_json: AsJson = False) -> None:
    """What is published, and how long each role's signature holds. No key is needed.

    `rkfleet registry list --json`
    """
    with _told(as_json=as_json):
        opened = _open(folder, _KEYS)
        models = [
            {
                "name": each.manifest.name,
                "version": each.manifest.version,
                "targets": [variant.target.value for variant in each.manifest.variants],
                "manifestSha256": each.manifest_sha256,
                "publishedAt": each.published_at.isoformat(),
            }
            for each in opened.listed()
        ]
        roles = opened.roles()
        rows = [[str(m["name"]), str(m["version"]), " ".join(m["targets"]), str(m["publishedAt"])[:16]] for m in models]
        show({"models": models, "roles": roles}, table("Models", ["name", "version", "targets", "published"], rows),
             as_json=as_json)  # fmt: skip
        if not as_json:
            lines = [[r["role"], str(r["version"]), r["expires"][:16], f"{r['threshold']} of {len(r['keys'])}",
                      "\n".join(key[:16] for key in r["keys"])] for r in roles]  # fmt: skip
            show(None, table("Roles", ["role", "version", "expires", "keys needed", "keys"], lines), as_json=False)


@app.command()
def refresh(
    *,
    folder: Folder = _FOLDER,
    keys: Keys = _KEYS,
    targets: Annotated[bool, typer.Option("--targets", help="Sign the list of models anew too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Renew snapshot and timestamp where they are due, once; the server does the same by itself. Needs the online keys.

    `rkfleet registry refresh`; once a year, with the publisher's key: `rkfleet registry refresh --targets`
    """
    with _told(as_json=as_json):
        opened = _open(folder, keys)
        if targets:
            opened.resign(_now())
        renewed = opened.refresh(_now()) or targets
        show({"renewed": renewed}, "Signed anew." if renewed else "Nothing was due.", as_json=as_json)


@app.command()
def rotate(
    role: Annotated[str, typer.Argument(help="root, targets, snapshot, timestamp or controller.")],
    *,
    key: Annotated[str, typer.Option(help="Which key of the role; default: its first.")] = "",
    folder: Folder = _FOLDER,
    keys: Keys = _KEYS,
    as_json: AsJson = False,
) -> None:
    """Put a new key in the place of one. Needs as many root keys as the threshold says; a controller's needs none, and
    its old key is obeyed until it is revoked.

    `rkfleet registry rotate timestamp --keys /media/safe/keys`
    """
    from fleet.adapters.registry_tuf import rotation  # noqa: PLC0415  python-tuf is slow to import

    with _told(as_json=as_json):
        made = rotation.rotate(_open(folder, keys), role, _now(), key or None)
        show({"role": role, "key": made}, f"The new key of {role} is {made}.", as_json=as_json)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="A model.")] = "",
    version: Annotated[str, typer.Argument(help="Its version.")] = "",
    *,
    key: Annotated[str, typer.Option(help="In place of a model: the id of a key that must sign nothing more.")] = "",
    folder: Folder = _FOLDER,
    keys: Keys = _KEYS,
    as_json: AsJson = False,
) -> None:
    """Take a model back, or a key.

    `rkfleet registry revoke pcb-unet 1.1.0` keeps boards from taking it; those that run it are told by a new desired
    model. `rkfleet registry revoke --key 4f3c...` after a key was lost or stolen; look through `list` afterwards.
    """
    from fleet.adapters.registry_tuf import rotation  # noqa: PLC0415  python-tuf is slow to import

    if bool(key) == bool(name and version):
        raise typer.BadParameter("give a model and its version, or --key")
    with _told(as_json=as_json):
        opened = _open(folder, keys)
        if key:
            made = rotation.revoke_key(opened, key, _now())
            words = f"{key} signs nothing more." + (f" In its place: {made}." if made else "")
            show({"revoked": key, "replacement": made}, words, as_json=as_json)
        else:
            is_live = opened.revoke(name, version, _now())
            words = f"{name} {version} is revoked{'' if is_live else '; boards see it after a refresh'}."
            show({"revoked": f"{name} {version}", "isLive": is_live}, words, as_json=as_json)


@contextmanager
def _told(*, as_json: bool) -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        fail(error.text, Exit.NOT_FOUND, as_json=as_json)
    except FleetError as error:
        is_refused = isinstance(error, Conflict) or error.code is ErrorCode.SIGNATURE_INVALID
        fail(error.text, Exit.REFUSED if is_refused else Exit.FAILED, as_json=as_json)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", as_json=as_json)


def _open(folder: Path, keys: Path) -> "Registry":
    from fleet.adapters.registry_tuf import KeyRing, Registry  # noqa: PLC0415  python-tuf is slow to import

    return Registry(folder, KeyRing(keys, os.environ, _passphrase()))


def _passphrase() -> Callable[[str], str]:
    """From the environment, else asked for: a new one twice, one for all keys of a command."""
    known: dict[str, Any] = {}

    def passphrase(what: str) -> str:
        if (given := os.environ.get("RKFLEET_KEY_PASSPHRASE")) is not None:
            return given
        if "said" not in known:
            is_new = what.startswith("the new")
            known["said"] = typer.prompt(f"Passphrase of {what}", hide_input=True, confirmation_prompt=is_new, err=True)
        return str(known["said"])

    return passphrase


def _now() -> datetime:
    return datetime.now(UTC)
