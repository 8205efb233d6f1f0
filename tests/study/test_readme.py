"""README is a page whose links and numbers hold."""

import json
import re

import pandas as pd
import pytest
from helpers import ROOT

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FULL = ROOT / "results/full"


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


def test_numbers_are_those_recorded() -> None:
    judged = json.loads((FULL / "metrics.json").read_text())["k=4"]
    loss = lambda method, name="loss": f"{judged[method][name]:.3f}"
    table = pd.read_csv(FULL / "exemplars-summary.csv", index_col="group").loc["all"]
    mean = table.set_index("method").mAP.map("{:.2f}".format)
    abu = table.set_index("method").loc["abu"]
    text = " ".join(README.split())
    for said in (
        f"rise by {loss('abu')} ± {loss('abu', 'loss_se')}, without as many random ones by "
        f"{loss('random')} ± {loss('random', 'loss_se')}",
        f"p = {judged['random']['p']:.1e}",
        f"captions similarity ({loss('clip-text')})".replace("captions", "caption"),
        f"DAS ({loss('das')}), D-TRAK ({loss('d-trak')}), pixels ({loss('pixel')})",
        f"random removal ({loss('abu-linear')})",
        f"{mean['abu']} ({abu.low:.2f} to {abu.high:.2f}), DAS {mean['das']}, D-TRAK "
        f"{mean['d-trak']}, captions {mean['clip-text']}, chance {mean['chance']}",
        f"{int(abu.queries)} queries",
    ):
        assert said in text, said
    for method in ("clip-text", "das", "d-trak", "pixel"):
        assert judged[method]["p"] > 0.05, "not told apart"


def test_the_study_itself_says_what_its_judge_saw() -> None:
    text = (ROOT / "results/evaluate.ipynb").read_text()
    found = re.search(r"alone \(([\d.]+), random ([\d.]+)\)", README)
    assert found and found[1] in text and found[2] in text


def test_own_pictures_are_found_as_the_executed_notebook_says() -> None:
    notebook = json.loads((ROOT / "results/unlearn-base.ipynb").read_text())
    said = "".join(
        "".join(part)
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        for part in [output.get("data", {}).get("text/plain", output.get("text", ""))]
    )
    found = re.search(
        r"own pictures, (\d+)% stand in the top \(own \+ 1\); chance: ([\d.]+)%", said
    )
    assert found, said[-600:]
    assert f"**{found[1]} %** stand in its top" in README and f"puts {found[2]} %" in README
