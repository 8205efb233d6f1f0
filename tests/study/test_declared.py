"""A value of another kind than a notebook declares is refused, by section and name, for every
parameter; so is a name that nothing reads and a parameter that is missing."""

from copy import deepcopy
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from test_declarations import NOTEBOOKS, PARAMS, root_with

from abu import ROOT
from abu.study.declared import DVC, FORMS, NULLABLE, SIGNED, check_study, check_value, declarations
from abu.study.run import execute, parameters

DECLARED = {name: declarations(path) for name, path in NOTEBOOKS.items()}
NAN, INF = float("nan"), float("inf")
BAD = {  # what is no value of a type
    int: ["5", True, 5.0, NAN, -1],
    float: ["0.1", True, NAN, INF, -INF, -1.0],
    bool: [1, 0, "true"],
    str: [5, True, ["auto"]],
    dict: ["x", [], 5],
    list[int]: ["5", ["5"], [True], [5.0], [-1], [None]],
    list[float]: [0.1, ["0.1"], [NAN], [None], [-1.0]],
    list[str]: ["abu", [5], [None]],
    list[list[str]]: [["captions.json"], [[5]]],
    dict[str, list[str]]: [["plain"], {"all": "plain"}, {"all": [5]}, {1: ["plain"]}],
    dict[str, dict[str, list[str]]]: [["abu"], {"all": ["abu"]}, {"all": {"abu": "das"}}],
}
BY_NAME = {
    "latin": [[], {"foldr": "data/latin"}, {"k": 3}, {"squares": [["8"]]}, {"seed": 2.5}],
    "features": [[], {"weigths": "all"}, {"dimension": "64"}, {"timesteps": [0.5]}],
    "regions": [[], {"skull": [0, "0", 1, 1]}, {"skull": 5}],
    "sampler": [[], {"step": 5}, {"steps": 2.5}, {"guidance": NAN}],
    "settings": [[], {"trak": 5}, {"trak": {"ridge": "0.1"}}],
    "systems": [[], {"base": "base"}, {"base": {"knid": "base"}}, {"base": {"kind": 5}}],
}
RUNNER = {"study", "system", "out"}  # it gives these itself


def wrong(name: str, declared: tuple) -> list:
    """Values that are refused for a parameter."""
    kind, default = declared
    values = BY_NAME[name] if name in BY_NAME else BAD[kind]
    negative = lambda value: value in (-1, -1.0, [-1], [-1.0]) and value is not True
    values = [v for v in values if not (name in SIGNED and negative(v))]
    return values + ([] if default is None else [None])


def places(study: dict) -> list[tuple[dict, str, str, tuple]]:
    """Every parameter of a study: the mapping that holds it, its key, its name, its declaration."""
    every = {name: d for each in [*DECLARED.values(), DVC] for name, d in each.items()}
    sections = {section: (study[section] or {}, DECLARED[section]) for section in DECLARED}
    sections["common"] = (study["common"], every)
    for kind, changes in study["changes"].items():
        for stage, values in changes.items():
            sections[f"changes.{kind}.{stage}"] = (values or {}, DECLARED[stage])
    return [
        (values, key, f"{section}.{key}", declared[key])
        for section, (values, declared) in sections.items()
        for key in values
    ]


def test_every_parameter_is_walked() -> None:
    names = {name for _, _, name, _ in places(PARAMS)}
    own = {f"{stage}.{key}" for stage in DECLARED for key in PARAMS[stage] or {}}
    assert names >= own | {f"common.{key}" for key in PARAMS["common"]} and len(names) > 130
    kinds = {str(kind) for each in DECLARED.values() for kind, _ in each.values()}
    assert kinds == {str(kind) for kind in [*BAD, *FORMS.values()]}, "every type has bad values"


@pytest.mark.parametrize("place", range(len(places(PARAMS))), ids=[p[2] for p in places(PARAMS)])
def test_a_value_of_another_kind_is_refused(place: int) -> None:
    study = deepcopy(PARAMS)
    holder, key, name, declared = places(study)[place]
    check_study(study, DECLARED)
    assert wrong(key, declared)
    for value in wrong(key, declared):
        if value is None and name in NULLABLE:
            continue
        holder[key] = value
        with pytest.raises(ValueError) as refused:
            check_study(study, DECLARED)
        text = str(refused.value)
        assert text.startswith(name) and "; expected " in text, (name, value, text)
    holder[key] = declared[1]
    check_study(study, DECLARED)


@pytest.mark.parametrize("stage", DECLARED)
def test_what_a_command_gives_is_checked_too(stage: str) -> None:
    for name, declared in DECLARED[stage].items():
        for value in wrong(name, declared)[:1] if name not in RUNNER else []:
            with pytest.raises(ValueError, match=rf"^{stage}\.{name}"):
                parameters(stage, {name: value})


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("train.steps", "5", "^train.steps is '5'; expected a whole number, 0 or more$"),
        ("train.lr", True, "^train.lr is True; expected a number, 0 or more$"),
        ("retrain.hours", "2", "^retrain.hours is '2'; expected a number, 0 or more or null$"),
        ("retrain.seeds", [0, 1.5], r"^retrain.seeds\[1\] is 1.5; expected a whole number$"),
        ("generate.guidance", INF, "^generate.guidance is inf; expected a finite number$"),
        ("train.unet.layers_per_block", NAN, "^train.unet.layers_per_block is nan; .*finite"),
        ("components.scheduler.beta_end", NAN, "^components.scheduler.beta_end is nan; .*finite"),
        ("changes.customized.unlearn.damping", -1, "^changes.customized.unlearn.damping is -1; "),
        ("unlearn.regions", {"a": [0, 0, "1", 1]}, r"^unlearn.regions.a\[2\] is '1'; .*a number"),
        ("systems.a", {"colour": "red"}, "^systems.a.colour is 'red'; .*'train_prompt'"),
        ("systems.a", {"kind": None}, "^systems.a.kind is None; expected a text"),
        ("systems.a", {}, r"unknown kind of system \(none\) of systems.a; expected some of"),
        ("train", 5, "^train is 5; expected a mapping"),
        ("systems", None, "^systems is None; expected a mapping"),
        ("systems", {}, "unknown system base; expected some of"),
        ("customize.sampler", {"step": 5}, "customize.sampler.step is 5; .*'steps'"),
        ("changes.customized.unlearn.dampening", 1, "unknown parameter of unlearn.ipynb dampening"),
        ("tune.colour", 1, "unknown parameter of tune.ipynb colour"),
        ("colours", {}, "unknown section colours"),
        ("prepare.keep", ..., "prepare lacks keep; expected all that notebooks/prepare.ipynb"),
        ("common.device", ..., "lacks device"),
        ("retrain", ..., "retrain lacks audit, bank, batch_size, draws"),
        ("systems.sd-v1.4", {"kind": "base"}, "systems has the name 'sd-v1.4'; expected letters"),
        ("systems.7", {"kind": "base"}, "systems has the name '7'; .*a letter among them"),
        ("systems.a cat", {"kind": "base"}, "systems has the name 'a cat'"),
    ],
)
def test_it_is_refused_before_anything_is_written(
    path: str, value: object, message: str, tmp_path: Path
) -> None:
    """Whatever stage runs; ``...``: the parameter is taken away."""
    params = root_with(tmp_path, ROOT / "params.yaml") / "params.yaml"
    tree, (*above, key) = deepcopy(PARAMS), path.split(".", 1 if "systems" in path else -1)
    node = tree
    for step in above:
        node = node[step]
    if value is ...:
        del node[key]
    else:
        node[key] = value
    YAML().dump(tree, params)
    with pytest.raises((KeyError, ValueError)) as refused:
        execute("components", {}, tmp_path)
    assert refused.match(message.replace("^", "^['\"]?"))
    assert not (tmp_path / "results").exists()


def test_numbers_that_are_meant() -> None:
    """A whole number for a number, a negative seed, null where the default is None."""
    for name, value, declared in (
        ("lr", 1, (float, 0.1)),
        ("seed", -3, (int, 0)),
        ("seeds", [-1], (list[int], [0])),
        ("guidance", -1.0, (float, 2.0)),
        ("hours", None, (float, None)),
        ("regions", {"a": "mask.png", "b": [0, 0, 0.5, 1]}, (FORMS["regions"], {})),
    ):
        check_value(name, value, declared)


def test_a_system_may_have_a_name_with_digits(tmp_path: Path) -> None:
    params = root_with(tmp_path, ROOT / "params.yaml") / "params.yaml"
    tree = deepcopy(PARAMS)
    panda = tree["systems"]["panda"]
    tree["systems"] = {"base": {"kind": "base"}, "imagenet-n014_0000": panda, "3d-faces": panda}
    YAML().dump(tree, params)
    for name in ("imagenet-n014_0000", "3d-faces"):
        system, values = parameters("cache", {"system": name}, tmp_path)
        assert system == values["system"] == name


def test_a_name_that_yaml_reads_as_a_number_is_refused(tmp_path: Path) -> None:
    params = root_with(tmp_path, ROOT / "params.yaml") / "params.yaml"
    text = params.read_text()
    for name, found in (("1e3", "1000.0"), ("7", "7"), ("true", "True")):
        params.write_text(text.replace("  panda:\n", f"  {name}: {{kind: base}}\n  panda:\n"))
        with pytest.raises(ValueError, match=f"systems has the name {found}; expected letters"):
            parameters("sources" if name == "7" else "cache", {}, tmp_path)
