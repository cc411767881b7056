"""Compares what must stand under each key with what stands on a compacted topic, and in the table over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.adapters.json.writing import json_text, row_json
from pipeline.engine.ports import TP
from pipeline.errors import UndecodableRecord
from pipeline.verify.report import Finding, Report, short
from pipeline.verify.sources.decode import Decoder, text_key
from pipeline.verify.sources.history import Entry, History

# Key -> what may stand there: what was true at the bound, then each value since, as the pipeline may be running.
Allowed = Mapping[str, Sequence[Any]]


def last_values(
    history: History, tp: TP, decoder: Decoder, service: str, report: Report
) -> dict[str, tuple[Entry, Any]]:
    """The last record of each key, and its value; None for a deleted one."""
    last: dict[str, Entry] = {}
    for entry in history.records(tp):
        try:
            last[text_key(entry)] = entry
        except UndecodableRecord as error:
            report.add(unreadable(service, tp, entry, error))
    values: dict[str, tuple[Entry, Any]] = {}
    for key, entry in last.items():
        try:
            values[key] = entry, None if entry.value is None else decoder.value(entry.value)
        except UndecodableRecord as error:
            report.add(unreadable(service, tp, entry, error))
            values[key] = entry, error
    return values


def unreadable(service: str, tp: TP, entry: Entry, error: Exception) -> Finding:
    """The finding of an unreadable record of the service's own."""
    key = None if entry.key is None else entry.key.decode(errors="replace")
    return Finding("unreadable", service, *tp, key, entry.offset, "a readable record", short(str(error)))


def compare_changelog(
    what: str, service: str, tp: TP, allowed: Allowed, last: Mapping[str, tuple[Entry, Any]], report: Report
) -> None:
    """Report `missing_…`, `wrong_…` and `extra_…` of `what`, "state" or "row"."""
    for key, values in allowed.items():
        entry, value = last.get(key, (None, None))
        if value in values or isinstance(value, UndecodableRecord):
            continue
        kind = "missing" if value is None else "extra" if values[-1] is None else "wrong"
        offset = None if entry is None else entry.offset
        finding = Finding(f"{kind}_{what}", service, *tp, key, offset, "", "")
        report.add(finding.of_values(values[-1], value))
    for key, (entry, value) in last.items():
        if value is not None and key not in allowed:
            report.add(Finding(f"extra_{what}", service, *tp, key, entry.offset, "nothing", short(value)))


def compare_table(
    service: str, table: str, partition: int, allowed: Allowed, rows: dict[str, Any] | None, report: Report
) -> None:
    """Report `missing_table_row`, `wrong_table_row` and `extra_table_row`."""
    if rows is None:
        return
    report.checked["table rows"] += len(rows)
    for key, values in allowed.items():
        row = rows.get(key)
        if row is None:
            if None not in values:
                report.add(
                    Finding("missing_table_row", service, table, partition, key, None, short(values[-1]), "no row")
                )
        elif not any(value is not None and row_json(value) == row for value in values):
            kind = "extra" if values[-1] is None else "wrong"
            finding = Finding(f"{kind}_table_row", service, table, partition, key, None, "", "")
            report.add(finding.of_values(None if values[-1] is None else row_json(values[-1]), row))
    for key in rows.keys() - allowed.keys():
        found = short(json_text(rows[key]))
        report.add(Finding("extra_table_row", service, table, partition, key, None, "no row", found))
