"""The labelling page in a real browser: what people do there by mistake, and what they get back."""

import pytest

from lm.serve.items import Item, Pool, SamplingPlan
from lm.serve.labelling import Labelling
from lm.serve.labels import Labels
from tests.serve.browser import browsing
from tests.serve.served import listening, served, wait_until

pytestmark = pytest.mark.slow
MESSAGES = [{"role": "user", "content": "Name a colour."}]
ANSWERS = [f"Answer {number}: {'so it is. ' * 30}" for number in range(4)]
SAID = "order.map(({ text, tied, rating, said }) => ({ text, tied, rating, said }))"


@pytest.fixture(scope="module")
def toy():
    return served(start=False)  # nothing is asked of it


@pytest.fixture
def labels(tmp_path):
    return Labels(tmp_path)


@pytest.fixture
def page(toy, labels):
    """The page with the first of three items before ann."""
    pool = Pool(labels.folder, [], [], SamplingPlan())
    pool.items = {name: Item(name, MESSAGES, ANSWERS, ["toy"] * 4) for name in "abc"}
    with (
        listening(toy, extra=Labelling(labels, pool, 2).routes()) as address,
        browsing(address + "/label") as page,
    ):
        page.fill("#name", "ann")
        page.keyboard.press("Enter")
        shows(page, "a")
        yield page


def shows(page, name):
    page.wait_for_function(f"item === '{name}'")


def looked(page):
    """Waits until a press is of somebody who has seen what is there."""
    page.wait_for_function("performance.now() - since > SETTLING")


def judge(page):
    """Orders, ties, rates and answers a question; returns what is then there."""
    page.locator(".answer").nth(2).focus()
    for key in ("Shift+ArrowUp", "6", "t", "q", "Space"):
        page.keyboard.press(key)
    return page.evaluate(SAID)


def test_a_double_click_on_submit_records_no_item_that_nobody_looked_at(page, labels):
    page.locator(".answer").nth(1).focus()
    page.keyboard.press("Shift+ArrowUp")
    page.locator("#submit").dblclick(delay=20)
    shows(page, "b")
    page.click("#submit")  # at once, too
    page.click("#skip")
    assert page.evaluate("item") == "b" and [one["item"] for one in labels.records] == ["a"]


def test_an_order_that_nobody_touched_is_recorded_when_it_is_submitted_once_more(page, labels):
    looked(page)
    page.locator("#submit").dblclick(delay=20)
    page.get_by_text("submit it once more").wait_for()
    assert not labels.records
    looked(page)
    page.keyboard.press("Control+Enter")
    shows(page, "b")
    assert [one["item"] for one in labels.records] == ["a"]
    page.locator(".answer").nth(1).focus()
    page.keyboard.press("4")  # which is rated, and in no order yet
    page.locator("#submit").dblclick(delay=20)
    page.get_by_text("submit it once more").wait_for()
    assert len(labels.records) == 1
    page.locator(".answer").nth(1).focus()
    page.keyboard.press("t")
    page.keyboard.press("Control+Enter")
    shows(page, "c")


@pytest.mark.parametrize("width", [390, 1280])
def test_a_fault_is_told_where_it_is_seen_and_what_was_kept_is_never_skipped(page, labels, width):
    page.set_viewport_size({"width": width, "height": 600})
    page.locator(".answer").nth(1).focus()
    page.keyboard.press("t")
    page.route("**/labels/*", lambda route: (route.fetch(), route.abort()))  # the reply is lost
    page.click("#submit")
    page.wait_for_function("document.getElementById('fault').textContent")
    page.evaluate("scrollTo(0, 0)")
    box = page.locator("#fault").bounding_box()
    assert 0 < box["y"] < box["y"] + box["height"] < 600
    page.unroute("**/labels/*")
    page.click("#skip")
    shows(page, "b")
    assert [one["kind"] for one in labels.records] == ["ranking"]


def test_an_undo_gives_back_what_was_said_and_keeps_what_is_half_said_of_the_next(page, labels):
    first = judge(page)
    page.click("#tab-write")
    page.fill("#demonstration", "Green.")
    assert page.inner_text("#submit") == "Submit both"
    page.keyboard.press("Control+Enter")
    shows(page, "b")
    record = labels.records[-1]
    assert record["kind"] == "ranking" and record["answer"] == "Green."
    second = judge(page)
    page.click("#undo")
    shows(page, "a")
    assert page.evaluate(SAID) == first and page.input_value("#demonstration") == "Green."
    looked(page)
    page.keyboard.press("Control+Enter")
    shows(page, "b")
    assert page.evaluate(SAID) == second and page.input_value("#demonstration") == ""
    again = labels.records[-1]
    assert len(labels.records) == 3 and record | {"time": 0} == again | {"time": 0}


def test_a_draft_outlives_a_reload_and_a_look_at_the_name(page, labels):
    half = judge(page)
    page.reload()
    shows(page, "a")
    assert page.evaluate(SAID) == half
    page.click("#tab-write")
    page.fill("#demonstration", "Green.")
    page.click("#who")
    page.keyboard.press("Enter")
    page.wait_for_selector("#work:not([hidden])")
    assert page.evaluate(SAID) == half and page.input_value("#demonstration") == "Green."
    page.click("#who")
    page.fill("#name", "bob")  # of another labeler nothing is shown
    page.keyboard.press("Enter")
    page.wait_for_function("labeler === 'bob' && item")
    assert page.input_value("#demonstration") == "" and not page.evaluate("judged")


def test_an_answer_alone_is_recorded_as_a_demonstration(page, labels):
    page.click("#tab-write")
    looked(page)
    page.click("#submit")
    page.get_by_text("Nothing is written").wait_for()
    page.fill("#demonstration", "Green.")
    assert page.inner_text("#submit") == "Submit the answer"
    page.click("#submit")
    wait_until(lambda: labels.records)
    assert labels.records[0]["kind"] == "demonstration" and labels.records[0]["answer"] == "Green."


def test_the_text_of_an_answer_is_selected_by_a_mouse_and_the_order_stays(page):
    said = page.locator(".answer .said").first
    box, order = said.bounding_box(), page.evaluate(SAID)
    page.mouse.move(box["x"] + 2, box["y"] + 8)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 8, steps=5)
    page.mouse.up()
    selected = page.evaluate("getSelection().toString()")
    assert len(selected) > 5 and selected in said.inner_text()
    assert page.evaluate(SAID) == order
    cards = page.locator(".answer")  # the control: by its rank a card is dragged
    cards.nth(2).locator(".rank").drag_to(cards.nth(0))
    assert page.evaluate("order[0].text") == order[2]["text"]


def test_what_was_skipped_comes_again_in_the_end_and_the_page_says_so(page):
    for name in "bca":
        looked(page)
        page.keyboard.press("s")
        shows(page, name)
        said = page.inner_text("#note")
        assert ("You skipped this one before" in said) == (name == "a"), name
    assert page.inner_text("#progress") == "0 of 3, 3 skipped"


def test_tabs_and_cards_say_what_they_are(page):
    page.locator(".answer").nth(1).focus()
    page.keyboard.press("t")
    page.keyboard.press("5")
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label.startswith("rank 1, tied with the one above, quality 5: Answer")
    page.get_by_role("tab", name="Rank the answers").focus()
    for key, shown, name in (
        ("ArrowRight", "#write-pane", "Write one yourself"),
        ("ArrowRight", "#rank-pane", "Rank the answers"),
        ("End", "#write-pane", "Write one yourself"),
        ("Home", "#rank-pane", "Rank the answers"),
    ):
        page.keyboard.press(key)
        tab = page.get_by_role("tab", selected=True)
        assert tab.inner_text() == page.evaluate("document.activeElement.textContent") == name
        panel = page.get_by_role("tabpanel", name=name)
        assert panel.is_visible() and f"#{panel.get_attribute('id')}" == shown
        assert f"#{tab.get_attribute('aria-controls')}" == shown
    ways = page.evaluate("[...document.querySelectorAll('.said, textarea')].map(({ dir }) => dir)")
    assert set(ways) == {"auto"}
