"""``rl_nnunet_env``: print the shell exports that nnU-Net needs to find the trainers, for ``eval "$(rl_nnunet_env)"``.

In PowerShell, which Windows has, that is ``rl_nnunet_env | Out-String | Invoke-Expression``. What is wrong with the
environment is said on standard error: a shell evaluates standard output.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rl_nnunet.command_line import make_parser, path_argument
from rl_nnunet.environment import DATA_VARIABLES, exports
from rl_nnunet.errors import run_command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

POWERSHELL_QUOTES = str.maketrans({quote: 2 * quote for quote in "'\u2018\u2019\u201a\u201b"})
"""PowerShell takes curved quotes for straight ones."""


LINES: dict[str, Callable[[str, str], str]] = {
    "sh": lambda name, value: f"export {name}={shlex.quote(value)}",
    "powershell": lambda name, value: f"$env:{name} = '{value.translate(POWERSHELL_QUOTES)}'",
}
"""How each shell exports a variable."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command ``rl_nnunet_env``."""
    parser = make_parser(
        "rl_nnunet_env",
        "Print the shell exports that nnU-Net needs to find the trainers of rl_nnunet, or check that all is in place. "
        "Creates nothing.",
        epilog='Usual call: eval "$(rl_nnunet_env)", or in PowerShell: rl_nnunet_env | Out-String | Invoke-Expression',
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--root",
        type=path_argument,
        metavar="FOLDER",
        help="also export " + ", ".join(f"{name}=FOLDER/{name}" for name in DATA_VARIABLES) + ", where not set yet",
    )
    action.add_argument(
        "--check",
        action="store_true",
        help="check versions, GPU, folders and variables instead; exit code 1 if there is a problem",
    )
    parser.add_argument(
        "--shell",
        choices=tuple(LINES),
        default="powershell" if os.name == "nt" else "sh",
        help="what reads the exports: sh, or a shell like it, or powershell (default: %(default)s)",
    )
    args = parser.parse_args(arguments)
    run_command(check if args.check else lambda: print_exports(args.root, args.shell))


def print_exports(root: Path | None, shell: str) -> None:
    """Print the exports for a shell."""
    for name, value in exports(os.environ, root).items():
        print(LINES[shell](name, value))


def check() -> None:
    """Print what is in place and what is not; exit code 1 if there is a problem."""
    from rl_nnunet.doctor import check_all, print_report

    if not print_report(check_all()):
        sys.exit(1)


if __name__ == "__main__":
    main()
