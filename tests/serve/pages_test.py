"""The pages in a real browser."""

import time

import pytest

from lm.serve.items import Item, Pool, SamplingPlan
from lm.serve.labelling import Labelling
from lm.serve.labels import Labels
from tests.serve.browser import browsing, reloaded, settled, spoken
from tests.serve.served import listening, served, wait_until

pytestmark = pytest.mark.slow
MARKUP = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>"


@pytest.fixture(scope="module")
def toy():
    one = served(length=400, slots=2)
    yield one
    one.engine.close(drain=False)


def items():
    messages = [
        {"role": "user", "content": "Name a colour. " + MARKUP},
        {"role": "assistant", "content": "Blue."},
        {"role": "user", "content": "And another one, please."},
    ]
    answers = ["Green is another colour.", "Perhaps red?", MARKUP, "No."]
    return {n: Item(n, messages, answers, list("wxyz")) for n in ("first", "second")}


@pytest.fixture
def labelled(toy, tmp_path):
    pool = Pool(tmp_path, [], [], SamplingPlan())
    pool.items = items()
    labels = Labels(tmp_path)
    with listening(toy, extra=Labelling(labels, pool, 2).routes()) as address:
        yield address, labels


def said(page):
    return [turn.inner_text() for turn in page.locator(".turn .said").all()]


def test_a_chat_in_the_browser(labelled, tmp_path):
    address, _ = labelled
    with browsing(address) as page:
        page.click("#gear")
        page.fill("#max_tokens", "12")
        page.fill("#system", "Be kind.")
        page.click("#gear")
        page.fill("#text", MARKUP)
        page.keyboard.press("Enter")
        page.wait_for_function("document.querySelectorAll('.turn').length === 2")
        settled(page)
        page.fill("#text", "second")
        page.keyboard.press("Enter")
        page.wait_for_function("document.querySelectorAll('.turn').length === 4")
        settled(page)
        assert said(page)[0] == MARKUP and said(page)[2] == "second"
        assert page.title() == "lm · chat" and not page.locator(".said img, .said b").count()

        page.locator(".turn").nth(3).get_by_text("Regenerate").click()
        settled(page)
        assert len(said(page)) == 4
        page.locator(".turn").nth(0).hover()
        page.locator(".turn").nth(0).get_by_text("Edit").click()
        page.get_by_label("Change this turn").fill("changed")
        page.keyboard.press("Enter")
        page.wait_for_function("document.querySelectorAll('.turn').length === 2")
        settled(page)
        assert said(page)[0] == "changed"

        page.click("#new")
        page.fill("#text", "another conversation")
        page.keyboard.press("Enter")
        settled(page)
        assert page.locator(".entry").count() == 2
        reloaded(page)  # kept in the browser
        assert page.locator(".entry").count() == 2 and said(page)[0] == "another conversation"
        page.locator(".entry .name").nth(1).click()
        assert said(page)[0] == "changed" and page.input_value("#system") == "Be kind."


def test_an_answer_can_be_stopped(labelled, toy, monkeypatch):
    address, _ = labelled
    step, before = toy.engine._step, toy.engine.tokens

    def slow():
        time.sleep(0.05)  # 350 tokens would take longer than all that the browser does
        return step()

    monkeypatch.setattr(toy.engine, "_step", slow)
    with browsing(address) as page:
        page.click("#gear")
        page.fill("#max_tokens", "350")
        page.fill("#temperature", "0")  # the likeliest token of this model is never the end
        page.fill("#text", "x")
        page.press("#text", "Enter")
        page.wait_for_function("document.querySelector('.assistant .said')?.textContent.length > 3")
        page.click("#stop")
        settled(page)
        wait_until(lambda: toy.engine.busy == 0)
        assert toy.engine.tokens - before < 300
        assert page.locator(".turn").count() == 2


def test_answers_of_a_chat_are_ranked_where_they_were_drawn(labelled):
    address, labels = labelled
    answered = []
    with browsing(address) as page:
        page.on("requestfinished", lambda one: answered.append(one) if "/v1/chat" in one.url else 0)
        page.click("#gear")
        page.fill("#max_tokens", "12")
        page.click("#gear")
        page.fill("#text", "Name a colour.")
        page.keyboard.press("Enter")
        settled(page)
        rank = page.locator(".turn").last.get_by_text("Rank")

        def answer():  # as it is, with whatever an untrained model writes
            return page.locator(".turn .said").last.text_content()

        def stopped():  # rather than cut off at the limit
            return '"finish_reason": "stop"' in answered[-1].response().text()

        drawn, ended = [answer()], [stopped()]
        assert rank.count() == 0  # there is but one
        while len(drawn) < 3:
            page.locator(".turn").last.get_by_text("Regenerate").click()
            settled(page)
            if answer() not in drawn:
                drawn.append(answer())
                ended.append(stopped())
        reloaded(page)  # they are kept with the conversation
        rank.click()
        assert page.evaluate("document.activeElement.textContent").startswith("1")
        page.keyboard.press("Shift+ArrowDown")  # the first answer becomes the second
        page.keyboard.press("ArrowDown")
        page.keyboard.press("t")
        page.keyboard.press("Control+Enter")
        page.get_by_text("labeler must be").wait_for()
        assert not labels.records
        page.get_by_label("Your name").fill("ann")
        page.keyboard.press("Enter")
        page.get_by_text("Ranked").wait_for()
        (record,) = labels.records
        assert record["answers"] == drawn and record["ranks"] == [2, 1, 2]
        assert record["ended"] == ended
        assert record["messages"] == [{"role": "user", "content": "Name a colour."}]
        assert record["labeler"] == "ann" and record["sources"] == ["toy"] * 3
        assert answer() == drawn[1]  # it goes on with the best
        page.click("#gear")
        page.fill("#system", "Be kind.")
        assert rank.count() == 0  # those were answers to something else
        page.goto(address + "/label")
        page.wait_for_selector(".answer")  # by the same name
        assert page.inner_text("#who") == "ann"


def test_a_conversation_of_the_chat_is_edited_written_and_kept_as_demonstrations(labelled):
    address, labels = labelled
    with browsing(address) as page:
        keep = page.get_by_role("button", name="Keep as demonstration")
        last = page.locator(".turn").last

        def write(text):
            page.get_by_label("Change this turn").fill(text)
            page.keyboard.press("Enter")

        page.click("#gear")
        page.fill("#system", "Be kind.")
        page.fill("#max_tokens", "12")
        page.click("#gear")
        page.fill("#text", "Name a colour.")
        page.keyboard.press("Enter")  # the answer is drawn, and then edited
        settled(page)
        last.get_by_text("Edit").click()
        write("Blue. " + MARKUP)
        page.fill("#text", "Another.")
        page.click("#write")  # and here it is written
        assert keep.count() == 1
        write("Green.")
        assert said(page) == ["Name a colour.", "Blue. " + MARKUP, "Another.", "Green."]
        assert keep.count() == 2

        keep.last.click()
        page.get_by_label("Your name").fill("Ann Smith")
        page.keyboard.press("Enter")
        page.get_by_text("labeler must be").wait_for()
        assert not labels.records
        page.get_by_label("Your name").fill("ann")
        page.keyboard.press("Enter")
        last.get_by_text("Kept as demonstration").wait_for()
        messages = [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Name a colour."},
            {"role": "assistant", "content": "Blue. " + MARKUP},
            {"role": "user", "content": "Another."},
        ]
        (record,) = labels.records
        assert record["messages"] == messages and record["answer"] == "Green."
        assert record["kind"] == "demonstration" and record["labeler"] == "ann"

        reloaded(page)  # that it was kept is kept with the conversation
        last.get_by_text("Kept as demonstration").wait_for()
        page.locator(".turn").nth(1).get_by_text("Edit").click()
        write("Red.")  # and what follows is no longer what was kept
        assert not page.locator(".turn", has_text="Kept").count()
        keep.last.click()
        page.keyboard.press("Enter")  # by the same name
        last.get_by_text("Kept in place of the earlier one").wait_for()
        (kept,) = labels.current().values()
        assert kept["messages"][2]["content"] == "Red." and kept["answer"] == "Green."


def saying(page, text, reason):
    """The next answers are this."""
    page.unroute("**/v1/chat/completions")
    page.route("**/v1/chat/completions", lambda route: route.fulfill(**spoken(text, reason)))


def test_an_answer_that_was_cut_off_is_no_demonstration_until_somebody_has_edited_it(labelled):
    address, _ = labelled
    with browsing(address) as page:
        keep = page.get_by_role("button", name="Keep as demonstration")
        for turns, text, reason in ((2, "Once upon a", "length"), (4, "The end.", "stop")):
            saying(page, text, reason)
            page.fill("#text", "Go on.")
            page.keyboard.press("Enter")
            page.wait_for_function(f"document.querySelectorAll('.turn').length === {turns}")
            settled(page)
        reloaded(page)  # that it was is kept with the conversation
        assert keep.count() == 2
        assert keep.first.is_disabled() and keep.last.is_disabled()  # which is behind it
        assert "cut off: edit" in keep.first.get_attribute("title")
        page.locator(".turn").nth(1).get_by_text("Edit").click()
        page.get_by_label("Change this turn").fill("Once upon a time.")
        page.keyboard.press("Enter")
        assert keep.first.is_enabled() and keep.last.is_enabled()


def test_a_tenth_answer_to_a_message_makes_no_other_item_of_it(labelled):
    address, _ = labelled
    with browsing(address) as page:
        page.wait_for_function("labelled")
        for number in range(11):
            saying(page, f"answer {number}", "stop")
            if number:
                page.locator(".turn").last.get_by_text("Regenerate").click()
            else:
                page.fill("#text", "Name a colour.")
                page.keyboard.press("Enter")
            page.get_by_text(f"answer {number}", exact=True).first.wait_for()
            settled(page)
        drawn = page.evaluate("open.turns[1].answers.map(({ content }) => content)")
        assert drawn == [f"answer {number}" for number in (0, *range(3, 11))]


def test_a_server_without_labels_offers_none_in_the_chat(toy):
    with listening(toy) as address, browsing(address) as page:
        page.click("#gear")
        page.fill("#max_tokens", "12")
        page.fill("#text", "x")
        page.press("#text", "Enter")
        settled(page)
        for text in ("Red.", "Blue."):  # two answers could be ranked
            saying(page, text, "stop")
            page.locator(".turn").last.get_by_text("Regenerate").click()
            page.get_by_text(text, exact=True).first.wait_for()
            settled(page)
        assert page.evaluate("open.turns[1].answers.length") >= 2
        assert not page.get_by_role("button", name="Rank").count()
        page.locator(".turn").last.get_by_text("Edit").click()
        page.get_by_label("Change this turn").fill("Green.")
        page.keyboard.press("Enter")
        assert said(page) == ["x", "Green."]
        assert not page.get_by_text("Keep as").count() and page.locator("#write").is_hidden()


def test_a_fault_of_the_server_is_told_on_the_page(labelled):
    address, _ = labelled
    with browsing(address) as page:
        page.fill("#text", "x" * 900)
        page.press("#text", "Enter")
        page.wait_for_selector(".fault")
        assert "shorten" in page.locator(".fault").inner_text()


def test_a_server_without_labels_says_so_on_the_pages_of_labels(toy):
    with listening(toy) as address, browsing(address + "/label") as page:
        page.fill("#name", "ann")
        page.keyboard.press("Enter")
        page.get_by_text("keeps no labels").wait_for()
        page.reload()
        page.get_by_text("keeps no labels").wait_for()
        page.goto(address + "/agreement")
        page.get_by_text("keeps no labels").wait_for()


@pytest.mark.parametrize(
    "prompts, dropped, fault, said",
    [(0, 0, "", "Start the server with --label_prompts=FILE."),
     (3, 3, "", "3 of 3 prompts have no two different answers"),
     (3, 0, "No space left on device", "ended early: No space left on device.")],
)  # fmt: skip
def test_the_page_says_why_there_is_nothing_to_label(toy, tmp_path, prompts, dropped, fault, said):
    pool = Pool(tmp_path, [], [], SamplingPlan())
    pool.prompts, pool.dropped, pool.fault = [None] * prompts, dropped, fault
    routes = Labelling(Labels(tmp_path), pool, 2).routes()
    with listening(toy, extra=routes) as address, browsing(address + "/label") as page:
        page.fill("#name", "ann")
        page.keyboard.press("Enter")
        page.wait_for_selector("#none")
        assert said in page.inner_text("#why")
        assert ("--label_prompts" in page.inner_text("#why")) == (not prompts)


def test_the_page_looks_again_after_a_failure(toy, tmp_path):
    class Making(Pool):
        making = True

    pool = Making(tmp_path, [], [], SamplingPlan())
    routes = Labelling(Labels(tmp_path), pool, 2).routes()
    with listening(toy, extra=routes) as address, browsing(address + "/label") as page:
        page.fill("#name", "ann")
        page.keyboard.press("Enter")
        page.get_by_text("are being sampled").wait_for()
        page.route("**/labels/next*", lambda route: route.abort())
        page.wait_for_function("document.getElementById('fault').textContent")
        page.unroute("**/labels/next*")
        pool.items = items()
        page.wait_for_selector(".answer")
        assert not page.inner_text("#fault")


def test_both_pages_fit_a_phone_in_light_and_dark(labelled):
    address, _ = labelled
    phone = {"viewport": {"width": 375, "height": 700}}
    for scheme in ("light", "dark"):
        with browsing(address, color_scheme=scheme, **phone) as page:
            assert page.evaluate("document.documentElement.dataset.theme") == scheme
            for path in ("/", "/label", "/agreement"):
                page.goto(address + path)
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= 375, (path, wide)
            page.goto(address)
            page.click("#menu")
            page.wait_for_function("document.getElementById('side').getBoundingClientRect().x >= 0")


def test_answers_are_ranked_by_keys_and_by_dragging(labelled):
    address, labels = labelled
    with browsing(address + "/label") as page:
        page.fill("#name", "ann")
        page.keyboard.press("Enter")
        page.wait_for_selector(".answer")
        assert not page.locator("#conversation img, .answer img").count()

        def order():
            return [one.inner_text() for one in page.locator(".answer .said").all()]

        texts = ["Green is another colour.", "Perhaps red?", MARKUP, "No."]
        for place, text in enumerate(texts):  # by keys, into this order
            page.locator(".answer", has_text=text).focus()
            while order().index(text) > place:
                page.keyboard.press("Shift+ArrowUp")
        assert order() == texts
        page.locator(".answer").nth(0).focus()
        page.keyboard.press("7")
        page.locator(".answer").nth(2).focus()
        page.keyboard.press("t")
        page.keyboard.press("q")  # the questions of this answer: the first is reached, and open
        assert page.evaluate("document.activeElement.textContent") == "Yes"
        page.keyboard.press("Space")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")  # to the second question, of which both are taken back
        for _ in range(2):
            page.keyboard.press("Space")
        third = page.locator(".answer").nth(2).get_by_role("group", name="Expresses opinion")
        third.get_by_role("button", name="No").click()
        assert "2 of 11 answered" in page.locator(".answer").nth(2).inner_text()
        assert "0 of 11 answered" in page.locator(".answer").nth(0).inner_text()
        page.keyboard.press("Control+Enter")
        page.wait_for_function("document.getElementById('progress').textContent.startsWith('1 of')")
        record = labels.records[-1]
        assert record["ranks"] == [1, 2, 2, 3] and record["ratings"] == [7, None, None, None]
        said = {"fails_instruction": True, "opinion": False}
        assert dict(zip(record["answers"], record["metadata"], strict=True)) == {
            text: said if text == MARKUP else {} for text in texts
        }

        moved = order()[3]  # by dragging, the last to the first place
        page.locator(".answer .rank").nth(3).drag_to(page.locator(".answer").nth(0))
        assert order()[0] == moved
        dropped = """(node) => {
          const data = new DataTransfer();
          data.items.add(new File(["x"], "a.txt"));
          const options = { bubbles: true, cancelable: true, dataTransfer: data };
          node.dispatchEvent(new DragEvent("drop", options));
        }"""
        before = order()
        page.locator(".answer").nth(2).evaluate(dropped)  # what is no card moves none
        assert order() == before
        page.click("#submit")
        page.wait_for_selector("#none")
        ranks = dict(zip(labels.records[-1]["answers"], labels.records[-1]["ranks"], strict=True))
        assert ranks[moved] == 1
        page.keyboard.press("u")  # and taken back
        page.wait_for_selector(".answer")
        assert order()[0] == moved
        page.click("#tab-write")  # and an answer is written beside the ranking
        page.fill("#demonstration", "Yellow. " + MARKUP)
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("#none")
        assert [one["kind"] for one in labels.records[-2:]] == ["undo", "ranking"]
        assert labels.records[-1]["answer"] == "Yellow. " + MARKUP
        page.goto(address + "/agreement")
        page.wait_for_selector(".figure")
        figures = page.locator("#figures").inner_text()
        assert "published: training labelers, InstructGPT section 3.4" in figures
        assert "72.6 ± 1.5 %" in figures and "77.3 ± 1.3 %" in figures
