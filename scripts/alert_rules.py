"""Writes packaging/prometheus: the alert rules, and promtool's tests of each, its firing and its recovery.

An alarm of the daemon becomes a rule by itself, with the words of docs/reference/alarms.md. What the daemon
cannot tell, or not for itself, stands below. Run with the virtual environment's Python.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from cctv_storaged.alarms import AlarmName

ROOT = Path(__file__).parent.parent
ALARMS = ROOT / "docs" / "reference" / "alarms.md"
RULES = ROOT / "packaging" / "prometheus" / "cctv-storaged.rules.yml"
TESTS = ROOT / "packaging" / "prometheus" / "cctv-storaged.rules.test.yml"
RUNBOOK = "file:///usr/share/doc/cctv-storaged/docs/reference/alarms.md#"
JOB = "cctv-storaged"
INSTANCE = "nvr-01:8082"
PREFIX = "CctvStorage"
LOG = "`journalctl -u cctv-storaged -g"

CRITICAL = frozenset(
    {
        *(AlarmName.WRONG_DISK, AlarmName.DISK_FULL, AlarmName.READ_ONLY, AlarmName.AT_LEAST),
        *(AlarmName.HELD_LOST, AlarmName.DAMAGED_COPY, AlarmName.LEDGER, AlarmName.FRESH_JOURNAL),
        *(AlarmName.LOSS, AlarmName.CAMERA_SILENT, AlarmName.CLOCK),
    }
)
"""Footage is lost, is not made, or is not kept as promised. Everything else can wait for the morning."""

RULES_HEAD = """\
# Alert rules of cctv-storaged for Prometheus. Made by scripts/alert_rules.py; change it there.
#
# They expect the job "cctv-storaged": docs/guide/monitoring.md has the scrape configuration. Every alarm of
# the daemon has a rule. The daemon itself decides when it sounds: its settings `alerts` have the limits, and
# none of these rules waits any longer. The first and the last are of what it cannot tell of itself.
# `promtool test rules cctv-storaged.rules.test.yml` shows each fire and recover.
"""
TESTS_HEAD = (
    "# Made by scripts/alert_rules.py, with the rules: promtool test rules cctv-storaged.rules.test.yml\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One alert, and what shows that it works."""

    name: str  # as its row on the page of alarms
    expr: str
    hold: str | None = None  # for how long it must be so
    severity: str
    summary: str  # without the host's name
    well: Mapping[str, str]  # series to its value in promtool's notation while all is well
    bad: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)  # that the alert has besides the usual
    value: str = "1"  # what the expression gives then
    wait: int = 1  # minutes in which it is so before the alert fires, at most

    @property
    def alert(self) -> str:
        words = self.name if self.is_alarm else self.name.removeprefix(PREFIX)
        return PREFIX + ("".join(part.title() for part in words.split("_")) if self.is_alarm else words)

    @property
    def is_alarm(self) -> bool:
        return self.name in tuple(AlarmName)

    def annotations(self) -> dict[str, str]:
        """In the words of the page."""
        words, here = explained()[self.name], "absent(" not in self.expr
        asked = f"; `cctv-storaged status` and /ready say which and why, and {LOG} 'ALARM {self.name}'`"
        return {
            "summary": f"{'{{ $labels.instance }}: ' if here else ''}{self.summary}",
            "description": (
                f"It is so while: {words.sounds_while}. What to do: {words.remedy}"
                f"{asked if self.is_alarm else ''}. It ends: {words.ends}."
            ),
            "runbook_url": RUNBOOK + ("names" if self.is_alarm else "beyond-the-daemon"),
        }


@dataclass(frozen=True, slots=True)
class Explained:
    """A row of the page of alarms, without its links."""

    sounds_while: str
    remedy: str
    ends: str


@cache
def explained() -> dict[str, Explained]:
    """The page's table, by alarm."""
    found = {}
    for line in ALARMS.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            name, _, while_, remedy, ends = (cell.strip() for cell in line.strip("| ").split(" | "))
            found[name.strip("`")] = Explained(*map(_plain, (while_, remedy, ends)))
    return found


def _plain(text: str) -> str:
    text = re.sub(r" ?\(\[[^]]*\]\([^)]*\)\)", "", text)  # a link in brackets leads away from the sentence
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).replace("`", "").replace("{{", "{ {")


def of_alarm(name: AlarmName) -> Rule:
    """The rule of one of the daemon's alarms."""
    series = f'storage_alarms{{alarm="{name}"}}'
    return Rule(
        name=name,
        expr=f"{series} > 0",
        severity="critical" if name in CRITICAL else "warning",
        summary=f"the alarm {name} sounds ({{{{ $value }}}})",
        well={series: "0"},
        bad={series: "1"},
        labels={"alarm": str(name)},
    )


def of_the_target() -> Iterator[Rule]:
    """What a daemon that is not there cannot tell."""
    up = f'up{{job="{JOB}"}}'
    yield Rule(
        name="CctvStorageDown",
        expr=f"{up} == 0",
        hold="2m",
        severity="critical",
        summary="cctv-storaged does not answer",
        well={"up": "1"},
        bad={"up": "0"},
        value="0",
        wait=3,
    )
    yield Rule(
        name="CctvStorageNoTargets",
        expr=f"absent({up})",
        hold="10m",
        severity="critical",
        summary="Prometheus knows no cctv-storaged at all",
        well={"up": "1"},
        bad={"up": "_"},
        wait=17,
    )


def of_the_metrics() -> Iterator[Rule]:
    """What /ready tells and what is no alarm of the daemon."""
    yield Rule(
        name="CctvStorageRootAway",
        expr="storage_root_up == 0",
        hold="1m",
        severity="critical",
        summary="the recorder root {{ $labels.root }} cannot be read",
        well={'storage_root_up{root="/r"}': "1"},
        bad={'storage_root_up{root="/r"}': "0"},
        labels={"root": "/r"},
        value="0",
        wait=2,
    )
    yield Rule(
        name="CctvStorageUnreadableFootage",
        expr="storage_files_unreadable + storage_folders_unreadable > 0",
        hold="5m",
        severity="critical",
        summary="{{ $value }} files and folders below {{ $labels.root }} refuse to be read",
        well={'storage_files_unreadable{root="/r"}': "0", 'storage_folders_unreadable{root="/r"}': "0"},
        bad={'storage_files_unreadable{root="/r"}': "2", 'storage_folders_unreadable{root="/r"}': "1"},
        labels={"root": "/r"},
        value="3",
        wait=6,
    )
    yield Rule(
        name="CctvStorageJournalFull",
        expr="storage_journal_full > 0",
        severity="critical",
        summary="the journal's disk has no room",
        well={"storage_journal_full": "0"},
        bad={"storage_journal_full": "1"},
    )
    yield Rule(
        name="CctvStorageJournalRecovered",
        expr="storage_journal_recovered_total > 0",
        severity="warning",
        summary="the journal was damaged, and was made good at start",
        well={"storage_journal_recovered_total": "0"},
        bad={"storage_journal_recovered_total": "1"},
    )
    yield Rule(
        name="CctvStorageCopiesFailed",
        expr="storage_copies_failed > 0",
        hold="5m",
        severity="warning",
        summary="{{ $value }} copies at {{ $labels.backend }} wait for a human",
        well={'storage_copies_failed{backend="S3"}': "0"},
        bad={'storage_copies_failed{backend="S3"}': "4"},
        labels={"backend": "S3"},
        value="4",
        wait=6,
    )
    aside = "storage_segments_quarantined"
    yield Rule(
        name="CctvStorageFilesSetAside",
        expr=f"{aside} - ({aside} offset 1h or {aside} * 0) > 0",
        severity="warning",
        summary="{{ $value }} files more than an hour ago are no footage ({{ $labels.reason }})",
        well={f'{aside}{{reason="empty"}}': "5"},
        bad={f'{aside}{{reason="empty"}}': "7"},
        labels={"reason": "empty"},
        value="2",
    )


def rules() -> list[Rule]:
    """All, in the order of the file."""
    return [*of_the_target(), *map(of_alarm, AlarmName), *of_the_metrics()]


def rules_file() -> str:
    """packaging/prometheus/cctv-storaged.rules.yml."""
    document = {"groups": [{"name": "cctv-storaged", "rules": [_written(rule) for rule in rules()]}]}
    return RULES_HEAD + _yaml(document)


def _written(rule: Rule) -> dict[str, Any]:
    held = {} if rule.hold is None else {"for": rule.hold}
    return {
        "alert": rule.alert,
        "expr": rule.expr,
        **held,
        "labels": {"severity": rule.severity},
        "annotations": rule.annotations(),
    }


def tests_file() -> str:
    """packaging/prometheus/cctv-storaged.rules.test.yml."""
    document = {
        "rule_files": [RULES.name],
        "evaluation_interval": "1m",
        "tests": [_tested(rule) for rule in rules()],
    }
    return TESTS_HEAD + _yaml(document)


WELL, BAD = 70, 30
"""Minutes for which all is well, and then is not; then all is well for as long as before."""


def _tested(rule: Rule) -> dict[str, Any]:
    """Well, then bad, then well: nothing before, the alert in between, nothing after."""
    phases = ((rule.well, WELL), (rule.bad, BAD), (rule.well, WELL))
    series = [
        {"series": _full(name), "values": " ".join(_held(of[name], minutes) for of, minutes in phases)}
        for name in rule.well
    ]
    fires, over = WELL + rule.wait, WELL + BAD + 5
    return {
        "name": rule.alert,
        "interval": "1m",
        "input_series": series,
        "alert_rule_test": [
            {"eval_time": f"{WELL - 1}m", "alertname": rule.alert, "exp_alerts": []},
            {"eval_time": f"{fires}m", "alertname": rule.alert, "exp_alerts": [_expected(rule)]},
            {"eval_time": f"{over}m", "alertname": rule.alert, "exp_alerts": []},
        ],
    }


def _full(series: str) -> str:
    """With the labels that the scrape gives."""
    name, _, labels = series.partition("{")
    more = labels.rstrip("}")
    return f'{name}{{job="{JOB}",instance="{INSTANCE}"{"," if more else ""}{more}}}'


def _held(value: str, minutes: int) -> str:
    return f"_x{minutes}" if value == "_" else f"{value}x{minutes - 1}"


def _expected(rule: Rule) -> dict[str, Any]:
    absent = rule.expr.startswith("absent(")
    labels = {"job": JOB} if absent else {"job": JOB, "instance": INSTANCE, **rule.labels}

    def shown(text: str) -> str:
        text = text.replace("{{ $labels.instance }}", INSTANCE).replace("{{ $value }}", rule.value)
        for label, value in rule.labels.items():
            text = text.replace(f"{{{{ $labels.{label} }}}}", value)
        return text

    return {
        "exp_labels": {"severity": rule.severity, **labels},
        "exp_annotations": {key: shown(text) for key, text in rule.annotations().items()},
    }


def _yaml(document: object) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)


if __name__ == "__main__":
    for target, text in ((RULES, rules_file()), (TESTS, tests_file())):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        print(f"wrote {target}")
