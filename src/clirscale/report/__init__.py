"""The report room: what a study found, as a static page, figures, tables and a table for the terminal."""

from clirscale.report.terminal import terminal_table
from clirscale.report.write import ReportFiles, write_report

__all__ = ["ReportFiles", "terminal_table", "write_report"]
