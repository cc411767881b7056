"""What `pipeline verify` prints."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.client.wire.plain import plain
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
                table.add_row(Text(f"  {plain(reason)}"), f"{times:,}", style="dim")
    table.add_section()
    for service, lag in sorted(report.lag.items()):
        table.add_row(f"not folded yet by {service}", f"{lag:,}")
    for why, number in sorted(report.not_judged.items()):
        table.add_row(Text(f"not judged: {plain(why)}"), f"{number:,}", style="yellow")
    console.print(table)
    for note in report.notes:
        console.print(Text(plain(note), "yellow"))
    if report.clean:
        console.print(
            "[bold green]verified: every record below the committed offsets has had its effect exactly once[/]"
        )
        return
    for finding in report.findings:
        console.print(line(finding), soft_wrap=True)
    console.print(f"[bold red]{report.found.total():,} findings: {_counts(report)}[/]", highlight=False)
    if report.likely_cause:
        console.print(Text(report.likely_cause, "yellow"))


def line(finding: Finding) -> Text:
    """One finding: what and where, and below it what differs, or the two values. Text of users is no markup."""
    place = finding.topic if finding.partition < 0 else f"{finding.topic}-{finding.partition}"
    place += f" offset {finding.offset}" if finding.offset is not None else ""
    key = f" key {finding.key!r}" if finding.key is not None else ""
    version = f" version {finding.version}" if finding.version is not None else ""
    where = plain(f"{finding.service}: {place}{key}{version}")
    if finding.fields:
        values = "".join(
            f"\n    {plain(each.field)}: expected {plain(each.expected)}, found {plain(each.found)}"
            for each in finding.fields
        )
        if more := finding.differing - len(finding.fields):
            values += f"\n    and {more:,} more fields"
    else:
        values = f"\n    expected {plain(finding.expected)}\n    found    {plain(finding.found)}"
    return Text.assemble((finding.kind, "red"), f" {where}{values}")


def _counts(report: Report) -> str:
    return ", ".join(f"{number:,} {kind}" for kind, number in report.found.most_common())
