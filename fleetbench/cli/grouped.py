"""A command whose many options are listed under headings, and a group that loads its commands when they are used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
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


class Lazy(click.Group):
    """Imports a command's module when it is used, so that help is instant.

    table: by name, where the command is (`module:attribute`) and what is said of it in the list.
    """

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self.table:
            return None
        module, name = self.table[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from difflib import get_close_matches

        near = get_close_matches(args[0], self.table, n=1) if args else []
        if args and args[0] not in self.table and not args[0].startswith("-"):
            hint = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f"No command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])
