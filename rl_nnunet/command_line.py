"""What the commands share: arguments, and tables. Only the standard library: ``--help`` must answer at once."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rl_nnunet import __version__

# In SimpleITK's spelling; "keep" leaves the axes as they are.
KEEP = "keep"
ORIENTATIONS = ("LPS", "RAS", KEEP)


def make_parser(program: str, description: str, **options: Any) -> argparse.ArgumentParser:
    """Return a parser with what every command has: ``--help`` and ``--version``."""
    # Abbreviations would take --np for --nprocesses or whatever else is close, in place of -np.
    parser = argparse.ArgumentParser(prog=program, description=description, allow_abbrev=False, **options)
    parser.add_argument("--version", action=_PrintVersions, nargs=0, help="print the versions and exit")
    return parser


class _PrintVersions(argparse.Action):
    """``--version``; looking the versions up takes time that the other commands need not spend."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print the versions of this package and of nnU-Net, and exit."""
        print(f"rl_nnunet {__version__} with nnunetv2 {version('nnunetv2')}")
        parser.exit()


def add_run_arguments(parser: argparse.ArgumentParser, output: str) -> None:
    """Add ``-np`` and ``--overwrite``; the latter's help calls what is written `output`."""
    add_processes_argument(parser)
    parser.add_argument("--overwrite", action="store_true", help=f"replace the {output} if it exists")


def add_processes_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``-np``."""
    parser.add_argument(
        "-np",
        dest="processes",
        type=whole_number(1),
        default=min(8, os.cpu_count() or 1),
        metavar="N",
        help="number of processes (default: %(default)s)",
    )


def path_argument(text: str) -> Path:
    """Argument type of a file or folder: absolute, with ``~`` expanded.

    An empty text, as an unset variable makes it, would be the current folder.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; is a variable unset?")
    try:
        return Path(os.path.abspath(Path(text).expanduser()))
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"{text}: there is no such user; write the folder out") from None
    except FileNotFoundError:
        raise argparse.ArgumentTypeError(
            f"{text}: the current folder does not exist any more; change to another"
        ) from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no path ({error})") from None


def number(lowest: float, highest: float) -> Any:
    """Return the argument type of a number in a range."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
        if not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(f"must be from {lowest:g} to {highest:g}, not {text}")
        return value

    return parse


def whole_number(lowest: int) -> Any:
    """Return the argument type of a whole number that is not below `lowest`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if value < lowest:
            raise argparse.ArgumentTypeError(f"must be at least {lowest}, not {value}")
        return value

    return parse


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows with their columns aligned; the last one may be of any width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
