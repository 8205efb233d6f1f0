"""README is a page whose links and numbers hold."""

import json
import re

import pandas as pd
import pytest
import tables
from helpers import ROOT

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = {  # how README calls methods
    "quick AbU on all weights": "abu-whole",
    "AbU": "abu",
    "D-TRAK": "d-trak",
    "DAS": "das",
    "captions": "clip-text",
    "latents by ridge": "latent-ridge",
    "random": "random",
}


def test_it_is_a_page() -> None:
    assert len(README.encode()) <= 8192
    assert max(map(len, README.splitlines())) <= 120


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_links_lead_somewhere(page) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda path: path.stem)
def test_longer_reading_says_for_whom(page) -> None:
    title, _, first = page.read_text().split("\n", 3)[:3]
    assert title.startswith("# ") and first.startswith("For who")
    assert f"docs/{page.name}" in README


def test_numbers_are_those_of_the_judge() -> None:
    judged = json.loads((ROOT / "results/evaluate/metrics.json").read_text())
    hit = json.loads((ROOT / "results/train/metrics.json").read_text())["hit"]
    text = " ".join(README.split())
    assert f"{judged['queries']} queries and {judged['pairs']} pairs of halves" in text
    assert f"({hit['mean']:.0%} of the time" in text.replace(" %", "%")
    for name, method in NAMES.items():
        one = judged["lds"][method]
        said = f"{name} {one['mean']:.2f} ({one['low']:.2f} to {one['high']:.2f})"
        assert said.replace("-", "−") in text.replace("-", "−"), said


@pytest.mark.parametrize("page", tables.PAGES)
def test_what_stands_between_marks_is_what_is_recorded(page: str) -> None:
    text, values = (ROOT / page).read_text(), tables.parts()
    marks = re.findall(r"<!-- (\w+) -->", text)
    assert marks and set(marks) <= values.keys()
    assert tables.filled(text, values) == text, "python scripts/tables.py renews it"
    (name,) = marks[:1]
    assert "another" in tables.filled(text, {name: "another"})


def test_the_figure_of_worth_shows_what_the_judge_says() -> None:
    judged = pd.read_csv(ROOT / "results/evaluate/lds.csv").query("kind == 'all'")
    shown = pd.read_csv(ROOT / "benchmarks/worth.csv").set_index("method")
    assert (shown.seconds >= 0).all()
    fewer = shown.index.str.endswith("timesteps")
    assert (shown[fewer].seconds < shown.seconds["abu"]).all() and fewer.sum() == 1
    shown = shown[~fewer]
    assert set(shown.index) == set(judged.method)
    for column in ("lds", "low", "high"):
        values = judged.set_index("method")[column].round(4)
        assert values.to_dict() == pytest.approx(shown[column].to_dict())


def test_own_pictures_are_found_as_the_executed_notebook_says() -> None:
    notebook = json.loads((ROOT / "results/unlearn-base.ipynb").read_text())
    said = "".join(
        "".join(part)
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        for part in [output.get("data", {}).get("text/plain", output.get("text", ""))]
    )
    found = re.search(
        r"own pictures, (\d+)% stand among as many first images and one more; "
        r"chance: ([\d.]+)%",
        said,
    )
    assert found, said[-600:]
    text = " ".join(README.split())
    assert f"**{found[1]} %** stand among as many" in text and f"by chance {found[2]} %" in text
