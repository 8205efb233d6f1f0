"""The tiny study is asked about pictures."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import picture
from PIL import Image
from ruamel.yaml import YAML

from abu import ROOT
from abu.ask.__main__ import main
from abu.ask.asker import Asker, Reply
from abu.ask.load import load_asker

COLUMNS = ["rank", "id", "score", "standard_error", "caption", "file"]


@pytest.fixture(scope="module")
def asker(tiny: Path) -> Asker:
    return load_asker(root=tiny)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        picture(folder / f"{number}.png", "ask", number)
    return [folder / f"{number}.png" for number in range(3)]


def same(one: Reply, other: Reply) -> bool:
    return one.table.equals(other.table) and (one.nothing, one.why) == (other.nothing, other.why)


@pytest.mark.parametrize("exact", [False, True])
def test_a_picture_has_the_same_reply_in_any_company(asker: Asker, files, exact: bool) -> None:
    prompts = ["skull", "ghost", "alien"]
    together = asker.ask(files, prompts, exact=exact, top=4)
    turned = asker.ask(files[::-1], prompts[::-1], exact=exact, top=4)[::-1]
    for number, (file, prompt) in enumerate(zip(files, prompts)):
        (alone,) = asker.ask([file], [prompt], exact=exact, top=4)
        assert same(alone, together[number]) and same(alone, turned[number])
        assert list(alone.table) == COLUMNS and len(alone.table) == 4
        assert alone.table.score.is_monotonic_decreasing
        assert np.isfinite(alone.table.score).all() and (alone.table.standard_error > 0).all()
        assert set(alone.table.id) <= set(asker.system.images.ids)


def test_what_is_asked_is_what_is_answered(asker: Asker, files) -> None:
    whole, other, prompted = (
        asker.ask(*asked)[0] for asked in ((files[:1],), (files[1:2],), (files[:1], ["skull"]))
    )
    part, exact = (
        asker.ask(files[:1], region=[0, 0, 0.5, 1])[0],
        asker.ask(files[:1], exact=True)[0],
    )
    replies = (whole, other, prompted, part, exact)
    scores = [tuple(reply.table.score) for reply in replies]
    assert len(set(scores)) == len(replies)
    assert (whole.nothing, whole.why) == (part.nothing, part.why)
    with pytest.raises(ValueError, match="top is 0"):
        asker.ask(files, top=0)


def test_a_copy_in_another_format_is_the_same_picture(asker: Asker, files, tmp_path: Path) -> None:
    upright = Image.open(files[0]).convert("RGB")
    upright.convert("RGBA").save(tmp_path / "clear.png")
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # as a camera held sideways says
    turned.save(tmp_path / "turned.png", exif=exif)
    replies = asker.ask([files[0], tmp_path / "clear.png", tmp_path / "turned.png"])
    assert same(replies[0], replies[1]) and same(replies[0], replies[2])


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "CMYK"])
def test_odd_pictures_are_taken_as_prepare_takes_them(asker: Asker, tmp_path, mode: str) -> None:
    values = (torch.rand(50, 90, generator=torch.Generator().manual_seed(0)) * 65535).numpy()
    deep = Image.fromarray(values.astype(np.uint16))
    odd = deep if mode == "I;16" else Image.fromarray((values / 257).astype(np.uint8)).convert(mode)
    file = tmp_path / ("odd.tif" if mode == "CMYK" else "odd.png")
    odd.save(file)
    (reply,) = asker.ask([file])
    assert reply.question.pixels.shape == (3, 64, 64)


def test_the_command_prints_draws_and_writes(tiny: Path, files, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(files[0].parent)  # pictures are named from where one stands
    words = ["0.png", "1.png", "--prompt", "skull", "--top", "3", "--study", str(tiny)]
    main([*words, "--json", "-", "--strip", str(tmp_path / "strip.png")])
    said = json.loads(capsys.readouterr().out)
    assert [reply["picture"] for reply in said["replies"]] == ["0.png", "1.png"]
    assert [image["rank"] for image in said["replies"][1]["images"]] == [1, 2, 3]
    assert set(said["replies"][0]["images"][0]) == set(COLUMNS)
    assert Image.open(tmp_path / "strip.png").size > (300, 100)
    main([*words, "--json", str(tmp_path / "said.json")])
    text = capsys.readouterr().out
    assert json.loads((tmp_path / "said.json").read_text()) == said
    assert text.count("0.png, 'skull'") == 1 and "said.json" in text.splitlines()[-1]
    assert text.lower().count("stands out: ") + text.count("stand out: ") == 2


def test_refusals_end_with_two(files, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "abu.ask", str(files[0]), str(tmp_path / "gone.png")]
    done = subprocess.run(command, cwd=ROOT / "src", capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == f"{tmp_path / 'gone.png'} is missing; expected a picture\n"


def test_a_prompt_is_guessed_among_the_captions(asker: Asker, files) -> None:
    captions = set(asker.system.table.caption)
    guessed = asker.ask(files, guess=True)
    assert {reply.question.prompt for reply in guessed} <= captions
    for file, reply in zip(files, guessed):
        plain, alone = asker.ask([file])[0], asker.ask([file], guess=True)[0]
        assert same(reply, alone) and not reply.table.equals(plain.table)
        assert (reply.nothing, reply.why) == (plain.nothing, plain.why)
    given = asker.ask(files[:1], ["skull"], guess=True)[0]
    assert same(given, asker.ask(files[:1], ["skull"])[0]) and not given.question.guessed


def test_without_a_store_only_the_finite_step_answers(tiny: Path, files) -> None:
    asker = load_asker("panda", tiny)
    with pytest.raises(ValueError, match="results/cache/panda has no store .no customized"):
        asker.ask(files[:1])
    (reply,) = asker.ask(files[:1], ["<new1> cat"], exact=True, top=5)
    assert len(reply.table) == 5 and (reply.table.standard_error > 0).all()


def test_a_cache_of_another_seed_is_refused(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "results").symlink_to(tiny / "results")
    shutil.copy(tiny / "params.yaml", tmp_path)
    yaml = YAML()
    study = yaml.load(tmp_path / "params.yaml")
    study["common"]["seed"] = 7
    yaml.dump(study, tmp_path / "params.yaml")
    with pytest.raises(ValueError, match="seed is 0; expected 7"):
        load_asker(root=tmp_path)
