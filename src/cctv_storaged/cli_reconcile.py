"""`cctv-storaged reconcile`: has the running daemon compare, and tells what it found.

Exit codes: 0 nothing differs, or all of it was mended; 1 something differs, was stopped or lost; 2 bad usage;
3 the daemon is out of reach, or something could not be looked at.
"""

import argparse
import sys
import time
from collections.abc import Iterator

from cctv_storaged.api.reconcile_models import (
    DifferenceAnswer,
    ReconcileAnswer,
    ReconcileRunAnswer,
    ReconcileSectionAnswer,
)
from cctv_storaged.cli_client import (
    DONE,
    FOUND_WRONG,
    OUT_OF_REACH,
    ApiClient,
    with_api,
)
from cctv_storaged.cli_progress import Progress
from cctv_storaged.clock import rfc3339
from cctv_storaged.logs.lines import one_line

PATH = "/reconcile"
ASKED_S = 0.5
SHOWN = 10
"""Differences of each kind that are printed; --json has more."""


def reconcile(options: argparse.Namespace) -> int:
    """Begins, or joins, and waits for the end; an exit code."""
    if options.cancel:
        return with_api(options, _cancelled)
    return with_api(options, lambda api: _reconciled(api, options))


def _cancelled(api: ApiClient) -> int:
    api.delete(PATH)
    return DONE


def _reconciled(api: ApiClient, options: argparse.Namespace) -> int:
    found = api.get(PATH, ReconcileAnswer)
    if found.run is not None and found.status == "running":
        _say(_joined(found.run))
        if (options.apply, options.force) != (found.run.apply, found.run.force):
            _say("it is another one than was asked for: wait for its end, or give --cancel")
            return FOUND_WRONG
    else:
        found = api.post(PATH, ReconcileAnswer, {"apply": options.apply, "force": options.force})
    found = _ended(api, found)
    if options.json:
        print(found.model_dump_json(indent=2))
    elif found.run is not None:
        print("\n".join(_told(found.run, found.status)))
    return _code(found)


def _joined(run: ReconcileRunAnswer) -> str:
    again = ", gone on with after a restart" if run.resumed else ""
    begun = f"one begun at {rfc3339(run.started_at)} by {run.why}"
    return f"{begun} is under way{again}: {run.looked:,} looked at"


def _ended(api: ApiClient, found: ReconcileAnswer) -> ReconcileAnswer:
    resumed = 0 if found.run is None else found.run.resumed
    try:
        with Progress("reconcile", unit="") as progress:
            while found.status == "running" and found.run is not None:
                if found.run.resumed > resumed:
                    resumed = found.run.resumed
                    _say("the daemon was started again, and goes on with it")
                progress.at(found.run.looked, what=_doing(found.run))
                time.sleep(ASKED_S)
                found = api.get(PATH, ReconcileAnswer)
    except KeyboardInterrupt:
        _say("the daemon goes on with it (cctv-storaged reconcile --cancel ends it)")
        raise
    return found


def _doing(run: ReconcileRunAnswer) -> str:
    differing = sum(each.found for each in run.differences)
    return one_line(f"{run.phase} {run.section or ''}, {differing:,} differ")


def _told(run: ReconcileRunAnswer, status: str) -> Iterator[str]:
    for section in run.sections:
        elsewhere = f", {section.elsewhere:,} of others passed over" if section.elsewhere else ""
        trouble = f"; NOT ALL: {section.trouble}" if section.trouble else ""
        left_out = f"{elsewhere}{_left_out(section)}"
        yield f"{section.kind} {section.name}: {section.looked:,} looked at{left_out}{trouble}"
    for kind in run.differences:
        mended = f", {kind.applied:,} mended" if run.apply else ""
        lost = f", {kind.lost:,} gone for good, told as lost" if kind.lost else ""
        under_hold = f" ({kind.lost_held:,} UNDER A HOLD)" if kind.lost_held else ""
        yield f"{kind.kind}: {kind.found:,}{mended}{lost}{under_hold}"
        for sample in kind.samples[:SHOWN]:
            yield f"  {_sample(sample)}"
        if kind.found > SHOWN:
            yield f"  … and {kind.found - min(SHOWN, len(kind.samples)):,} more"
        for sample in kind.lost_held_samples:
            yield f"  HELD AND LOST  {_sample(sample)}"
    for stop in run.braked:
        whom = "all of it" if stop.camera_id is None else f"camera {stop.camera_id}"
        lacking = f"{stop.gone:,} of {stop.compared:,} are gone"
        yield f"BRAKE {stop.section}, {whom}: {lacking}; nothing is done there"
    if not run.differences:
        whole = not any(section.young or section.under_way for section in run.sections)
        but = "" if whole else " in what was compared; some was left out"
        yield f"nothing differs{but}" if status == "completed" else "nothing was found to differ"
    if status not in ("completed", "incomplete"):
        yield f"it was {status}{f': {run.error}' if run.error else ''}"


def _left_out(section: ReconcileSectionAnswer) -> str:
    young = f", {section.young:,} left out as younger than 5 minutes" if section.young else ""
    under_way = f", {section.under_way:,} left out as still under way" if section.under_way else ""
    return f"{young}{under_way}"


def _sample(sample: DifferenceAnswer) -> str:
    facts = (sample.section, sample.path, sample.segment_id, sample.detail)
    return "  ".join(str(fact) for fact in facts if fact)


def _code(found: ReconcileAnswer) -> int:
    run = found.run
    if run is None or found.status == "failed":
        return OUT_OF_REACH
    left = sum(max(0, each.found - each.applied) for each in run.differences)
    if left or found.status == "cancelled":
        return FOUND_WRONG
    return OUT_OF_REACH if found.status == "incomplete" else DONE


def _say(text: str) -> None:
    print(f"cctv-storaged: {text}", file=sys.stderr)
