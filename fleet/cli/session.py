"""Which server, and by which token: from the environment, else from what `rkfleet login` has kept."""

import contextlib
import json
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import ErrorCode, Permanent

DEFAULT_SERVER = "http://127.0.0.1:8870"
_TOKEN = re.compile(r"rkf_[A-Za-z0-9_-]{43}")
_MOST_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Session:
    """`token` is empty where nobody has logged in at this server. `repr` hides it."""

    server: str
    token: str = ""

    def __repr__(self) -> str:
        return f"Session({self.server!r}, {'a token' if self.token else 'no token'})"


def place(env: Mapping[str, str]) -> Path:
    base = env.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if Path(base).is_absolute() else Path(env.get("HOME") or Path.home()) / ".config"
    return folder / "rkfleet" / "server.toml"


def session(env: Mapping[str, str] = os.environ) -> Session:
    """A kept token goes to the server that gave it, and to no other. Raises Permanent as `kept` does."""
    server, token = env.get("RKFLEET_SERVER", "").rstrip("/"), env.get("RKFLEET_TOKEN", "")
    if token:
        token = checked(token, "RKFLEET_TOKEN")
    if server and token:
        return Session(server, token)
    last = kept(env)
    server = server or (last.server if last else DEFAULT_SERVER)
    if not token and last and last.server == server:
        token = last.token
    return Session(server, token)


def checked(token: str, source: str) -> str:
    """Raises Permanent for what is no token."""
    text = token.strip()
    if not _TOKEN.fullmatch(text):
        raise Permanent(ErrorCode.INVALID, f"{source} holds no token of rkfleet (rkf_ and 43 characters)")
    return text


def keep(made: Session, env: Mapping[str, str] = os.environ) -> Path:
    """Whole or not at all, and for the user alone."""
    file = place(env)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    text = f"server = {json.dumps(made.server)}\ntoken = {json.dumps(made.token)}\n"
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:  # noqa: PTH123  a descriptor
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
    return file


def forget(env: Mapping[str, str] = os.environ) -> bool:
    """False where nothing was kept."""
    try:
        place(env).unlink()
    except FileNotFoundError:
        return False
    return True


def kept(env: Mapping[str, str] = os.environ) -> Session | None:
    """Of the last login. Raises Permanent for a file that is no such thing, or that others may read."""
    file = place(env)
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            text = opened.read(_MOST_BYTES)
    except FileNotFoundError:
        return None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Permanent(ErrorCode.INVALID, f"others may read {file}, and it holds a token: chmod 600 {file}")
    try:
        read = tomllib.loads(text.decode())
    except ValueError:  # of UTF-8, and of TOML
        read = {}
    server, token = read.get("server"), read.get("token")
    if not isinstance(server, str) or not isinstance(token, str):
        raise Permanent(ErrorCode.INVALID, f"{file} is damaged: `rkfleet logout`, then `rkfleet login`")
    return Session(server, checked(token, str(file)))
