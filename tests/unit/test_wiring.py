"""What only the rooms can say of settings is told by check-config, not first by a start that fails."""

from pathlib import Path

import pytest

from cctv_storaged.recorder.mounts import Mount
from cctv_storaged.wiring import certificate_faults, data_dir_faults, vms_faults
from tests.unit.config.given import faults_of, load


@pytest.mark.parametrize(("type_", "refused"), [("nfs4", True), ("cifs", True), ("ext4", False)])
def test_a_data_dir_on_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, type_: str, refused: bool
) -> None:
    monkeypatch.setattr("cctv_storaged.wiring.mount_of", lambda path: Mount(point="/mnt", type=type_))
    text = "data_dir: /mnt/journal\n"
    if not refused:
        assert load(tmp_path, text, checks=[data_dir_faults])
        return
    (fault,) = faults_of(tmp_path, text, checks=[data_dir_faults])
    assert fault.where == "config.yaml:1: data_dir"
    assert type_ in fault.message


@pytest.mark.parametrize("below", ["", "/deep/below"])
def test_a_data_dir_that_is_a_file_or_lies_in_one_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    (fault,) = faults_of(tmp_path, f"data_dir: {tmp_path}/file{below}\n", checks=[data_dir_faults])
    assert fault.where == "config.yaml:1: data_dir"
    assert fault.message == f"{tmp_path}/file is a file, not a folder"


def test_a_certificate_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("no key")
    text = f"api:\n  tls_cert: {tmp_path}/none.pem\n  tls_key: {tmp_path}/key.pem\n"
    (fault,) = faults_of(tmp_path, text, checks=[certificate_faults])
    assert fault.where == "config.yaml:2: api.tls_cert"
    assert load(tmp_path, checks=[certificate_faults])


@pytest.mark.parametrize("setting", ["ca_file", "recorder_ca_file"])
def test_a_ca_file_for_xprotect_that_cannot_be_used_is_refused(tmp_path: Path, setting: str) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    text = f"milestone:\n  url: https://mgmt.example\n  {setting}: {tmp_path}/ca.pem\n"
    (fault,) = faults_of(tmp_path, text, checks=[vms_faults])
    assert fault.where == f"config.yaml:3: milestone.{setting}"
    assert load(tmp_path, f"{text}  verify_tls: false\n", checks=[vms_faults])
