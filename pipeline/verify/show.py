"""What `pipeline verify` prints."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.verify.report import Finding, Report

REASONS = 8


def show(console: Console, report: Report) -> None:
    """What was checked, what could not be, then the findings."""
    table = Table(title="Checked", title_justify="left", title_style="bold")
    table.add_column("what")
    table.add_column("number", justify="right")
    for name, number in sorted(report.checked.items()):
        table.add_row(name, f"{number:,}")
        if name == "rejected":
            for reason, times in report.rejected.most_common(REASONS):
                table.add_row(f"  {escape(reason)}", f"{times:,}", style="dim")
    table.add_section()
    for service, lag in sorted(report.lag.items()):
        table.add_row(f"not folded yet by {service}", f"{lag:,}")
    console.print(table)
    for note in report.notes:
        console.print(f"[yellow]{escape(note)}[/]", highlight=False)
    if report.clean:
        console.print(
            "[bold green]verified: every record below the committed offsets has had its effect exactly once[/]"
        )
        return
    for finding in report.findings:
        console.print(line(finding), highlight=False, soft_wrap=True)
    console.print(f"[bold red]{report.found.total():,} findings: {_counts(report)}[/]", highlight=False)


def line(finding: Finding) -> str:
    """One finding, in one line."""
    place = finding.topic if finding.partition < 0 else f"{finding.topic}-{finding.partition}"
    place += f" offset {finding.offset}" if finding.offset is not None else ""
    key = f" key {finding.key!r}" if finding.key is not None else ""
    version = f" version {finding.version}" if finding.version is not None else ""
    where = escape(f"{finding.service}: {place}{key}{version}")
    return (
        f"[red]{finding.kind}[/] {where}\n    expected {escape(finding.expected)}\n    found    {escape(finding.found)}"
    )


def _counts(report: Report) -> str:
    return ", ".join(f"{number:,} {kind}" for kind, number in report.found.most_common())
