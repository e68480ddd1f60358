"""Opening a recorder's file: beneath its root, through no link, and knowing whether it is closed."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.errors import NotASegment, SourceChanged
from cctv_storaged.recorder.source import Writer, open_source


def refusal(root: Path, path: str) -> str:
    with pytest.raises(NotASegment) as caught, open_source(str(root), path):
        pass
    return caught.value.reason


def test_a_plain_file_is_read_from_any_offset(tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "a.ts").write_bytes(b"0123456789")
    with open_source(str(tmp_path), "gate/a.ts") as source:
        assert source.read(2, 3) == b"234"
        assert source.read(8, 100) == b"89"
        assert source.identity.size_bytes == 10


@pytest.mark.parametrize(
    "path", ["../x.ts", "/etc/passwd", "a/../../x.ts", "", ".", "..", "a//b.ts", "a\0b.ts"]
)
def test_a_path_that_could_lead_out_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "a").mkdir()
    assert refusal(tmp_path, path) == "bad_path"


def test_a_link_is_not_followed_wherever_it_stands_on_the_way(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret.ts").write_bytes(b"secret")
    (root / "file.ts").symlink_to(outside / "secret.ts")
    (root / "folder").symlink_to(outside)
    assert refusal(root, "file.ts") == "symlink"
    assert refusal(root, "folder/secret.ts") == "symlink"


def test_what_is_no_regular_file_neither_blocks_nor_passes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ts")
    (tmp_path / "folder.ts").mkdir()
    assert refusal(tmp_path, "pipe.ts") == "not_a_file"
    assert refusal(tmp_path, "folder.ts") == "not_a_file"


def test_a_file_that_is_not_there_is_gone_and_no_refusal(tmp_path: Path) -> None:
    with pytest.raises(SourceChanged), open_source(str(tmp_path), "nothing/a.ts"):
        pass


def test_a_writer_is_seen_as_long_as_it_has_the_file_open(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    with path.open("wb") as writer, open_source(str(tmp_path), "a.ts") as source:
        assert source.writer() is Writer.PRESENT
        writer.close()
        assert source.writer() is Writer.NONE
        with path.open("rb"):
            assert source.writer() is Writer.NONE, "readers do not count"


def test_a_file_written_to_while_open_is_not_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    path.write_bytes(b"one")
    with open_source(str(tmp_path), "a.ts") as source:
        assert source.unchanged()
        path.write_bytes(b"four")
        assert not source.unchanged()


def test_looking_leaves_the_time_of_access_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    path.write_bytes(b"x")
    os.utime(path, ns=(1, 2_000_000_000))
    with open_source(str(tmp_path), "a.ts") as source:
        source.read(0, 1)
    assert path.stat().st_atime_ns == 1


@given(st.text(min_size=1, max_size=40))
def test_no_text_opens_anything_outside(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    root = tmp_path_factory.getbasetemp() / "fuzz-root"
    root.mkdir(exist_ok=True)
    try:
        with open_source(str(root), path):
            pytest.fail(f"{path!r} was opened, though the root is empty")
    except (NotASegment, SourceChanged, OSError):
        pass
