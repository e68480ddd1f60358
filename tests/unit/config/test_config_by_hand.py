"""By hand the credentials of the running unit are seen, or it is said how; the daemon takes its own alone."""

from pathlib import Path

import pytest

from cctv_storaged import cli, daemon
from cctv_storaged.config import byhand
from cctv_storaged.config.sources import VARIABLES

SECRET = "c4nary-of-the-unit"
SETTINGS = """
data_dir: {folder}/data
recorders: [{{path: {folder}/recordings}}]
api: {{port: 1}}
backend: MINIO
minio: {{endpoint: 'localhost:9', access_key: someone, bucket_recordings: recordings}}
"""
MISSING = "minio.secret_key: is needed, as backend is MINIO"


@pytest.fixture(autouse=True)
def _nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CREDENTIALS_DIRECTORY", *(variable.name for variable in VARIABLES)):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def unit_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the unit's credentials are while it runs; it does not."""
    folder = tmp_path / "cctv-storaged.service"
    monkeypatch.setattr(byhand, "UNIT_FOLDER", folder)
    return folder


@pytest.fixture
def credentials(unit_folder: Path) -> Path:
    """Those of the running unit."""
    unit_folder.mkdir()
    (unit_folder / "minio_secret_key").write_text(f"{SECRET}\n")
    return unit_folder


def told(capsys: pytest.CaptureFixture[str], tmp_path: Path, *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command with the settings file."""
    file = tmp_path / "config.yaml"
    file.write_text(SETTINGS.format(folder=tmp_path))
    code = cli._run(cli.parser().parse_args([*words, "--config", str(file)]))
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    return code, said.out, said.err


BY_HAND = [["check-config"], ["status"], ["doctor"], ["verify", "--ledger"]]


def named(words: list[str]) -> str:
    return " ".join(words)


@pytest.mark.parametrize("words", BY_HAND, ids=named)
def test_by_hand_the_credentials_of_the_running_unit_are_taken_and_told_once(
    words: list[str], credentials: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, complaints = told(capsys, tmp_path, *words)
    assert MISSING not in complaints
    remark = f"cctv-storaged: credentials are those of the running unit, {credentials}"
    assert complaints.splitlines().count(remark) == 1


def test_what_is_in_force_has_the_credential(
    credentials: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed, _ = told(capsys, tmp_path, "check-config")
    assert code == 0
    assert "secret_key: '********'" in printed


def test_a_folder_that_is_given_is_the_only_one(
    credentials: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "given").mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "given"))
    code, _, complaints = told(capsys, tmp_path, "check-config")
    assert (code, len(complaints.splitlines())) == (2, 1)
    assert MISSING in complaints and "systemd-run" not in complaints and "sudo" not in complaints


@pytest.mark.parametrize("words", BY_HAND, ids=named)
@pytest.mark.usefixtures("unit_folder")
def test_while_the_unit_does_not_run_a_missing_secret_says_how_to_hand_it_over(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, complaints = told(capsys, tmp_path, *words)
    assert code == 2
    assert MISSING in complaints
    kept = "/etc/cctv-storaged/credentials/minio_secret_key"
    assert f"systemd-run --pipe --wait -p LoadCredential=minio_secret_key:{kept} " in complaints


def test_credentials_that_may_not_be_read_say_sudo(
    unit_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unit_folder.symlink_to(unit_folder)  # which root cannot read either
    code, _, complaints = told(capsys, tmp_path, "check-config")
    assert code == 2
    assert f"is it a credential of the unit: sudo, as {unit_folder} cannot be read: " in complaints


@pytest.mark.usefixtures("credentials")
def test_the_daemon_takes_no_credentials_but_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(daemon, "run")
    code, _, complaints = told(capsys, tmp_path, "run")
    assert code == 2
    assert MISSING in complaints and "systemd-run" not in complaints


@pytest.mark.usefixtures("unit_folder")
def test_a_database_that_lacks_its_password_says_where_that_may_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "STORAGE_BACKEND": "FILESYSTEM",
        "POSTGRES_HOST": "127.0.0.1",
        "POSTGRES_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    code, printed, _ = told(capsys, tmp_path, "doctor")
    assert code == 1
    remedy = printed[printed.index("FAIL  PostgreSQL at") :].splitlines()[1]
    assert "-p LoadCredential=postgres_password:" in remedy
