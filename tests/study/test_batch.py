"""``batch_size: auto``: the fastest size, kept for a machine and a model, in place of the word."""

import json
from pathlib import Path

import pytest

from abu.study import batch
from abu.study.batch import KEPT, USUAL, kept, numbered, place
from abu.study.declared import check_value
from abu.study.fastest import tried

COMMON = {"device": "cpu", "engine": "pool", "threads": 0, "task_cpus": 1}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "results/train").mkdir(parents=True)
    (tmp_path / "results/train/train.json").write_text('{"model": "m"}')
    (tmp_path / "scratch").mkdir()
    return tmp_path


def test_growing_sizes_are_tried_until_two_bring_nothing() -> None:
    costs = {8: 5.0, 16: 3.0, 32: 2.0, 64: 2.5, 128: 1.0, 256: 1.5, 512: 1.2, 1024: 0.1}
    found = tried(costs.__getitem__, costs)
    assert list(found) == [8, 16, 32, 64, 128, 256, 512]
    assert min(found, key=found.__getitem__) == 128


def test_the_end_of_memory_ends_the_search_and_other_errors_do_not() -> None:
    def seconds(size: int) -> float:
        if size > 16:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return 1 / size

    assert list(tried(seconds, [8, 16, 32, 64])) == [8, 16]
    with pytest.raises(RuntimeError, match="out of memory"):
        tried(seconds, [32])


def test_another_error_is_raised() -> None:
    def seconds(size: int) -> float:
        if size > 8:
            raise RuntimeError("shapes do not match")
        return 1.0

    with pytest.raises(RuntimeError, match="shapes"):
        tried(seconds, [8, 16])


def test_auto_becomes_what_was_measured_for_this_machine_and_model(root: Path) -> None:
    study = {"common": COMMON, "cache": {"batch_size": "auto", "shard": 3}}
    study["changes"] = {"customized": {"unlearn": {"batch_size": "auto"}, "tune": None}}
    assert numbered(study, root)["cache"] == {"batch_size": USUAL, "shard": 3}
    (root / KEPT).write_text(json.dumps({place(COMMON, root): {"batch_size": 256}}))
    found = numbered(study, root)
    assert found["cache"]["batch_size"] == 256
    assert found["changes"] == {"customized": {"unlearn": {"batch_size": 256}, "tune": None}}
    assert study["cache"]["batch_size"] == "auto"
    other = COMMON | {"engine": "process", "threads": 7}
    assert kept(COMMON, root) == 256 and kept(other, root) is None
    (root / "results/train/train.json").write_text('{"model": "another"}')
    assert kept(COMMON, root) is None


def test_it_is_measured_once(root: Path, monkeypatch) -> None:
    calls = []

    def run(command: list[str], **options) -> None:
        calls.append(command[1:])
        (root / KEPT).write_text(json.dumps({place(COMMON, root): {"batch_size": 32}}))

    monkeypatch.setattr(batch.subprocess, "run", run)
    study = {"common": COMMON, "cache": {"batch_size": "auto"}, "unlearn": {"batch_size": 8}}
    for _ in range(2):
        found = numbered(study, root, measure=True)
        assert found["cache"]["batch_size"] == 32 and found["unlearn"]["batch_size"] == 8
    assert calls == [["-m", "abu.study.fastest"]]


def test_auto_is_a_value_where_batches_change_nothing_that_is_learned() -> None:
    check_value("cache.batch_size", "auto", (int, 64))
    check_value("changes.customized.unlearn.batch_size", "auto", (int, 64))
    for name in ("train.batch_size", "changes.customized.customize.batch_size", "cache.shard"):
        with pytest.raises(ValueError, match="'auto'; expected a whole number"):
            check_value(name, "auto", (int, 64))
    with pytest.raises(ValueError, match="or auto"):
        check_value("cache.batch_size", "many", (int, 64))
