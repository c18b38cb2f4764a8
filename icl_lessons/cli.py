"""The command line: parsing and printing, nothing else."""

from typing import Annotated

import typer

from icl_lessons.runtime import Scale

app = typer.Typer(
    help="How do transformers learn in context? Run the course's experiments, check its claims.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def run(
    name: Annotated[
        str, typer.Argument(help="An experiment; `icl-lessons experiments` lists them")
    ],
    scale: Annotated[Scale, typer.Option(help="lesson: seconds on a CPU; paper: as published")] = (
        Scale.LESSON
    ),
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:0, or auto")] = "auto",
    out: Annotated[
        str, typer.Option(help="Folder for the record (JSON) and the figure")
    ] = "results",
    model: Annotated[
        str | None, typer.Option(help="A model of the hub, or its folder, for language models")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder of TASK.jsonl files for that model; else the hub")
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Tasks for that model, with commas: agnews,sst2,cb,rte")
    ] = None,
) -> None:
    """Run one experiment and write its result, configuration, versions and figure."""
    from icl_lessons.ledger import run_experiment

    named = tasks and tuple(task.strip() for task in tasks.split(","))
    changes: dict = {"model": model, "data": data, "tasks": named}
    given = {field: value for field, value in changes.items() if value is not None}
    record = run_experiment(name, scale, device=device, out=out, changes=given)
    typer.echo(
        f"{name} at scale {scale} took {record.seconds:.1f} s on {record.provenance['device']}"
    )
    summary = getattr(record.result, "summary", None)
    if summary is not None:
        typer.echo(summary())
    typer.echo(f"Written: {out}/{name}.{scale}.json and {out}/{name}.{scale}.svg")


@app.command()
def experiments() -> None:
    """List the experiments that can be run."""
    from icl_lessons.ledger import collect_experiments

    for declared in collect_experiments().values():
        typer.echo(f"{declared.name}: {declared.says}")
        typer.echo(f"    paper {declared.paper}, chapter {declared.chapter}")


@app.command()
def claims(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
    paper: Annotated[
        str | None, typer.Option(help="Only claims of this paper (a citation key)")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="identity, experiment or dispute")] = None,
    scale: Annotated[Scale, typer.Option(help="lesson or paper")] = Scale.LESSON,
    store: Annotated[
        bool, typer.Option("--store", help="Check all at lesson scale, keep them for the book")
    ] = False,
) -> None:
    """Check the claims of the literature and print what came out."""
    from icl_lessons.ledger import claims_json, measured_figure, number, run_claims, store_claims

    if store and (paper or kind or scale != Scale.LESSON):
        raise ValueError("--store keeps all claims at lesson scale; leave the other choices out")
    records = store_claims() if store else run_claims(scale, paper=paper, kind=kind)
    if as_json:
        typer.echo(claims_json(records))
        return
    for record in records:
        reported = "" if record.reported is None else f", paper reports {number(record.reported)}"
        typer.echo(f"{record.verdict:<16} {record.id} ({record.kind}, {record.seconds:.1f} s)")
        typer.echo(f"    {record.says}")
        typer.echo(
            f"    measured {measured_figure(record)}, {record.comparison} {number(record.bound)}"
            f"{reported} [{record.unit}]"
        )


zoo = typer.Typer(
    help="Trained weights kept with the package: list, measure again, make again.",
    no_args_is_help=True,
)
app.add_typer(zoo, name="zoo")


@zoo.command("list")
def zoo_list() -> None:
    """List the stored weights with what was measured when they were made."""
    from icl_lessons.ledger import collect_recipes

    for recipe in collect_recipes().values():
        metadata = recipe.metadata()
        size = recipe.path.stat().st_size
        typer.echo(f"{recipe.name}: {size / 1000:.0f} kB, trained in {metadata['seconds']:.0f} s")
        for figure, value in metadata["measured"].items():
            typer.echo(f"    {figure}: {value:.4g}")


@zoo.command("verify")
def zoo_verify(
    name: Annotated[str | None, typer.Argument(help="One recipe; all, if left out")] = None,
) -> None:
    """Measure the stored weights again and compare with the figures stored beside them."""
    from icl_lessons.ledger import collect_recipes
    from icl_lessons.zoo import stored_recipe

    recipes = collect_recipes()
    chosen = recipes.values() if name is None else [stored_recipe(name)]
    for recipe in chosen:
        for figure, (stored, now) in recipe.verify().items():
            typer.echo(f"{recipe.name}: {figure} {now:.4g} (stored {stored:.4g})")


@zoo.command("train")
def zoo_train(name: Annotated[str, typer.Argument(help="A recipe; `zoo list` names them")]) -> None:
    """Train the weights of one recipe again and replace the stored file."""
    from icl_lessons.ledger import collect_recipes
    from icl_lessons.zoo import stored_recipe

    collect_recipes()
    recipe = stored_recipe(name)
    metadata = recipe.store()
    typer.echo(f"{name}: trained and stored in {metadata['seconds']:.0f} s")
    for figure, value in metadata["measured"].items():
        typer.echo(f"    {figure}: {value:.4g}")


def main() -> None:
    """Entry point: a mistake in the arguments is answered in one sentence, without a traceback."""
    try:
        app()
    except (ValueError, FileNotFoundError) as error:
        typer.secho(f"icl-lessons: {error}", fg="red", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
