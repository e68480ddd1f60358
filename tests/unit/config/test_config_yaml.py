"""The settings file as text: what it means, what is wrong with it on which line, what it may not do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cctv_storaged.config import Settings
from cctv_storaged.config.yamlfile import LARGEST_FILE_BYTES, core_schema_value, read_draft
from cctv_storaged.errors import Fault
from tests.unit.config.given import faults_of, load

CANARY = "c4nary-s3cret"


def tree_of(folder: Path, text: str) -> dict[str, object]:
    path = folder / "config.yaml"
    path.write_text(text)
    draft = read_draft(str(path))
    assert draft.faults == []
    return draft.tree


def file_fault(folder: Path, content: str | bytes) -> Fault:
    path = folder / "config.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (fault,) = read_draft(str(path)).faults
    return Fault(fault.where.replace(f"{folder}/", ""), fault.message, fault.hint)


@pytest.mark.parametrize("text", ["", "# nothing\n", "~", "---\n...\n", "\ufeff"])
def test_an_empty_file_says_nothing(tmp_path: Path, text: str) -> None:
    assert tree_of(tmp_path, text) == {}


def test_scalars_mean_what_they_look_like(tmp_path: Path) -> None:
    """YAML 1.1 would read these as false, 1320, 7, a date and 1000."""
    text = "[no, 22:00, 007, 2026-01-01, 1_000, '5', 5, -3, 0.5, true, null, 0x10, .inf, 1e5]"
    assert tree_of(tmp_path, f"a: {text}")["a"] == [
        *["no", "22:00", "007", "2026-01-01", "1_000", "5", 5, -3, 0.5, True, None, "0x10", ".inf", "1e5"]
    ]


@settings(deadline=None)
@given(st.text(max_size=12))
def test_what_pyyaml_writes_unquoted_reads_as_the_same_text(text: str) -> None:
    """check-config prints with PyYAML; what it leaves unquoted must not turn into something else here."""
    written = yaml.safe_dump([text], width=1000)
    (event,) = (event for event in yaml.parse(written) if isinstance(event, yaml.ScalarEvent))
    assert event.style or core_schema_value(str(event.value)) == text


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("mode: LOCAL\nmode: LOCAL\n", 2, "given twice, first on line 1"),
        ("api:\n  port: 1\n  host: ::1\n  port: 1\n", 4, "api.port"),
        ("- mode\n", 1, "mapping of keys at the top"),
        ("mode", 1, "mapping of keys at the top"),
        ("api:\n\tport: 1\n", 2, "indent with blanks"),
        ("mode: LOCAL\n  backend: S3\n", 2, "not YAML"),
        ("api: {port: 1\n", 2, "in what begins on line 1"),
        ("mode: LOCAL\n---\nmode: LOCAL\n", 2, "second document"),
        ("mode: \x07", 1, "character that YAML does not allow"),
        ("a: 1\nmode: !!python/object/apply:os.system [id]\n", 2, "tag"),
        ("mode: !LOCAL\n", 1, "tag"),
        ("? [a, b]\n: c\n", 1, "key that is not plain text"),
        ("<<: {mode: LOCAL}\n", 1, "merge key"),
        ("mode: *nothing\n", 1, "alias"),
        ("api: &x\n  host: *x\n", 2, "alias"),
        ('mode: "\\ud800"\n', 1, "not Unicode"),
        (b"mode: \xff\xfe\n", 1, "not UTF-8"),
    ],
)
def test_a_broken_file_is_told_with_its_line(
    tmp_path: Path, text: str | bytes, line: int, words: str
) -> None:
    fault = file_fault(tmp_path, text)
    assert fault.where.split(":")[:2] == ["config.yaml", str(line)]
    assert words in str(fault)


def test_a_key_given_again_and_again_is_told_with_its_first_line(tmp_path: Path) -> None:
    faults = faults_of(tmp_path, "mode: LOCAL\nmode: LOCAL\nmode: LOCAL\n")
    assert [fault.where for fault in faults] == ["config.yaml:2: mode", "config.yaml:3: mode"]
    assert {fault.message for fault in faults} == {"is given twice, first on line 1"}


@pytest.mark.parametrize(
    "value",
    [
        f"*{CANARY}",
        f"!{CANARY} x",
        f"!{CANARY}!x y",
        f"@{CANARY}",
        f"%{CANARY}",
        f"`{CANARY}",
        f'"{CANARY}',
        f"'{CANARY}' {CANARY}",
        f"[{CANARY}",
        f"{{{CANARY}",
        f"{CANARY}: {CANARY}: x",
        f"&{CANARY} &{CANARY} x",
        f"!<{CANARY}",
        f'"\\q{CANARY}"',
        f"|{CANARY}",
        f"{CANARY}\x07",
    ],
)
def test_no_fault_of_the_text_quotes_a_secret_in_it(tmp_path: Path, value: str) -> None:
    fault = file_fault(tmp_path, f"minio:\n  secret_key: {value}\n")
    assert CANARY not in str(fault)
    assert "config.yaml" in fault.where


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    (fault,) = read_draft(str(tmp_path / "config.yaml")).faults
    assert str(fault) == f"{tmp_path}/config.yaml: there is no such file"


def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    (fault,) = read_draft(str(tmp_path)).faults
    assert "is a folder" in fault.message


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("mode: LOCAL\n")
    path.chmod(0)
    with not_as_root():
        (fault,) = read_draft(str(path)).faults
    assert "may not be read by this user" in fault.message


@contextmanager
def not_as_root() -> Iterator[None]:
    """Root reads whatever it likes."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_an_alias_bomb_is_refused_before_it_is_built(tmp_path: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "aliases" in file_fault(tmp_path, "\n".join(levels)).message


def test_as_many_aliases_as_are_allowed_stay_small(tmp_path: Path) -> None:
    levels = ["a0: &a0 [x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 4)}]" for n in range(1, 5)]
    assert len(str(tree_of(tmp_path, "\n".join(levels)))) < 10_000


def test_one_alias_is_a_copy_of_its_own(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "a: &x {b: 1}\nc: *x\n")
    assert tree["c"] == {"b": 1}
    assert tree["c"] is not tree["a"]


@pytest.mark.parametrize("text", ["[" * 100_000, "a: " + "{a: " * 5_000])
def test_deep_nesting_is_refused_before_it_is_built(tmp_path: Path, text: str) -> None:
    assert "nested" in file_fault(tmp_path, text).message


def test_a_flood_of_values_is_refused(tmp_path: Path) -> None:
    assert "more values" in file_fault(tmp_path, f"a: [{'1,' * 50_000}]").message


def test_a_file_larger_than_a_settings_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    with path.open("wb") as file:
        file.truncate(50 * 2**30)  # sparse
    before = bytes_read()
    (fault,) = read_draft(str(path)).faults
    assert "1 MiB" in fault.message
    assert bytes_read() - before < 100 * LARGEST_FILE_BYTES


def bytes_read() -> int:
    """By this process so far, of whatever file."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_a_file_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    text = "mode: LOCAL\n"
    assert load(tmp_path, text + "#" * (LARGEST_FILE_BYTES - len(text))).mode == "LOCAL"


def test_an_unreadable_file_does_not_hide_what_is_wrong_with_the_environment(tmp_path: Path) -> None:
    faults = faults_of(tmp_path, "api: {", {"PORT": "x", "LOG_LEVEL": "loud", "POSTGRES_USER": "cctv"})
    assert {fault.where for fault in faults} == {"config.yaml:1", "PORT", "LOG_LEVEL"}


def test_other_parts_are_not_asked_about_settings_that_could_not_be_read(tmp_path: Path) -> None:
    def never(_: Settings) -> list[Fault]:
        raise AssertionError("asked about defaults that nobody will run with")

    assert len(faults_of(tmp_path, "api: {", {}, [never])) == 1
