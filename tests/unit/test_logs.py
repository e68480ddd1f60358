"""One record is one line and holds no secret, whatever is in it."""

import ast
import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cctv_storaged
from cctv_storaged.logs import (
    FIELDS,
    LIBRARIES,
    LogFormat,
    configure_logging,
    is_journal,
    one_line,
    set_level,
)
from cctv_storaged.logs.handlers import JournalHandler, StreamLines
from cctv_storaged.logs.lines import LONGEST_TEXT
from cctv_storaged.logs.redaction import Redactor
from cctv_storaged.model import BackendKind

SECRET = "canary-7f3a/9+q'\"\\x= Ω"
HOSTILE = [
    "a\nb.ts",
    "a\r\n2026-01-01T00:00:00.000Z ERROR forged: line",
    "\x1b[2J\x1b]0;title\x07.ts",
    "\u202egnp.st",
    "\u2066\u2069\u200b\ufeff",
    "a\u2028b\u2029c\x85d\x0be",
    os.fsdecode(b"bad\xff\xfe\x80.ts"),
    "\x00",
    "lone \ud800 surrogate",
    "-y.ts",
    "emoji 📷.ts",
    "n" * 255,
]
LINE_BREAKS = re.compile("[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")


@pytest.fixture(autouse=True)
def libraries_as_before() -> Iterator[None]:
    """What a level does to libraries is no later test's matter."""
    levels = {name: logging.getLogger(name).level for name in LIBRARIES}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def logged_by(
    log_format: LogFormat, *, level: str = "debug", secrets: frozenset[str] = frozenset()
) -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    configure_logging(level, log_format, secrets, stream=stream)
    root = logging.getLogger()
    root.handlers[:] = [
        handler for handler in root.handlers if isinstance(handler, StreamLines)
    ]  # not pytest's
    return logging.getLogger("cctv_storaged.tried"), stream


# --- one line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("log_format", [LogFormat.PLAIN, LogFormat.JSON])
def test_a_hostile_name_stays_one_line_in_message_field_and_traceback(
    log_format: LogFormat, name: str
) -> None:
    log, stream = logged_by(log_format)
    try:
        raise ValueError(name)
    except ValueError:
        log.exception("cannot read %s", name, extra={"path": name, "error": name})
    text = stream.getvalue()
    assert text.endswith("\n")
    line = text.removesuffix("\n")
    assert line.isprintable()
    assert not LINE_BREAKS.search(line)


@given(st.text(st.characters()))
def test_escaped_text_is_always_visible_and_one_line(text: str) -> None:
    escaped = one_line(text)
    assert escaped.isprintable()
    escaped.encode()  # no surrogate is left: any stream can take it


@given(st.binary())
def test_any_file_name_can_be_logged(name: bytes) -> None:
    assert one_line(os.fsdecode(name)).isprintable()


def test_an_undecodable_byte_is_shown_as_that_byte() -> None:
    assert one_line(os.fsdecode(b"caf\xe9.ts")) == r"caf\xe9.ts"
    assert one_line("Hütte-前門 📷") == "Hütte-前門 📷"


def test_a_quoted_value_cannot_pretend_to_be_another_field() -> None:
    log, stream = logged_by(LogFormat.PLAIN)
    log.info("seen", extra={"path": 'x" backend=S3'})
    assert stream.getvalue().rstrip().endswith(r'path="x\" backend=S3"')


def test_an_endless_value_is_cut() -> None:
    log, stream = logged_by(LogFormat.JSON)
    log.info("x" * 200_000, extra={"path": "y" * 200_000})
    entry = json.loads(stream.getvalue())
    assert len(entry["message"]) == LONGEST_TEXT
    assert entry["path"].endswith("…")


# --- secrets ------------------------------------------------------------------------------------------------


def nested_failure() -> None:
    try:
        raise OSError(f"refused {SECRET}")
    except OSError as exc:
        raise RuntimeError({"key": SECRET, "raw": SECRET.encode()}) from exc


def spellings_of_the_secret() -> set[str]:
    return {
        SECRET,
        repr(SECRET)[1:-1],
        json.dumps(SECRET)[1:-1],
        ascii(SECRET)[1:-1],
        one_line(SECRET),
        "canary-7f3a",  # its beginning, whatever became of the rest
    }


@pytest.mark.parametrize("log_format", [LogFormat.PLAIN, LogFormat.JSON])
def test_a_known_secret_appears_in_no_part_of_a_record(log_format: LogFormat) -> None:
    log, stream = logged_by(log_format, secrets=frozenset({SECRET}))
    log.info(f"in the message {SECRET}")  # noqa: G004 - the very mistake to be covered
    log.info("in an argument %s and %r", SECRET, {"key": SECRET})
    log.info("in a field", extra={"error": SECRET, "reason": [SECRET], "url": {"a": SECRET}})
    log.info("in bytes %r", SECRET.encode())
    log.info("in a stack", stack_info=True, extra={"status": SECRET})
    try:
        nested_failure()
    except RuntimeError:
        log.exception("in a traceback and its cause")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 6
    assert all("***" in line for line in lines)
    for spelling in spellings_of_the_secret():
        assert spelling not in stream.getvalue()


@pytest.mark.parametrize(
    "spelling",
    [
        "canary&amp;&lt;7f3a&gt;&quot;&#39;",
        "canary&amp;&lt;7f3a&gt;&#34;&#39;",  # Go
        "canary&amp;&lt;7f3a&gt;&quot;&apos;",  # XML
        "canary&amp;&lt;7f3a&gt;&quot;&#x27;",  # Python
        "canary&amp;&lt;7f3a&gt;\"'",  # text between tags
    ],
)
def test_a_known_secret_is_starred_as_a_page_or_xml_repeats_it(spelling: str) -> None:
    log, stream = logged_by(LogFormat.PLAIN, secrets=frozenset({"canary&<7f3a>\"'"}))
    log.info("the server says: <p>%s</p>", spelling)
    assert "<p>***</p>" in stream.getvalue()
    assert "7f3a" not in stream.getvalue()


@pytest.mark.parametrize(
    ("told", "kept", "hidden"),
    [
        ("Authorization: Bearer abc.def-ghi", "Authorization: ***", "abc.def"),
        (
            "{'Authorization': 'AWS4-HMAC-SHA256 Credential=AK/x, Signature=00ff'}",
            "'Authorization': '***'",
            "00ff",
        ),
        ("headers {b'authorization': b'Basic dTpw'} sent", "b'authorization': b'***'} sent", "dTpw"),
        ("Proxy-Authorization: Basic dTpw", "***", "dTpw"),
        ("token was bearer 0123456789abcdef.", "bearer ***", "0123456789"),
        ("GET /b/k?X-Amz-Signature=00ffaa&X-Amz-Date=2026", "X-Amz-Signature=***&X-Amz-Date=2026", "00ffaa"),
        ("'x-amz-security-token': 'FwoGZX'", "'x-amz-security-token': '***'", "FwoGZX"),
        ("/k?AWSAccessKeyId=AKIA&Signature=abc%3D&Expires=1", "Expires=1", "abc%3D"),
        ("/segments?access_token=t0ps3cret&limit=1", "access_token=***&limit=1", "t0ps3cret"),
        ("rtsp://admin:hunter2@10.0.0.9/stream", "rtsp://admin:***@10.0.0.9/stream", "hunter2"),
        ("postgresql://cctv:p@ss:w@db:5432/cctv", "postgresql://cctv:***@db:5432/cctv", "p@ss"),
        ("login admin:hunter2@nvr failed", "admin:***@nvr failed", "hunter2"),
        ("connect(user='cctv', password='hunter2', port=1)", "password='***', port=1", "hunter2"),
        ("{'secret_key': 'hunter2', 'port': 1}", "'secret_key': '***', 'port': 1", "hunter2"),
    ],
)
def test_what_looks_like_a_secret_is_starred_and_the_rest_kept(told: str, kept: str, hidden: str) -> None:
    clean = Redactor()(told)
    assert kept in clean
    assert hidden not in clean


@pytest.mark.parametrize(
    "innocent",
    [
        "listening on http://127.0.0.1:8082/api/v1/storage",
        "camera gate: 17 segments, 10:31:05 to 10:31:15",
        "/recordings/gate/2026-11-22/10-31-05.ts",
        "mail to ops@example.org",
        "s3://bucket/cam@2026/x.ts",
        "no password for MINIO",
    ],
)
def test_ordinary_text_is_left_alone(innocent: str) -> None:
    assert Redactor()(innocent) == innocent


def test_a_short_secret_is_starred_as_a_word_and_not_inside_words() -> None:
    redact = Redactor(frozenset({"cctv"}))
    assert redact("password cctv refused for cctv_storaged") == "password *** refused for cctv_storaged"


def test_redaction_takes_linear_time_on_hostile_text() -> None:
    """A name that makes a pattern start anew at each character would stall the event loop for minutes."""
    redact = Redactor(frozenset({"canary-secret"}))
    for unit in (
        "a",
        "-",
        ".",
        ":",
        "a:",
        "@",
        "://",
        "://a:",
        "password=",
        "'password'",
        "bearer ",
        "x-amz-",
    ):
        hostile = unit * (400_000 // len(unit))
        assert len(redact(hostile)) > 0  # pytest-timeout is the judge: a square would be 10^11 steps


def test_an_argument_that_cannot_be_shown_does_not_lose_the_record() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no")

    log, stream = logged_by(LogFormat.PLAIN)
    log.info("value %s", Broken())
    log.info("too %s %s few", "one")  # noqa: PLE1206 - the very mistake to be covered
    log.info("field", extra={"error": Broken()})
    assert len(stream.getvalue().splitlines()) == 3
    assert "error=<Broken:" in stream.getvalue() or 'error="<Broken:' in stream.getvalue()


# --- levels, shapes -----------------------------------------------------------------------------------------


def test_a_record_below_the_level_is_not_even_rendered() -> None:
    class Counting:
        shown = 0

        def __str__(self) -> str:
            Counting.shown += 1
            return "counted"

    log, stream = logged_by(LogFormat.PLAIN, level="info")
    log.debug("value %s", Counting(), extra={"error": Counting()})
    assert (Counting.shown, stream.getvalue()) == (0, "")
    set_level("debug")
    log.debug("value %s", Counting(), extra={"error": Counting()})
    assert Counting.shown == 2
    assert "DEBUG" in stream.getvalue()


def test_libraries_stay_quiet_even_when_we_debug() -> None:
    _, stream = logged_by(LogFormat.PLAIN, level="debug")
    for name in (
        "botocore.auth",
        "urllib3.connectionpool",
        "aiohttp.access",
        "minio",
        "apscheduler.executors",
    ):
        logging.getLogger(name).info("chatter")
    assert stream.getvalue() == ""
    logging.getLogger("watchdog.observers.inotify_c").warning("events were lost")
    assert "events were lost" in stream.getvalue()
    set_level("error")
    logging.getLogger("watchdog.observers.inotify_c").warning("again")
    assert "again" not in stream.getvalue()


def test_fields_are_written_by_kind_and_unknown_ones_are_not() -> None:
    log, stream = logged_by(LogFormat.JSON)
    camera = UUID("123e4567-e89b-12d3-a456-426614174000")
    log.info(
        "copy verified",
        extra={
            "camera_id": camera,
            "backend": BackendKind.S3,
            "start": datetime(2026, 11, 22, 10, tzinfo=UTC),
            "sha256": b"\x00\xff",
            "size_bytes": 188,
            "flags": {"partial", "no_keyframe"},
            "error": None,
            "unheard_of": "x",
        },
    )
    entry = json.loads(stream.getvalue())
    assert datetime.fromisoformat(entry.pop("time")).tzinfo is not None
    assert entry == {
        "level": "info",
        "logger": "cctv_storaged.tried",
        "message": "copy verified",
        "camera_id": str(camera),
        "backend": "S3",
        "start": "2026-11-22T10:00:00Z",
        "sha256": "00ff",
        "size_bytes": 188,
        "flags": "no_keyframe,partial",
        "error": None,
    }


def test_a_plain_line_reads_as_time_level_place_sentence_and_facts() -> None:
    log, stream = logged_by(LogFormat.PLAIN)
    log.warning("backend away", extra={"backend": "S3", "reason": "no route to host"})
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING tried: backend away "
        r'backend=S3 reason="no route to host"\n',
        stream.getvalue(),
    )


def test_set_up_again_replaces_the_handler_and_the_secrets() -> None:
    log, first = logged_by(LogFormat.PLAIN, secrets=frozenset({"old-secret"}))
    log, second = logged_by(LogFormat.PLAIN, secrets=frozenset({"new-secret"}))
    log.info("new-secret")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1
    assert "new-secret" not in second.getvalue()


def test_a_level_or_format_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="loud"):
        configure_logging("loud")
    with pytest.raises(ValueError, match="xml"):
        configure_logging("info", "xml")


def test_every_field_a_caller_uses_is_one_we_write_and_clashes_with_nothing() -> None:
    """A name outside FIELDS would silently not be logged; one of LogRecord's own would raise KeyError."""
    record = logging.LogRecord("n", logging.INFO, "p", 1, "m", (), None)
    assert FIELDS.isdisjoint(vars(record).keys() | {"message", "asctime", "taskName"})
    assert FIELDS.isdisjoint({"time", "level", "logger", "exception"})
    unknown = {
        f"{source.name}: {key}"
        for source, key in extra_keys(Path(cctv_storaged.__file__).parent)
        if key not in FIELDS
    }
    assert unknown == set(), "add them to FIELDS in logs/lines.py or use a name that is there"


def extra_keys(package: Path) -> Iterator[tuple[Path, str]]:
    for source in package.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "extra" and isinstance(node.value, ast.Dict):
                for key in node.value.keys:
                    if isinstance(key, ast.Constant):
                        yield source, str(key.value)


# --- the process --------------------------------------------------------------------------------------------

UNCAUGHT = """
import sys, threading, warnings
from cctv_storaged.logs import configure_logging, log_uncaught
configure_logging("info", "plain", frozenset({"canary-secret"}))
log_uncaught()
class Unraisable:
    def __del__(self): raise ValueError("canary-secret in del")
thread = threading.Thread(target=lambda: 1 / 0 if True else None); thread.start(); thread.join()
Unraisable()
warnings.warn("canary-secret in a warning")
raise SystemError("canary-secret\\nforged line")
"""


def run_python(program: str, **extra_environment: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | extra_environment
    return subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def test_what_nobody_caught_is_a_record_too() -> None:
    done = run_python(UNCAUGHT)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.split()[1] for line in lines] == ["CRITICAL", "ERROR", "WARNING", "CRITICAL"]
    assert "ZeroDivisionError" in lines[0]
    assert "canary-secret" not in done.stderr


# --- the journal --------------------------------------------------------------------------------------------


def journal_fields(datagram: bytes) -> dict[str, str]:
    """journald's native protocol: `NAME=value` lines, or NAME, 64-bit little-endian length and value."""
    fields = {}
    while datagram:
        head, _, datagram = datagram.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if not equals:
            end = 8 + int.from_bytes(datagram[:8], "little")
            value, datagram = datagram[8:end], datagram[end + 1 :]
        fields[name.decode()] = value.decode()
    return fields


def test_journal_fields_are_the_upper_case_of_ours() -> None:
    sent: list[tuple[bytes, ...]] = []
    handler = JournalHandler(Redactor(frozenset({SECRET})), lambda *fields: sent.append(fields))
    log = logging.Logger("cctv_storaged.delivery")
    log.addHandler(handler)
    log.warning("copy %s failed\n", SECRET, extra={"segment_id": UUID(int=7), "backend": "S3", "error": None})
    assert sent == [
        (
            rb"MESSAGE=copy *** failed\n",
            b"PRIORITY=4",
            b"SYSLOG_IDENTIFIER=cctv-storaged",
            b"LOGGER=cctv_storaged.delivery",
            b"BACKEND=S3",
            b"SEGMENT_ID=00000000-0000-0000-0000-000000000007",
        )
    ]


TO_THE_JOURNAL = """
import logging, os, sys
from cctv_storaged.logs import configure_logging
configure_logging("info", "auto", frozenset({"canary-secret"}))
log = logging.getLogger("cctv_storaged.ingest")
path = "a\\nPRIORITY=0\\udcff.ts"
log.info("segment journalled", extra={"camera_id": "c1", "segment_id": "s1", "path": path})
try:
    raise ValueError("canary-secret\\nsecond line")
except ValueError:
    log.exception("probe failed")
"""


@pytest.fixture
def journal(tmp_path: Path, socket_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A stand-in for journald's socket, and the environment in which libsystemd sends to it."""
    shim = tmp_path / "journal_socket.so"
    source = Path(__file__).parents[1] / "fakes" / "journal_socket.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True, timeout=60)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as listener:
        listener.bind(str(socket_path))
        listener.settimeout(5)
        yield listener, {"LD_PRELOAD": str(shim), "JOURNAL_SOCKET": str(socket_path)}


def test_under_the_journal_records_arrive_there_with_their_fields(
    journal: tuple[socket.socket, dict[str, str]], tmp_path: Path
) -> None:
    listener, environment = journal
    stderr = tmp_path / "stderr"
    with stderr.open("wb") as stream:
        status = os.fstat(stream.fileno())
        environ = os.environ | environment | {"PYTHONPATH": os.pathsep.join(sys.path)}
        environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
        subprocess.run(
            [sys.executable, "-c", TO_THE_JOURNAL], env=environ, stderr=stream, timeout=60, check=True
        )
    assert stderr.read_bytes() == b""
    assert journal_fields(listener.recv(65536)) == {
        "MESSAGE": "segment journalled",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "cctv-storaged",
        "LOGGER": "cctv_storaged.ingest",
        "CAMERA_ID": "c1",
        "PATH": r"a\nPRIORITY=0\xff.ts",
        "SEGMENT_ID": "s1",
    }
    failure = journal_fields(listener.recv(65536))
    assert failure["MESSAGE"] == r"probe failed: ValueError: ***\nsecond line"
    assert failure["PRIORITY"] == "3"
    assert failure["EXCEPTION_TEXT"].startswith("Traceback (most recent call last):\n")
    assert "canary-secret" not in str(failure)


def test_without_the_library_the_journal_still_gets_lines_with_their_level(tmp_path: Path) -> None:
    without = "import sys; sys.modules['systemd'] = None\n" + TO_THE_JOURNAL
    stderr = tmp_path / "stderr"
    with stderr.open("wb") as stream:
        status = os.fstat(stream.fileno())
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
        subprocess.run([sys.executable, "-c", without], env=environ, stderr=stream, timeout=60, check=True)
    lines = stderr.read_text().splitlines()
    assert [line[:3] for line in lines] == ["<6>", "<3>"]
    assert lines[0].startswith("<6>ingest: segment journalled camera_id=c1")


def test_an_inherited_journal_variable_does_not_count_for_another_stream(tmp_path: Path) -> None:
    with (tmp_path / "redirected").open("wb") as stream:
        status = os.fstat(stream.fileno())
        ours = f"{status.st_dev}:{status.st_ino}"
        assert is_journal(stream.fileno(), {"JOURNAL_STREAM": ours})
        assert not is_journal(stream.fileno(), {"JOURNAL_STREAM": "1:2"})
        assert not is_journal(stream.fileno(), {})
        descriptor = stream.fileno()
    assert not is_journal(descriptor, {"JOURNAL_STREAM": ours})
