"""`flywheel erase` and `maintain`: what must go, and what keeps the warehouse small."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pipelines.cli.console import EXIT_STOP, Shown, console
from pipelines.errors import NotConfigured
from pipelines.settings import Settings

app = typer.Typer()


@app.command()
def erase(
    user: Annotated[str | None, typer.Option(help="A user's id as the logs have it, or the pseudonym in core; - reads it from standard input")] = None,
    tenant: Annotated[str | None, typer.Option(help="A tenant")] = None,
    session: Annotated[str | None, typer.Option(help="A session_id")] = None,
    call: Annotated[str | None, typer.Option(help="A call: inference_id")] = None,
) -> None:
    """Erase everything of a user, tenant, session or call, keep it from coming back, and prove it by searching all bytes."""
    from pipelines.erasure.erase import erase

    given = {kind: text for kind, text in (("user", user), ("tenant", tenant), ("session", session), ("call", call)) if text is not None}
    if len(given) != 1:
        raise NotConfigured("give one of --user, --tenant, --session, --call")
    [(kind, text)] = given.items()
    text = sys.stdin.read().strip() if text == "-" else text
    if not text.strip():
        raise NotConfigured(f"--{kind} is empty")
    settings = Settings.load()
    with Shown() as shown:
        done = erase(settings, kind, text, shown)
    console.print(str(done), highlight=False, soft_wrap=True, markup=False)
    console.print(f"{settings.home}/erasures/{done.erasure_id}.md", highlight=False, soft_wrap=True)
    if not done.is_clean:
        raise typer.Exit(EXIT_STOP)


@app.command()
def maintain() -> None:
    """Finish erasures, carry out retention, compact small files, expire old snapshots, remove orphans."""
    from pipelines.maintenance import maintain

    console.print(str(maintain(Settings.load())), highlight=False)
