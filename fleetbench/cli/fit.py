"""`fleetbench fit`: does a model fit, part by part in bytes, and how fast could it be at best?"""

from __future__ import annotations

import json

import click

from fleetbench.cli.options import format_option

TOO_SMALL = 1
COUNT = click.IntRange(1, 1 << 26)
DEGREE = click.IntRange(1, 4096)
EPILOG = """\b
Examples:
  fleetbench fit llama-3.1-70b --gpu h100 --recipe fp8 --tp 2
  fleetbench fit ./my-model --gpu mi300x --context 32768 --batch 64
"""


@click.command(epilog=EPILOG)
@click.argument("model", metavar="MODEL")
@click.option("--gpu", required=True, metavar="TAG", help="Kind of GPU, such as h100 or mi300x.")
@click.option("--recipe", "word", default="bf16", show_default=True, metavar="NAME", help="A recipe or weight format.")
@click.option("--kv", metavar="FORMAT", help="Format of the cache, if not the recipe's.")
@click.option("--context", "context_tok", type=COUNT, default=2048, show_default=True, metavar="TOKENS",
              help="Total tokens per sequence, prompt and output together.")  # fmt: skip
@click.option("--batch", type=COUNT, default=1, show_default=True, metavar="N", help="Sequences at once.")
@click.option("--tp", type=DEGREE, default=1, show_default=True, metavar="N", help="Tensor-parallel degree.")
@click.option("--pp", type=DEGREE, default=1, show_default=True, metavar="N", help="Pipeline-parallel degree.")
@click.option(
    "--engine", default="vllm", show_default=True, metavar="NAME", help="Whose formats and kernels are meant."
)
@format_option
def fit(
    model: str, gpu: str, word: str, *, kv: str | None, context_tok: int, batch: int, tp: int, pp: int, engine: str,
    form: str,
) -> int:  # fmt: skip
    """Say whether MODEL fits a GPU, every part of the sum in bytes.

    MODEL is a name of the catalog, a hub id, or a folder with a config.json. Exit 0 where it fits at the degree that is
    asked, 1 where it does not. The floors are what memory bandwidth and matrix units allow at best.
    """
    from fleetbench.cli.output import show, show_panels
    from fleetbench.fleet.asking import ask
    from fleetbench.plan.fit import fit as work_out
    from fleetbench.report import fit as report

    asked = ask(
        model=model, gpu=gpu, recipe=word, kv=kv, engine=engine, batch=batch, context_tok=context_tok, tp=tp, pp=pp
    )
    found = work_out(
        asked.shape, asked.cell.recipe, asked.gpu, asked.cell.parallel, batch=batch, context_tok=context_tok
    )
    if form == "json":
        said = report.document(asked.cell, asked.gpu, asked.ruled, found, batch=batch, context_tok=context_tok)
        click.echo(json.dumps(said, indent=2))
    elif form == "csv":
        show(report.degrees(found), form)
    else:
        panels = report.panels(asked.cell, asked.gpu, asked.ruled, found, batch=batch, context_tok=context_tok)
        show_panels(panels, form)
    return TOO_SMALL if report.fits(found, asked.ruled) is False else 0
