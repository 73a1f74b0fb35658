"""A command whose many options are listed under headings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class GroupedOption(click.Option):
    """An option that knows the heading it stands under."""

    def __init__(self, *args: Any, heading: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading = heading

    def get_help_extra(self, ctx: click.Context) -> click.types.OptionHelpExtra:
        """Without the range, which the message of a value outside tells."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


class Grouped(click.Command):
    """Lists options by heading, in the order in which they were declared; the rest last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        headings: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                heading = param.heading if isinstance(param, GroupedOption) else "Other"
                headings.setdefault(heading, []).append(record)
        for heading, records in headings.items():
            with formatter.section(heading):
                formatter.write_dl(records, col_max=22)


def under(heading: str) -> Callable[..., Callable[[Command], Command]]:
    """`click.option` for options under a heading."""

    def option(*names: str, **kwargs: Any) -> Callable[[Command], Command]:
        return click.option(*names, cls=GroupedOption, heading=heading, **kwargs)

    return option
