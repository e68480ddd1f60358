"""What is written out by hand says what the models say, for any segment, event and moment."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from cctv_storaged.api import models, segment_models
from cctv_storaged.api.cameras import camera_json, state_of
from cctv_storaged.api.models import parse_moment
from cctv_storaged.api.problems import Problem, Refusal, problem_of, rendered
from cctv_storaged.api.rendering import (
    answer,
    encoded,
    event_json,
    fleet_segment_json,
    main_copy,
    segment_json,
)
from cctv_storaged.api.spans import asked_span, cursor_of, position_of
from cctv_storaged.catalog.base import CatalogCopy, CatalogRow
from cctv_storaged.clock import from_us, rfc3339, rfc3339_us, to_us
from cctv_storaged.errors import Fault, PartAway, StoragedError, Unprocessable
from cctv_storaged.events import Event, EventKind
from cctv_storaged.journal.cameras import CameraFootage
from cctv_storaged.journal.listing import listed
from cctv_storaged.model import (
    BackendKind,
    Camera,
    Copy,
    CopyState,
    FileIdentity,
    Segment,
    SegmentFlag,
    SourceFile,
    SourceState,
    TimeSpan,
)
from tests.integration.api.harness import Host

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
moments = st.datetimes(timezones=st.just(UTC))
texts = st.text(max_size=30)
any_texts = st.text(st.characters(codec=None), max_size=30)  # lone surrogates too
backends = st.sampled_from(list(BackendKind))


@st.composite
def spans(draw: st.DrawFn) -> TimeSpan:
    one, other = draw(moments), draw(moments)
    if one == other:
        other = one + timedelta(seconds=1) if one.year < 9999 else one - timedelta(seconds=1)
    return TimeSpan(min(one, other), max(one, other))


copies = st.builds(
    Copy,
    backend=backends,
    state=st.sampled_from(list(CopyState)),
    path=st.none() | texts,
    attempts=st.integers(0, 1000),
    error=st.none() | texts,
    stored_at=st.none() | moments,
    verified_at=st.none() | moments,
)
identities = st.builds(
    FileIdentity,
    device=st.integers(0, 2**64 - 1),
    inode=st.integers(0, 2**64 - 1),
    size_bytes=st.integers(1, 2**63 - 1),
    mtime_ns=st.integers(0, 2**62),
)
sources = st.builds(SourceFile, root=any_texts, path=any_texts, identity=identities)
segments = st.builds(
    Segment,
    id=st.uuids(),
    camera_id=st.uuids(),
    span=spans(),
    source=sources,
    source_state=st.sampled_from(list(SourceState)),
    flags=st.frozensets(st.sampled_from(list(SegmentFlag))),
    codec=st.none() | texts,
    sha256=st.none() | st.binary(min_size=32, max_size=32),
    created_at=moments,
    held=st.booleans(),
    copies=st.lists(copies, max_size=3, unique_by=lambda copy: copy.backend).map(tuple),
)
rows = st.builds(
    CatalogRow,
    id=st.uuids(),
    host_id=texts,
    camera_id=st.uuids(),
    start_time=moments,
    end_time=moments,
    duration_seconds=st.integers(0, 2**31 - 1),
    size_bytes=st.integers(0, 2**63 - 1),
    storage_backend=texts,
    storage_path=any_texts,
    checksum=st.none() | texts,
    created_at=st.none() | moments,
    flags=st.lists(texts, max_size=3).map(tuple),
    copies=st.lists(
        st.builds(CatalogCopy, backend=texts, path=st.none() | any_texts, state=texts), max_size=2
    ).map(tuple),
)


def body_of(document: Any) -> bytes:
    body = answer(document).body
    assert isinstance(body, bytes)
    return body


@given(segments)
@settings(deadline=None)
def test_any_segment_is_written_as_its_model_says(segment: Segment) -> None:
    document = segment_json(segment)
    body = body_of(document)
    told = segment_models.SegmentAnswer.model_validate_json(body)
    assert set(document) == set(segment_models.SegmentAnswer.model_fields)
    assert (told.id, told.camera_id, told.size_bytes) == (segment.id, segment.camera_id, segment.size_bytes)
    assert (told.start_time, told.end_time) == (segment.span.start, segment.span.end)
    assert told.created_at == segment.created_at
    assert told.duration_seconds == pytest.approx(segment.span.duration.total_seconds())
    assert told.checksum == (None if segment.sha256 is None else segment.sha256.hex())
    assert set(told.flags) == segment.flags
    assert all(
        set(copy) == set(segment_models.CopyAnswer.model_fields) for copy in json.loads(body)["copies"]
    )
    for shown, copy in zip(told.copies, segment.copies, strict=True):
        assert (shown.backend, shown.state, shown.path) == (copy.backend, copy.state, copy.path)
        assert (shown.stored_at, shown.verified_at) == (copy.stored_at, copy.verified_at)


@given(segments)
@settings(deadline=None)
def test_the_copy_that_answers_for_the_bytes_has_them(segment: Segment) -> None:
    main = main_copy(listed(segment).copies)
    kept = [copy for copy in segment.copies if copy.state in ("stored", "verified") and copy.path is not None]
    if main is None:
        assert not kept
        return
    assert main.state in ("stored", "verified") and main.path is not None
    if any(copy.backend != "MILESTONE" for copy in kept):
        assert main.backend != "MILESTONE"
        if any(copy.state == "verified" and copy.backend != "MILESTONE" for copy in kept):
            assert main.state == "verified"


@given(rows)
@settings(deadline=None)
def test_any_row_of_the_fleet_is_written_as_its_model_says(row: CatalogRow) -> None:
    document = fleet_segment_json(row)
    told = segment_models.FleetSegmentAnswer.model_validate_json(body_of(document))
    assert set(document) == set(segment_models.FleetSegmentAnswer.model_fields)
    assert (told.id, told.host_id, told.start_time) == (row.id, row.host_id, row.start_time)


@given(
    st.builds(
        Event,
        kind=st.sampled_from(list(EventKind)),
        at=moments,
        camera_id=st.none() | st.uuids(),
        segment_id=st.none() | st.uuids(),
        backend=st.none() | texts,
        state=st.none() | texts,
        detail=st.none() | any_texts,
    )
)
def test_any_event_is_one_line_of_its_model(event: Event) -> None:
    text = encoded(event_json(event))
    assert text.isascii() and "\n" not in text and "\r" not in text
    models.EventAnswer.model_validate_json(text)
    assert set(json.loads(text)) == set(models.EventAnswer.model_fields)


@given(any_texts, st.lists(st.tuples(any_texts, any_texts), max_size=3))
def test_any_problem_is_written_as_its_model_says(detail: str, faults: list[tuple[str, str]]) -> None:
    problem = problem_of(Unprocessable([Fault(*fault) for fault in faults]))
    told = models.ProblemAnswer.model_validate_json(rendered(problem))
    assert (told.status, len(told.errors or [])) == (422, len(faults))
    models.ProblemAnswer.model_validate_json(rendered(Problem(kind=problem.kind, detail=detail)))


@given(any_texts)
def test_a_lone_surrogate_is_told_and_breaks_nothing(text: str) -> None:
    assert json.loads(body_of({"name": text})) == {"name": text}


def test_every_error_of_ours_has_a_status_of_its_own() -> None:
    """An error added to the tree must not become a 500 unseen: what may reach the API is listed here."""
    inner = {
        "ConfigError",
        "SegmentError",
        "NotASegment",
        "PackageError",
        "StoragedError",
    }  # translated before, or met by jobs and commands only
    found: list[type[Exception]] = [StoragedError]
    for kind in found:
        found += kind.__subclasses__()
    ours = {kind for kind in found if kind.__module__ == "cctv_storaged.errors"}
    for kind in ours:
        if kind.__name__ in {*inner, "RequestError", "Unprocessable"}:
            continue
        made = PartAway("x", part="gate") if kind is PartAway else kind("x")
        assert problem_of(made).kind.status != 500, kind
    assert len(ours) > 10
    assert issubclass(Refusal, StoragedError)


# Moments, spans and cursors


@given(st.integers(to_us(FIRST), to_us(LAST)))
def test_the_fast_way_to_write_a_moment_is_the_same(microseconds: int) -> None:
    assert rfc3339_us(microseconds) == rfc3339(from_us(microseconds))


@given(moments)
def test_what_is_written_is_read_again(moment: datetime) -> None:
    assert parse_moment(rfc3339(moment)) == moment


@given(moments.filter(lambda moment: 1 < moment.year < 9999), st.integers(-1439, 1439))
def test_any_offset_is_read(moment: datetime, minutes: int) -> None:
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    text = f"{moment.replace(tzinfo=None).isoformat()}{sign}{hours:02d}:{rest:02d}"
    assert parse_moment(text) == moment - timedelta(minutes=minutes)


@given(st.text() | st.none() | st.integers() | st.floats())
def test_what_is_no_moment_is_a_value_error_and_nothing_else(value: object) -> None:
    try:
        parsed = parse_moment(value)
    except ValueError:
        return
    assert parsed.tzinfo is UTC


@given(moments, st.uuids())
def test_a_cursor_leads_back_to_its_place(moment: datetime, id_: uuid.UUID) -> None:
    cursor = cursor_of((moment, id_))
    assert position_of(cursor) == (moment, id_)
    assert cursor.isascii() and len(cursor) == 32
    segment_models.SegmentsQuery.model_validate({"cursor": cursor})


@given(st.text(max_size=64))
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    try:
        position = position_of(cursor)
    except Unprocessable:
        return
    assert cursor_of(position) == cursor


@given(st.none() | moments, st.none() | moments, moments)
def test_a_span_asked_for_is_a_span_or_a_refusal(
    start: datetime | None, end: datetime | None, now: datetime
) -> None:
    try:
        span = asked_span(start, end, now)
    except Unprocessable:
        return
    assert start in (None, span.start) and end in (None, span.end)


# Cameras


def test_a_camera_is_silent_once_three_segments_and_a_bit_are_missing() -> None:
    end = datetime(2026, 1, 1, tzinfo=UTC)
    newest = TimeSpan(end - timedelta(seconds=60), end)
    camera = Camera(id=uuid.UUID(int=1), name="a\udcff", folder="a")
    footage = CameraFootage(
        camera=camera, segments=1, bytes=1, footage=newest, newest=newest, heard=end, bit_rate=None
    )
    assert state_of(footage, end + timedelta(seconds=210)) == "recording"
    assert state_of(footage, end + timedelta(seconds=211)) == "silent"
    models.CameraAnswer.model_validate_json(body_of(camera_json(footage, end)))


# The journal's light pages


async def test_a_page_shows_what_the_whole_segments_say(host: Host) -> None:
    camera = uuid.UUID(int=9)
    start = datetime(2025, 1, 23, 10, tzinfo=UTC)
    made = [
        await host.registered(f"gate/{n}.ts", camera=camera, start=start + timedelta(seconds=2.5 * n))
        for n in range(5)
    ]
    host.deliver()
    for segment in made:
        await host.delivered(segment)
    span = TimeSpan(start, start + timedelta(hours=1))
    for limit in (2, 5, 100):
        after = None
        while True:
            light = await host.journal.listing.page(camera, span, limit, after)
            whole = await host.journal.segments.page(camera, span, limit, after)
            assert light.segments == tuple(listed(segment) for segment in whole.segments)
            assert light.next == whole.next
            if light.next is None:
                break
            after = light.next
    assert (await host.journal.listing.page(uuid.uuid4(), span, 10)).segments == ()
