"""`flywheel dataset`: versions of fine-tuning datasets."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli.console import console
from pipelines.settings import Settings

app = typer.Typer(help="Fine-tuning datasets: make a version, write it for a trainer, compare two.", no_args_is_help=True)


@app.command("build")
def dataset_build(recipe: Annotated[str, typer.Argument(help="A .yml file of your own, or sft, preference, kto, eval, distillation")]) -> None:
    """Make a version of a recipe's dataset and say what each stage kept. The same inputs give the same version."""
    from pipelines.answer import table_of
    from pipelines.finetune.recipe import load
    from pipelines.finetune.versions import build_dataset

    built = build_dataset(Settings.load(), load(recipe))
    names = ("stage", "unit", "before_count", "dropped_count", "kept_count", "reasons")
    console.print(table_of([n.replace("_count", "") for n in names], [tuple(step[n] for n in names) for step in built.funnel]))
    console.print(str(built), highlight=False, soft_wrap=True)


@app.command("export")
def dataset_export(
    version: Annotated[str, typer.Argument(help="As `dataset build` said, or from datasets.version")],
    to: Annotated[str, typer.Option(help="Folder at any fsspec URL")],
    format: Annotated[str, typer.Option(help="trl, trl_parquet, openai, axolotl, llamafactory or nemo")] = "trl",
    usd_per_mtok: Annotated[float | None, typer.Option(min=0, help="Price of training, USD a million tokens and epoch, for an estimate")] = None,
    presidio: Annotated[str | None, typer.Option(help="Name or folder of a spaCy model: names of people and places are replaced too (extra `presidio`; slow)")] = None,
) -> None:
    """Write a version as files for a trainer, with card, Croissant metadata and manifest."""
    from pipelines.export.finetune import export_dataset

    console.print(str(export_dataset(Settings.load(), version, format, to, usd_per_mtok, presidio)), highlight=False, soft_wrap=True)


@app.command("diff")
def dataset_diff(before: str, after: str) -> None:
    """What two versions of one table do not share, and why."""
    from pipelines.finetune.versions import difference

    for name, value in difference(Settings.load(), before, after).items():
        console.print(f"{name}: {value}", highlight=False)
