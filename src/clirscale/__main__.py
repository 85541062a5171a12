"""``python -m clirscale report STUDY``: work on studies that have run, without models."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from clirscale.errors import ClirscaleError
from clirscale.launch import report


def main(argv: list[str] | None = None) -> int:
    """Run a subcommand and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m clirscale", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("report", help="write the report of a study again, from its records")
    writing.add_argument("study", help="name of the study: its folder under --output-dir")
    writing.add_argument("--output-dir", type=Path, default=Path("multirun"), help="default: %(default)s")
    writing.add_argument("--report-dir", type=Path, default=Path("multirun_reports"), help="default: %(default)s")
    args = parser.parse_args(argv)
    try:
        report(args.output_dir / args.study, args.report_dir, Console())
    except ClirscaleError as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
