"""`rkfleet mirror`."""

from pathlib import Path
from typing import Annotated

import typer


def mirror(
    *,
    upstream: Annotated[str, typer.Option("--from", help="The registry's URL.")],
    folder: Annotated[Path, typer.Option("--dir", help="Where files are kept.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8090,
    max_gb: Annotated[float, typer.Option(min=0.1, help="Most that kept files may take; the oldest go first.")] = 50.0,
) -> None:
    """Serve a line from a copy of the registry that fills itself as boards ask, and go on when the registry is away.

    Files are verified by their digest; metadata are passed through, and their last version is given while upstream is
    away. The mirror holds no key: boards verify all that it gives.

    `rkfleet mirror --from https://models.example --dir /var/lib/rkfleet-mirror --host 0.0.0.0`
    """
    import uvicorn  # noqa: PLC0415  only this command needs it

    from fleet.adapters.mirror_http import Mirror, MirrorLimits  # noqa: PLC0415
    from fleet.web.mirror import mirror_app  # noqa: PLC0415

    if not upstream.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{upstream} is no URL of http or https", param_hint="--from")
    kept = Mirror(folder, upstream, MirrorLimits(max_bytes=int(max_gb * 2**30)))
    try:
        uvicorn.run(mirror_app(kept), host=host, port=port, log_level="warning", server_header=False)
    finally:
        kept.close()
