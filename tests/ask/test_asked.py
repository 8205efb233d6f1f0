"""What is asked is refused in one line, before anything is loaded."""

from pathlib import Path

import pytest
from helpers import picture

from abu import ROOT
from abu.ask.__main__ import main
from abu.ask.asked import check_asked
from abu.ask.load import load_asker


@pytest.fixture
def file(tmp_path: Path) -> Path:
    picture(tmp_path / "a.png", "asked")
    return tmp_path / "a.png"


def test_a_prompt_serves_all_or_one_each(file: Path) -> None:
    assert check_asked([file, file], []) == [None, None]
    assert check_asked([file, file], ["x"]) == ["x", "x"]
    assert check_asked([file, file], ["x", ""]) == ["x", ""]
    with pytest.raises(ValueError, match="3 prompts for 2 pictures"):
        check_asked([file, file], ["x", "y", "z"])
    with pytest.raises(ValueError, match="2 prompts for 1 pictures"):
        check_asked([file], ["x", "y"])


def test_files_are_refused_by_name(file: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(ValueError, match="text.png is not a readable image"):
        check_asked([file, text], [])
    with pytest.raises(FileNotFoundError, match="gone.png is missing"):
        check_asked([file, tmp_path / "gone.png"], [])
    with pytest.raises(FileNotFoundError, match="is a folder"):
        check_asked([tmp_path], [])
    with pytest.raises(ValueError, match="no picture"):
        check_asked([], [])


@pytest.mark.parametrize("edges", ["0,0,2,1", "0.5,0,0.5,1", "0.2,0.4,0.4,0.3"])
def test_a_region_lies_within_the_picture(file: Path, edges: str) -> None:
    with pytest.raises(ValueError, match="within 0..1"):
        main([str(file), "--region", edges])


@pytest.mark.parametrize("words", [["--region", "0,0,1"], ["--region", "a,b,c,d"], ["--tap", "1"]])
def test_a_wrong_option_is_one_line(file: Path, words: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(file), *words])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1 and said.startswith("python -m abu.ask:")


def test_a_study_that_has_not_run_names_the_stage(file: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="params.yaml is missing"):
        main([str(file), "--study", str(tmp_path)])
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    with pytest.raises(
        FileNotFoundError, match="reads .*results/components/model.*, not there yet"
    ):
        main([str(file), "--study", str(tmp_path)])
    with pytest.raises(KeyError, match="no system 'pandas' in params.yaml.*'panda'"):
        load_asker("pandas", tmp_path)
    with pytest.raises(
        FileNotFoundError, match="results/customize/panda.* dvc repro unlearn@panda"
    ):
        load_asker("panda", tmp_path)
