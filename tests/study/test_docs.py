"""Glossary, changelog, citation and licences say what there is."""

import re
import tomllib

from helpers import ROOT

from abu.study.folders import read_yaml

page = lambda name: (ROOT / "docs" / f"{name}.md").read_text()
WORDS = """query candidate score grid removal bank stage task engine system preset half pair ceiling
chance LDS rise damping store cotangent sharpening leave-K-out floor hit"""


def test_the_glossary_is_in_order_and_has_a_line_a_word() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", page("glossary"), re.MULTILINE)[1:]
    words = [word for word, _ in rows if word != "---"]
    assert words == sorted(set(words), key=str.lower)
    assert {*WORDS.split(), "Fisher information", "tuning query"} <= set(words)
    assert all(len(f"| {word} | {means} |") <= 122 for word, means in rows)


def test_it_is_cited_as_it_is() -> None:
    cited = read_yaml(ROOT / "CITATION.cff")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cited["cff-version"] == "1.2.0" and {"message", "title", "authors"} <= cited.keys()
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert (ROOT / "README.md").read_text().startswith(f"# {cited['title']}\n")
    assert cited["authors"][0]["name"] in (ROOT / "LICENSE").read_text()
    (paper,) = cited["references"]
    assert paper["url"].endswith("2406.09408") and paper["year"] == 2024
    assert project["version"] in page("changelog")


def test_every_source_of_pictures_has_its_licence() -> None:
    script = (ROOT / "scripts/emoji.py").read_text()
    packages = re.findall(r'\("(@?[\w/-]+)@([\d.]+)", "package', script)
    assert len(packages) == 4
    for name, version in packages:
        row = next(line for line in page("data").splitlines() if f"| {name} {version} |" in line)
        licence = row.split("|")[3].strip(" *")
        assert licence in ("Apache 2.0", "CC BY 4.0", "MIT")
        told = (ROOT / "data/LICENCES.md").read_text()
        assert f"{name} {version}" in told
        assert licence.replace("Apache 2.0", "Apache License 2.0") in told
