"""Whatever a file or an environment holds: settings come out, or faults, and nothing else."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cctv_storaged.config import effective, load_settings
from cctv_storaged.config.shape import ALL_KEYS
from cctv_storaged.config.sources import AWS_KEYS, FALLBACKS, VARIABLES
from cctv_storaged.errors import ConfigError

quantities = st.sampled_from(["", "0", "5", "30s", "20%", "5MB/s", "22:00-06:00"])
words = quantities | st.sampled_from(
    ["x", "/a", "/a/b", "..", "*", "true", "none", "MINIO", "S3", "BOTH", "::", "a:1", "http://x"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=8)
names = st.sampled_from([step for key in ALL_KEYS for step in key.path if step.isidentifier()]) | st.text(
    max_size=4
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
variables = st.sampled_from([variable.name for variable in (*VARIABLES, *FALLBACKS, *AWS_KEYS)])


def settings_or_faults(path: Path, environ: Mapping[str, str]) -> None:
    try:
        loaded = load_settings(path, environ)
    except ConfigError as refused:
        assert refused.faults
        assert all(fault.where and fault.message for fault in refused.faults)
    else:
        assert effective(loaded)


@settings(deadline=None, max_examples=200)
@given(tree=st.dictionaries(names, values, max_size=6))
def test_any_tree_of_values_is_settings_or_faults(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, object]
) -> None:
    path = tmp_path_factory.getbasetemp() / "tree.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8", errors="replace")
    settings_or_faults(path, {})


@settings(deadline=None, max_examples=200)
@given(
    content=st.binary(max_size=60) | st.text("{}[]:,-#&*!|>'\"%@`\n \tab1<~?", max_size=60).map(str.encode)
)
def test_any_bytes_are_settings_or_faults(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(content)
    settings_or_faults(path, {})


@settings(deadline=None, max_examples=200)
@given(
    environ=st.dictionaries(
        variables | variables.map("{}_FILE".format), words | st.text(max_size=8), max_size=8
    ),
    tree=st.dictionaries(names, values, max_size=3),
)
def test_any_environment_over_any_tree_is_settings_or_faults(
    tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str], tree: dict[str, object]
) -> None:
    path = tmp_path_factory.getbasetemp() / "both.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8", errors="replace")
    settings_or_faults(path, environ)
