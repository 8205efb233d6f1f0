"""The page that a reader opens: in headless Chromium, as it would be used."""

import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from studies import read

from abu import ROOT
from abu.baselines.registry import METHODS
from abu.core.quick import METHODS as QUICK
from abu.diffusion.noise import stream
from abu.report.links import BY_SYSTEM, STAGES, links
from abu.report.methods import METHODS_SAY
from abu.report.page import Answer, First, Measured, answers_of, boards_of, data_uri, page
from abu.study.declared import declarations

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZES = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 740}}
SHIFTS = """window.shifts = 0; new PerformanceObserver(list => list.getEntries().forEach(
    one => { window.shifts += one.value })).observe({ type: "layout-shift", buffered: true })"""


def picture(*key) -> np.ndarray:
    return stream("page", *key).random((3, 16, 16), np.float32)


def answers() -> list[Answer]:
    first = {
        "abu": [First(3, 0.5, True, 0.04), First(7, 0.25, False, 0.1)],
        "pixel": [First(7, -1.0, False), First(3, -2.0, True)],
    }
    again = {"without abu": picture("c")}
    judged = {"abu": Measured(0.5, -0.25, 0.75), "pixel": Measured(-0.1, -1.0, 0.2)}
    other = {"abu": [First(7, 0.1, False), First(3, 0.05, False)]}
    prompt = "skull </script><b>bold</b>"
    return [
        Answer("skull", "plain", prompt, picture("a"), first, again, judged),
        Answer("no caption", "uncaptioned", "", picture("b"), other),
    ]


IMAGES = {3: (picture(3), "a skull & bones"), 7: (picture(7), "robot")}
LINEAR = pd.DataFrame(
    [
        ("pixel", "all", 2, 0.125, -0.5, 0.5),
        ("abu", "all", 2, 0.5, 0.25, 0.75),
        ("pixel", "plain", 1, 0.75, 0.5, 1.0),
        ("abu", "plain", 1, 0.25, 0.0, 0.5),
    ],
    columns=["method", "kind", "queries", "lds", "low", "high"],
)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("results") / "report/index.html"
    path.parent.mkdir()
    boards = boards_of(LINEAR, {"all": 0.875})
    path.write_text(
        page("Which images?", "Read from results.", answers(), IMAGES, boards, links(["base"]))
    )
    return path


def test_every_method_is_said_in_a_line() -> None:
    declared = read(ROOT / "params.yaml")
    known = {*METHODS, *QUICK, "abu", "abu-plus", "abu-plus-gn"}
    assert METHODS_SAY.keys() == known | declared["tune"]["products"].keys()
    assert all(len(said) < 80 for said in METHODS_SAY.values())


def test_page_refuses_what_it_cannot_show() -> None:
    with pytest.raises(ValueError, match="no query"):
        page("", "", [], {})
    with pytest.raises(KeyError, match=r"answers name images \[3\]"):
        page("", "", answers(), {7: IMAGES[7]})
    with pytest.raises(ValueError):
        page("", "", [replace(answers()[0], judged={"abu": Measured(0, np.nan, 1)})], IMAGES)
    assert data_uri(picture("a")).startswith("data:image/webp;base64,")


def test_page_asks_for_no_other_file(written: Path) -> None:
    text = written.read_text()
    assert "http" not in text and "src=" not in text.split("<script type")[0] and "{{" not in text


def test_links_lead_to_every_stage_that_always_runs() -> None:
    notebooks = {path.stem: path for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert STAGES.keys() == notebooks.keys() - {"plan", "ablations"}
    by_system = {name for name in STAGES if "system" in declarations(notebooks[name])}
    assert by_system == set(BY_SYSTEM)
    for _, _, copies in links(list(read(ROOT / "params.yaml")["systems"])):
        for _, address in copies:
            assert (ROOT / "results/report" / address).resolve().is_file()


def test_answers_are_the_first_images_of_every_method() -> None:
    queries = pd.DataFrame({"query": [5, 2], "name": ["e", "b"], "kind": "k", "prompt": ["e", ""]})
    rows = [
        (m, q, i, sign * (i + q))
        for m, sign in (("up", 1.0), ("down", -1.0))
        for q in (2, 5)
        for i in (10, 30, 20)
    ]
    scores, pictures = (
        pd.DataFrame(rows, columns=["method", "query", "image_id", "score"]),
        np.stack([picture("e"), picture("b")]),
    )
    errors = {"up": pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], [5, 2], [30, 10])}
    judged = {2: {"up": Measured(0.5, 0.0, 1.0)}}
    given = scores.groupby("method"), {2: {30}}, 2, {"after": pictures[::-1]}, errors, judged
    found = answers_of(queries, pictures, *given)
    assert [answer.name for answer in found] == ["e", "b"] and np.array_equal(
        found[1].picture, picture("b")
    )
    assert found[0].answers == {
        "up": [(30, 35.0, False, 1.0), (20, 25.0, False, None)],
        "down": [(10, -15.0, False, None), (20, -25.0, False, None)],
    }
    assert found[1].answers["up"] == [(30, 32.0, True, 3.0), (20, 22.0, False, None)]
    assert np.array_equal(found[0].after["after"], picture("b"))
    assert [answer.judged for answer in found] == [{}, judged[2]]


def test_leaderboards_have_the_best_first() -> None:
    every, plain = boards_of(LINEAR, {"all": 0.875})
    assert every["rows"] == [["abu", [0.5, 0.25, 0.75]], ["pixel", [0.12, -0.5, 0.5]]]
    assert (every["kind"], every["queries"], every["ceiling"]) == ("all", 2, 0.88)
    assert [name for name, _ in plain["rows"]] == ["pixel", "abu"] and plain["ceiling"] is None


@pytest.fixture(params=product(SIZES, ("light", "dark")), ids="-".join)
def opened(request, written: Path):
    """The page in Chromium, and what its console said."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    size, scheme = request.param
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        tab = browser.new_page(viewport=SIZES[size], color_scheme=scheme)
        said: list[str] = []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on(
            "request",
            lambda asked: (
                said.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None
            ),
        )
        tab.add_init_script(SHIFTS)
        tab.goto(written.as_uri())
        yield tab, said
        browser.close()


def texts(tab, selector: str) -> list[str]:
    return tab.eval_on_selector_all(selector, "all => all.map(one => one.textContent)")


def sources(tab, selector: str) -> list[str]:
    return tab.eval_on_selector_all(f"{selector} img", "all => all.map(one => one.src)")


def test_choosing_a_picture_changes_the_answers(opened) -> None:
    tab, said = opened
    assert sources(tab, "#picker") == [data_uri(picture(name)) for name in "ab"]
    assert texts(tab, "#picker legend") == ["plain", "uncaptioned"]
    assert tab.inner_text("#name") == "skull"
    assert tab.inner_text("#prompt") == "Prompt: skull </script><b>bold</b>"
    assert tab.get_attribute("#picture", "src") == data_uri(picture("a"))
    assert sources(tab, "#methods") == [data_uri(IMAGES[i][0]) for i in (3, 7, 7, 3)]
    right = texts(tab, "#methods li.right figcaption")
    assert right == ["0.5 ± 0.04a skull & bones", "-2a skull & bones"]
    headings = ["abu  0.50 (−0.25 to 0.75)", "pixel  −0.10 (−1.00 to 0.20)"]
    assert texts(tab, "#methods h3") == headings
    assert texts(tab, "#methods p") == [METHODS_SAY[name] for name in ("abu", "pixel")]
    assert sources(tab, "#after") == [data_uri(picture("c"))]
    tab.click("#picker label:has([alt='no caption'])")
    assert tab.get_attribute("#picture", "src") == data_uri(picture("b"))
    assert tab.inner_text("#prompt") == "No prompt." and texts(tab, "#methods h3") == ["abu "]
    assert sources(tab, "#methods") == [data_uri(IMAGES[i][0]) for i in (7, 3)]
    assert not sources(tab, "#after") and "No model" in tab.inner_text("#after")
    assert tab.evaluate(
        "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
    ), "every picture is decoded"
    tab.click("#next")
    assert tab.inner_text("#name") == "skull" and said == []


def test_leaderboards_change_by_kind(opened) -> None:
    tab, said = opened
    assert texts(tab, "#board tbody th") == ["abu", "pixel"]
    assert texts(tab, "#board tbody tr:last-child td") == ["0.12", "−0.50 to 0.50", ""]
    assert tab.inner_text("#board-says") == "2 pictures (all); ceiling 0.88"
    middle = "one => { const box = one.getBoundingClientRect(); return box.left + box.width / 2 }"
    zero, ceiling = (
        tab.eval_on_selector(f"#board {part}", middle) for part in (".score", ".score i")
    )
    assert zero < ceiling
    tab.click("#kinds label:has-text('plain')")
    assert texts(tab, "#board tbody th") == ["pixel", "abu"]
    assert tab.inner_text("#board-says") == "1 picture (plain)" and said == []


def test_links_lead_to_notebooks(opened, written: Path) -> None:
    tab, _ = opened
    addresses = tab.eval_on_selector_all("#notebooks a", "all => all.map(one => one.href)")
    folder = written.parents[1]
    assert folder.joinpath("compare-base.ipynb").as_uri() in addresses
    assert folder.joinpath("report.ipynb").as_uri() == addresses[-1]


def test_keyboard_alone_is_enough(opened) -> None:
    tab, said = opened
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.name") == "query"
    tab.keyboard.press("ArrowRight")
    assert tab.inner_text("#name") == "no caption", "the arrows choose among all kinds"
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "previous"
    assert tab.inner_text("#name") == "skull"
    tab.keyboard.press("ArrowLeft")
    assert tab.inner_text("#name") == "no caption", "the arrows go round"
    tab.keyboard.press("ArrowRight")
    assert tab.inner_text("#name") == "skull" and tab.url.endswith("#0")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Tab")
    tab.keyboard.press("ArrowRight")
    assert texts(tab, "#board tbody th") == ["pixel", "abu"] and said == []


def test_page_fits_its_window(opened) -> None:
    tab, _ = opened
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (
        "nothing sticks out sideways"
    )
    small = tab.eval_on_selector_all(
        "figcaption, p, legend, td, th, dd",
        "all => Math.min(...all.map(one => parseFloat(getComputedStyle(one).fontSize)))",
    )
    boxes = tab.eval_on_selector_all(
        "label, button", "all => Math.min(...all.map(one => one.getBoundingClientRect().height))"
    )
    assert small >= 12 and boxes >= 44, "letters can be read and buttons hit"
    assert tab.eval_on_selector_all("img", "all => all.every(one => one.alt)")


def test_nothing_moves_while_it_opens_or_another_is_chosen(opened) -> None:
    tab, _ = opened
    place = "['#answers', '#board'].map(id => document.querySelector(id).offsetTop)"
    before = tab.evaluate(place)[0]
    tab.keyboard.press("ArrowRight")
    tab.wait_for_timeout(200)
    assert tab.evaluate(place)[0] == before and tab.evaluate("window.shifts") == 0


def test_axe_finds_nothing(opened) -> None:
    """Contrast, names, roles and all else that axe-core looks at."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(opened[0])
    assert not found.response["violations"], found.generate_report()
    assert not [one for one in found.response["incomplete"] if one["id"] == "color-contrast"]
