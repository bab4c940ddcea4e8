"""The directive ``cli-reference``: every command and flag, from the command line's own code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from inferload.cli.app import VERBS, command_of

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx


class CliReference(SphinxDirective):
    """A section for each command, with a line for each argument and flag."""

    def run(self) -> list[nodes.Node]:
        """What stands in place of the directive."""
        lines = [line for command in commands() for line in lines_of(*command)]
        return self.parse_text_to_nodes(StringList(lines, "cli"), allow_section_headings=True)


def commands() -> list[tuple[str, Any]]:
    """The commands by name, in the order of ``inferload --help``."""
    return [(verb, command_of(verb)) for verb in VERBS]


def lines_of(name: str, command: Any) -> list[str]:
    """One command as MyST."""
    positional = [one for one in command.params if one.param_type_name == "argument"]
    usage = " ".join(["inferload", name, *(one.metavar or one.name for one in positional)])
    lines = [f"## inferload {name}", "", *_plain(command.help or ""), ""]
    lines += ["```text", f"{usage} [OPTIONS]", "```", ""]
    for one in command.params:
        if getattr(one, "hidden", False) or one.name == "help":
            continue
        lines += [f"`{_shown(one)}`", f": {' '.join(_plain(one.help or ''))}{_default(one)}", ""]
    return lines


def _shown(one: Any) -> str:
    if one.param_type_name == "argument":
        return str(one.metavar or one.name)
    flags = ", ".join([*one.opts, *one.secondary_opts])
    if one.is_flag:
        return flags
    kind = "N" if isinstance(one.default, int) else "VALUE"
    return f"{flags} {one.metavar or kind}"


def _default(one: Any) -> str:
    value = one.default
    if one.required or value in {None, False, ""} or callable(value) or one.is_flag:
        return ""
    return f" Default: `{value}`."


def _plain(text: str) -> list[str]:
    """Lines in which nothing is markup."""
    return [
        line.replace("<", "\\<").replace("*", "\\*").replace("_", "\\_")
        for line in text.splitlines()
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known to Sphinx."""
    app.add_directive("cli-reference", CliReference)
    return {"parallel_read_safe": True}
