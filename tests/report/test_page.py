"""The page that a reader opens: in headless Chromium, as it would be used."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from abu.diffusion.noise import stream
from abu.report.page import Answer, answers_of, data_uri, page

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


def picture(*key) -> np.ndarray:
    return stream("page", *key).random((3, 16, 16), np.float32)


def answers() -> list[Answer]:
    first = {
        "abu": [(3, 0.5, True), (7, 0.25, False)],
        "pixel": [(7, -1.0, False), (3, -2.0, True)],
    }
    return [
        Answer(
            "skull",
            "plain",
            "skull </script><b>bold</b>",
            picture("a"),
            first,
            {"without abu": picture("c")},
        ),
        Answer(
            "no caption",
            "uncaptioned",
            "",
            picture("b"),
            {"abu": [(7, 0.1, False), (3, 0.05, False)]},
        ),
    ]


IMAGES = {3: (picture(3), "a skull & bones"), 7: (picture(7), "robot")}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(page("Which images?", "Read from results.", answers(), IMAGES))
    return path


def test_page_refuses_what_it_cannot_show() -> None:
    with pytest.raises(ValueError, match="no query"):
        page("", "", [], {})
    with pytest.raises(KeyError, match=r"answers name images \[3\]"):
        page("", "", answers(), {7: IMAGES[7]})
    assert data_uri(picture("a")).startswith("data:image/webp;base64,")


def test_page_asks_for_no_other_file(written: Path) -> None:
    text = written.read_text()
    assert "http" not in text and "src=" not in text.split("<script type")[0] and "{{" not in text


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
    found = answers_of(
        queries, pictures, scores.groupby("method"), {2: {30}}, 2, {"after": pictures[::-1]}
    )
    assert [answer.name for answer in found] == ["e", "b"] and np.array_equal(
        found[1].picture, picture("b")
    )
    assert found[0].answers == {
        "up": [(30, 35.0, False), (20, 25.0, False)],
        "down": [(10, -15.0, False), (20, -25.0, False)],
    }
    assert found[1].answers["up"] == [(30, 32.0, True), (20, 22.0, False)] and np.array_equal(
        found[0].after["after"], picture("b")
    )


@pytest.fixture(params=[(1280, 800), (360, 740)], ids=["desk", "phone"])
def opened(request, written: Path):
    """The page in Chromium, and what its console said."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        tab = browser.new_page(viewport=dict(zip(("width", "height"), request.param)))
        said: list[str] = []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on(
            "request",
            lambda asked: (
                said.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None
            ),
        )
        tab.goto(written.as_uri())
        yield tab, said
        browser.close()


def sources(tab) -> list[str]:
    return tab.eval_on_selector_all("#answers img", "images => images.map(image => image.src)")


def test_choosing_a_query_changes_the_pictures(opened) -> None:
    tab, said = opened
    assert (
        tab.inner_text("#name") == "skull"
        and tab.inner_text("#prompt") == "Prompt: skull </script><b>bold</b>"
    )
    assert tab.get_attribute("#picture", "src") == data_uri(picture("a"))
    assert sources(tab) == [data_uri(IMAGES[i][0]) for i in (3, 7, 7, 3)]
    assert tab.eval_on_selector_all(
        "#answers li.right figcaption", "all => all.map(one => one.textContent)"
    ) == ["0.5 a skull & bones", "-2 a skull & bones"]
    assert tab.is_visible("#after img")
    tab.select_option("#query", label="no caption")
    assert (
        tab.get_attribute("#picture", "src") == data_uri(picture("b"))
        and tab.inner_text("#prompt") == "No prompt."
    )
    assert sources(tab) == [data_uri(IMAGES[i][0]) for i in (7, 3)] and not tab.is_visible("#after")
    assert tab.evaluate(
        "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
    ), "every picture is decoded"
    assert said == []


def test_keyboard_alone_is_enough(opened) -> None:
    tab, said = opened
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "query"
    tab.keyboard.press("ArrowDown")
    assert tab.inner_text("#name") == "no caption"
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    assert (
        tab.evaluate("document.activeElement.id") == "previous"
        and tab.inner_text("#name") == "skull"
    )
    tab.keyboard.press("ArrowLeft")
    assert tab.inner_text("#name") == "no caption", "the arrows go round"
    tab.keyboard.press("ArrowRight")
    assert tab.inner_text("#name") == "skull" and tab.url.endswith("#0") and said == []


def test_page_fits_its_window(opened) -> None:
    tab, _ = opened
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (
        "nothing sticks out sideways"
    )
    small = tab.eval_on_selector_all(
        "figcaption, p, select",
        "all => Math.min(...all.map(one => parseFloat(getComputedStyle(one).fontSize)))",
    )
    boxes = tab.eval_on_selector_all(
        "select, button", "all => Math.min(...all.map(one => one.getBoundingClientRect().height))"
    )
    assert small >= 12 and boxes >= 44, "letters can be read and buttons hit"
    assert tab.eval_on_selector_all("img", "all => all.every(one => one.alt)")
