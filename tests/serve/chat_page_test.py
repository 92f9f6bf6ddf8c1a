"""The chat page in a real browser: what becomes of conversations, whatever happens to them."""

from pathlib import Path

import pytest

from lm.data.dialogues import dialogues
from lm.data.tasks.rows import jsonl
from lm.serve.items import Pool, SamplingPlan
from lm.serve.labelling import Labelling
from lm.serve.labels import Labels
from lm.text.byte import ByteTokenizer
from lm.text.dialogue import Chat
from tests.serve.browser import browsing, reloaded, settled
from tests.serve.served import listening, served

pytestmark = pytest.mark.slow
# Answers that a test says itself, piece by piece.
SPEAKING = """
const real = window.fetch;
window.asked = [];
window.fetch = (path, options) => {
  if (path !== "/v1/chat/completions") return real(path, options);
  if (window.failing) return Promise.reject(new TypeError("Failed to fetch"));
  let feed;
  const body = new ReadableStream({ start(controller) { feed = controller; } });
  options.signal.addEventListener("abort", () => feed.error(new DOMException("", "AbortError")));
  const event = (delta, finish_reason) => feed.enqueue(new TextEncoder().encode(
    `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason }] })}\\n\\n`));
  asked.push({
    messages: JSON.parse(options.body).messages,
    say(content) { event({ content }, null); },
    end(reason = "stop") { event({}, reason); feed.close(); },
    close() { feed.close(); },
  });
  return Promise.resolve(new Response(body));
};
"""


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return Labels(tmp_path_factory.mktemp("labels"))


@pytest.fixture(scope="module")
def address(labels):
    toy = served()
    pool = Pool(labels.folder, [], [], SamplingPlan())
    with listening(toy, extra=Labelling(labels, pool, 2).routes()) as address:
        yield address
    toy.engine.close(drain=False)


@pytest.fixture
def page(address):
    with browsing(address) as page:
        page.context.add_init_script(SPEAKING)
        reloaded(page)
        yield page


def said(page):
    return [turn.text_content() for turn in page.locator(".turn .said").all()]


def asked(page):
    """Waits until an answer is asked for. What it is asked with."""
    page.wait_for_function("asked.length")
    return page.evaluate("asked.at(-1).messages.map(({ content }) => content)")


def write(page, text):
    asked(page)
    page.evaluate("(text) => asked.at(-1).say(text)", text)
    page.wait_for_function(
        "(text) => [...running.values()].some(({ turn }) => turn.content.endsWith(text))", arg=text
    )
    page.evaluate("new Promise(requestAnimationFrame)")  # in which it is shown


def answer(page, text):
    write(page, text)
    page.evaluate("asked.pop().end()")
    settled(page)


def ask(page, text):
    page.fill("#text", text)
    page.press("#text", "Enter")


def talk(page, *pairs):
    for question, reply in pairs:
        ask(page, question)
        answer(page, reply)


def edit(page, number, text):
    page.locator(".turn").nth(number).get_by_text("Edit").click()
    page.get_by_label("Change this turn").fill(text)
    page.keyboard.press("Enter")


def demonstrate(page, number):
    """Keeps a turn as a demonstration. The turn, which tells of it."""
    turn = page.locator(".turn").nth(number)
    turn.get_by_text("Keep as demonstration").click()
    page.get_by_label("Your name").fill("ann")
    page.keyboard.press("Enter")
    turn.locator(".soft", has_text="Kept").wait_for()
    return turn


def kept(page):
    return page.evaluate("JSON.parse(localStorage.getItem('lm.conversations'))")


PAIRS = [("q0", "a0"), ("q1", "a1"), ("q2", "a2")]
WHOLE = ["q0", "a0", "q1", "a1", "q2", "a2"]


def test_a_changed_turn_keeps_what_followed_it_as_a_branch_that_outlives_a_reload(page):
    talk(page, *PAIRS)
    edit(page, 2, "changed")
    assert asked(page) == ["q0", "a0", "changed"]
    answer(page, "b1")
    assert said(page) == ["q0", "a0", "changed", "b1"]
    page.locator(".turn").nth(0).get_by_text("Edit").click()
    page.keyboard.press("Enter")  # with nothing changed
    assert said(page) == ["q0", "a0", "changed", "b1"] and not page.evaluate("asked.length")
    reloaded(page)
    turn = page.locator(".turn").nth(2)
    assert "2/2" in turn.inner_text()
    turn.get_by_text("‹").focus()
    page.keyboard.press("Enter")
    assert said(page) == WHOLE and "1/2" in turn.inner_text()
    assert page.evaluate("document.activeElement.textContent") == "‹"
    edit(page, 0, "else")  # a branch has branches of its own
    answer(page, "c0")
    page.locator(".turn").nth(0).get_by_text("›").click()  # from the last to the first
    turn.get_by_text("›").click()
    assert said(page) == ["q0", "a0", "changed", "b1"]


def test_an_edited_answer_goes_back_to_what_stood_there_with_all_that_followed_it(page):
    talk(page, *PAIRS[:2])
    first = page.locator(".turn").nth(1)
    first.get_by_text("Regenerate").click()
    answer(page, "b0")
    first.get_by_text("‹").click()
    rank = first.get_by_text("Rank 2 answers")
    edit(page, 1, "edited")
    assert said(page) == ["q0", "edited", "q1", "a1"] and "3/3" in first.inner_text()
    assert rank.count() == 1  # they still answer what was said before
    edit(page, 3, "and this")
    assert "2/2" in page.locator(".turn").nth(3).inner_text()
    reloaded(page)
    first.get_by_text("›").click()
    assert said(page) == ["q0", "a0", "q1", "a1"] and rank.count() == 1
    first.get_by_text("‹").click()
    assert said(page) == ["q0", "edited", "q1", "and this"]
    page.fill("#text", "q2")
    page.click("#write")  # what is written in the place of nothing has nothing before it
    page.get_by_label("Change this turn").fill("by hand")
    page.keyboard.press("Enter")
    assert said(page)[-1] == "by hand" and not page.locator(".turn").last.get_by_text("‹").count()


def test_the_best_of_the_answers_leaves_an_edited_one_in_a_branch(page):
    talk(page, PAIRS[0])
    first = page.locator(".turn").nth(1)
    first.get_by_text("Regenerate").click()
    answer(page, "b0")
    page.evaluate("delete open.turns[1].branches; keep(open)")  # as of an older conversation
    edit(page, 1, "edited")
    first.get_by_text("Rank 2 answers").click()
    page.get_by_label("Your name").fill("ann")
    page.keyboard.press("Control+Enter")
    first.get_by_text("Ranked").wait_for()
    assert said(page) == ["q0", "a0"]
    first.get_by_text("‹").click()
    assert said(page) == ["q0", "edited"]


def test_a_demonstration_stands_beside_that_of_another_branch_and_for_what_was_edited(page, labels):
    def shown():
        return sorted(one["answer"] for one in labels.current().values() if "answer" in one)

    before = shown()
    talk(page, ("Which?", "a0"), PAIRS[1])
    demonstrate(page, 1).get_by_text("Regenerate").click()
    answer(page, "b0")
    turn = demonstrate(page, 1)
    assert "in place" not in turn.inner_text() and shown() == sorted([*before, "a0", "b0"])
    turn.get_by_text("‹").click()
    assert "Kept as demonstration" in turn.inner_text()
    edit(page, 1, "c0")
    reloaded(page)
    assert "in place of the earlier" in demonstrate(page, 1).inner_text()
    assert shown() == sorted([*before, "b0", "c0"])
    for answered, mark in (("a0", 0), ("b0", 1), ("c0", 1)):  # it tells of those that stand
        while said(page)[1] != answered:
            turn.get_by_text("›").click()
        assert turn.locator(".soft", has_text="Kept").count() == mark


def test_a_demonstration_of_an_older_conversation_is_replaced_where_it_was_edited(page, labels):
    sent = {"kind": "demonstration", "labeler": "ann", "item": "1-2-1", "answer": "old"}
    sent["messages"] = [{"role": "user", "content": "q0"}]
    page.evaluate("(sent) => call('/labels/chat', sent)", sent)
    number = len(labels.current())
    turns = [{"role": "user", "content": "q0"}]
    turns += [{"role": "assistant", "content": "old", "kept": "Kept as demonstration"}]
    older = [{"id": "1-2", "changed": 1, "system": "", "turns": turns}]
    page.evaluate("(older) => store(KEPT, older)", older)
    reloaded(page)
    edit(page, 1, "new")
    assert "in place of the earlier" in demonstrate(page, 1).inner_text()
    found = [one.get("answer") for one in labels.current().values()]
    assert len(found) == number and "new" in found and "old" not in found


def test_an_answer_drawn_again_and_stopped_keeps_the_one_before_and_what_followed(page):
    talk(page, *PAIRS)
    first = page.locator(".turn").nth(1)
    first.get_by_text("Regenerate").click()
    write(page, "On")
    page.keyboard.press("Escape")
    settled(page)
    assert said(page) == ["q0", "On"] and "2/2" in first.inner_text()
    first.get_by_text("‹").click()
    assert said(page) == WHOLE
    reloaded(page)
    assert said(page) == WHOLE


def test_a_change_whose_answer_cannot_be_asked_for_puts_back_what_was_there(page):
    talk(page, *PAIRS)
    before = kept(page)[0]["turns"]
    page.evaluate("window.failing = true")
    edit(page, 0, "changed")
    page.locator("#note", has_text="Failed to fetch").wait_for()
    assert kept(page)[0]["turns"] == before and page.locator(".turn").count() == 6
    box = page.get_by_label("Change this turn")  # and what was written there is not lost either
    assert box.input_value() == "changed"
    box.press("Escape")
    assert said(page) == WHOLE
    page.locator(".turn").nth(3).get_by_text("Regenerate").click()
    page.wait_for_function("!running.size")
    assert said(page) == WHOLE and kept(page)[0]["turns"] == before


def test_an_answer_under_way_outlives_a_reload_and_is_drawn_again(page):
    talk(page, PAIRS[0])
    ask(page, "q1")
    write(page, "half of")
    reloaded(page)
    assert said(page) == ["q0", "a0", "q1", "half of"]
    assert kept(page)[0]["turns"][-1]["ended"] is False
    page.locator(".turn").last.get_by_text("Regenerate").click()
    answer(page, "a1")
    assert said(page) == ["q0", "a0", "q1", "a1"]
    ask(page, "q2")
    asked(page)
    reloaded(page)  # before anything came
    assert said(page) == ["q0", "a0", "q1", "a1", "q2"]
    page.locator(".turn").last.get_by_text("Regenerate").click()
    answer(page, "a2")
    assert said(page)[-2:] == ["q2", "a2"]


def test_an_answer_is_kept_while_it_is_written(page):
    ask(page, "q0")
    write(page, "one ")
    page.wait_for_timeout(1100)
    write(page, "two ")
    assert kept(page)[0]["turns"][-1]["content"] == "one two "


def test_while_one_conversation_is_answered_another_goes_on(page):
    ask(page, "one")
    write(page, "the first")
    page.click("#new")
    assert page.is_visible("#send") and page.is_hidden("#stop")
    ask(page, "two")
    write(page, "the second")
    assert page.evaluate("running.size") == 2
    page.keyboard.press("Escape")  # ends the one that is shown
    settled(page)
    assert page.evaluate("running.size") == 1
    page.locator(".turn").nth(0).get_by_text("Edit").click()
    page.evaluate("asked[0].end()")
    page.wait_for_function("!running.size")
    assert page.get_by_label("Change this turn").count() == 1
    page.locator(".entry .name", has_text="one").click()
    assert said(page) == ["one", "the first"]


def test_each_conversation_has_a_draft(page):
    talk(page, ("one", "a"))
    page.click("#new")
    page.fill("#text", "to two")
    page.locator(".entry .name", has_text="one").click()
    assert page.input_value("#text") == ""
    page.fill("#text", "to one")
    page.locator(".entry .name", has_text="New").click()
    assert page.input_value("#text") == "to two"
    page.press("#text", "Enter")
    answer(page, "b")
    assert said(page) == ["to two", "b"] and page.input_value("#text") == ""
    page.locator(".entry .name", has_text="one").last.click()
    assert page.input_value("#text") == "to one"


def test_what_is_typed_while_a_message_waits_for_its_images_is_the_next(page):
    page.evaluate("() => { attaching = new Promise((done) => { window.attached = done; }); }")
    ask(page, "first")
    ask(page, "second")
    page.evaluate("attached()")
    assert asked(page) == ["first"] and page.input_value("#text") == "second"
    answer(page, "One.")
    page.press("#text", "Enter")
    assert asked(page) == ["first", "One.", "second"]


def test_what_was_not_sent_outlives_a_reload_in_each_conversation(page):
    talk(page, ("one", "a"))
    page.fill("#text", "to one")
    page.click("#new")
    page.fill("#text", "to a new one\nwhich is long")
    reloaded(page)
    assert page.input_value("#text") == "to one"  # the newest that has begun
    reloaded(page)  # of one that was not looked at too
    page.click("#new")
    assert page.input_value("#text") == "to a new one\nwhich is long"
    page.press("#text", "Enter")
    answer(page, "b")
    page.click("#new")
    assert page.input_value("#text") == ""
    reloaded(page)
    assert page.input_value("#text") == ""
    page.locator(".entry .name", has_text="one").last.click()
    assert page.input_value("#text") == "to one"


def test_the_reader_stays_where_he_is_when_an_answer_ends_or_an_edit_is_left(page):
    talk(page, *((f"q{n}", "line\n" * 30) for n in range(3)))
    top = "document.getElementById('turns').scrollTop"
    end = f"$('turns').scrollHeight - $('turns').clientHeight - {top} < 5"
    ask(page, "more")
    write(page, "and more")
    assert page.evaluate(end)
    page.evaluate(f"{top} = 100")
    answer(page, "\nmore")
    assert page.evaluate(top) == 100
    page.evaluate(f"{top} = 0")
    page.locator(".turn").nth(0).get_by_text("Edit").click()
    page.keyboard.press("Escape")
    assert page.evaluate(top) == 0
    assert page.evaluate("document.activeElement.textContent") == "Edit"
    talk(page, ("last", "more\n" * 40))
    assert page.evaluate(end)  # the control


def test_another_tab_shows_the_system_prompt_it_sends_and_leaves_an_open_edit(page, address):
    talk(page, PAIRS[0])
    other = page.context.new_page()
    other.goto(address)
    other.locator(".turn").nth(0).get_by_text("Edit").click()
    box = other.get_by_label("Change this turn")
    box.fill("a long text")
    page.click("#gear")
    page.fill("#system", "Answer in French.")
    other.wait_for_function("document.getElementById('system').value === 'Answer in French.'")
    talk(page, PAIRS[1])
    other.wait_for_function("document.querySelectorAll('.turn').length === 4")
    assert box.input_value() == "a long text"
    assert other.evaluate("document.activeElement.tagName") == "TEXTAREA"
    box.press("Enter")
    assert asked(other) == ["Answer in French.", "a long text"]


def test_what_a_full_store_does_not_keep_is_told_until_there_is_room(page):
    talk(page, ("large " + "x" * 9000, "a"))
    page.click("#new")
    talk(page, ("first", "a"))
    fill = """() => {
      const much = 5 * 1024 * 1024 - JSON.stringify(localStorage).length;
      for (let step = much; step >= 1; step = Math.floor(step / 2)) {
        const held = localStorage.getItem("filler") ?? "";
        try { localStorage.setItem("filler", held + "x".repeat(step)); } catch { /* full */ }
      }
    }"""
    page.evaluate(fill)
    page.click("#new")
    ask(page, "second")
    note = page.locator("#note")
    note.get_by_text("Not kept: “second”", exact=False).wait_for()
    assert "The largest is “large" in note.inner_text()
    answer(page, "b")
    assert "Not kept: “second”" in note.inner_text()
    page.locator(".entry", has_text="first").locator(".drop").click()  # is not brought back
    assert "Deleted “first”" in note.inner_text()
    page.locator(".entry", has_text="large").locator(".drop").click()
    assert "Not kept" not in note.inner_text()
    reloaded(page)
    assert said(page) == ["second", "b"] and page.locator(".entry").count() == 1


@pytest.mark.parametrize("stored", ['{"a": 1}', '[null, 1, {"id": "x"}]'])
def test_a_store_that_holds_something_else_is_begun_anew(page, stored):
    for name in ("lm.conversations", "lm.deleted"):
        page.evaluate("(all) => localStorage.setItem(...all)", [name, stored])
    reloaded(page)
    talk(page, *PAIRS)
    assert said(page) == WHOLE and len(kept(page)) == 1
    page.click("#new")
    page.locator(".entry", has_text="q0").locator(".drop").click()
    assert kept(page) == [] and page.evaluate("load(GONE).length")


def test_a_deletion_erases_nothing_that_another_tab_has_just_kept(page):
    talk(page, PAIRS[0])
    page.evaluate("""() => {
      const turns = [{ role: "user", content: "new" }];
      const other = { id: "other", changed: Date.now(), system: "", turns };
      store(KEPT, [...load(KEPT), other]);
    }""")  # of which this tab has not heard
    page.locator(".entry .drop").click()
    assert [one["id"] for one in kept(page)] == ["other"]
    assert said(page) == ["new"]


def test_a_deleted_conversation_is_put_back_by_keys(page, address):
    talk(page, *PAIRS)
    other = page.context.new_page()
    other.goto(address)
    page.locator(".entry .drop").focus()
    page.keyboard.press("Enter")
    other.wait_for_function("!document.querySelectorAll('.turn').length")
    assert not page.locator(".turn").count() and kept(page) == []
    assert page.evaluate("document.activeElement.textContent") == "Undo"
    page.keyboard.press("Enter")
    assert said(page) == WHOLE and page.is_hidden("#note")
    other.locator(".entry", has_text="q0").wait_for()
    reloaded(page)
    assert said(page) == WHOLE


def test_a_conversation_is_renamed_by_keys(page):
    talk(page, PAIRS[0])
    name = page.locator(".entry .name")
    for key, title in (("Enter", "שלום"), ("Escape", "שלום"), ("Enter", "q0")):
        name.focus()
        page.keyboard.press("F2")
        page.get_by_label("Title").fill("" if title == "q0" else title if key == "Enter" else "no")
        page.keyboard.press(key)
        assert name.text_content() == title
        assert page.evaluate("document.activeElement.className") == "name"
        reloaded(page)
        assert name.text_content() == title


def test_a_downloaded_conversation_is_read_to_learn_from(page, tmp_path):
    page.click("#gear")
    page.fill("#system", "Be kind.")
    talk(page, *PAIRS[:2])
    edit(page, 2, "changed")
    answer(page, "b1")
    with page.expect_download() as found:
        page.get_by_title("Download").click()
    path = Path(tmp_path / found.value.suggested_filename)
    found.value.save_as(path)
    assert path.name == "q0.jsonl"
    (row,) = jsonl(path)
    (one,) = dialogues()(row)
    assert [turn.content for turn in one.turns] == ["Be kind.", "q0", "a0", "changed", "b1"]


def test_of_a_downloaded_conversation_whole_answers_are_learned_and_none_that_was_cut_off(
    page, tmp_path
):
    talk(page, PAIRS[0])
    ask(page, "too long")
    write(page, "a half")
    page.evaluate("asked.pop().end('length')")
    settled(page)
    ask(page, "stopped")
    write(page, "half an")
    page.click("#stop")
    settled(page)
    page.evaluate("asked.pop()")
    talk(page, PAIRS[1])
    with page.expect_download() as found:
        page.get_by_title("Download").click()
    found.value.save_as(tmp_path / "said.jsonl")
    (row,) = jsonl(tmp_path / "said.jsonl")
    (one,) = dialogues()(row)
    chat = Chat(ByteTokenizer())
    row = chat.encode(one.turns)
    assert [turn.content for turn in one.turns][1::2] == ["a0", "a half", "half an", "a1"]
    assert row.tokens[row.learned].tolist() == chat.answer("a0") + chat.answer("a1")


def test_an_answer_whose_connection_is_closed_before_its_end_says_so(page):
    ask(page, "go")
    write(page, "half of")
    page.evaluate("asked.pop().close()")
    settled(page)
    assert said(page)[1] == "half of"
    assert "broke off" in page.locator(".fault").inner_text()
    assert not kept(page)[0]["turns"][1]["answers"]  # none that is ranked


def test_a_page_of_something_before_the_server_is_told_by_its_status(page):
    failed = "new Response('<h1>Bad Gateway</h1>', { status: 502 })"
    page.evaluate(f"() => {{ window.fetch = async () => {failed}; }}")
    ask(page, "go")
    page.locator(".fault", has_text="HTTP 502").wait_for()
    assert "Unexpected" not in page.locator(".fault").inner_text()
    found = "call('/labels/chat', {}).catch((error) => error.message)"
    assert page.evaluate(found) == "HTTP 502"


def test_the_enter_that_ends_a_composed_word_sends_nothing(page):
    press = """(code) => {
      const options = { key: "Enter", keyCode: code, bubbles: true, cancelable: true };
      document.activeElement.dispatchEvent(new KeyboardEvent("keydown", options));
    }"""
    page.fill("#text", "日本")
    page.evaluate(press, 229)
    page.wait_for_timeout(100)
    assert page.input_value("#text") == "日本" and not page.evaluate("asked.length")
    page.evaluate(press, 13)
    assert asked(page) == ["日本"]
    answer(page, "a")
    page.locator(".turn").nth(0).get_by_text("Edit").click()
    page.evaluate(press, 229)
    assert page.get_by_label("Change this turn").count() == 1
    page.evaluate(press, 13)
    assert not page.get_by_label("Change this turn").count()


def test_with_a_touch_keyboard_enter_begins_a_line_and_the_button_sends(address):
    tablet = {"viewport": {"width": 820, "height": 1180}, "has_touch": True, "is_mobile": True}
    with browsing(address, **tablet) as page:
        page.context.add_init_script(SPEAKING)
        reloaded(page)
        page.fill("#text", "one")
        page.keyboard.press("Enter")
        page.keyboard.type("two")
        assert page.input_value("#text") == "one\ntwo" and page.is_hidden(".hint")
        page.click("#send")
        answer(page, "a")
        page.fill("#text", "three")
        page.keyboard.press("Control+Enter")
        answer(page, "b")
        assert said(page) == ["one\ntwo", "a", "three", "b"]
        page.locator(".turn").nth(0).get_by_text("Edit").click()
        page.keyboard.press("Enter")
        assert page.get_by_label("Change this turn").count() == 1
        page.keyboard.press("Escape")
        page.focus("#text")
        for what in (".turn .doing", ".entry .drop"):  # what is pressed is seen
            shown = page.locator(what).first.evaluate("(node) => getComputedStyle(node).opacity")
            assert shown == "1", what


def test_answers_are_ranked_while_the_system_prompt_is_the_one_they_answer(page):
    def typed(key):
        page.focus("#system")
        page.keyboard.press(key)

    def told(turn):
        return [turn.get_by_text(text).count() for text in ("Rank 2 answers", "Ranked", "Kept")]

    page.click("#gear")
    page.fill("#system", "Be kind")
    talk(page, PAIRS[0])
    turn = demonstrate(page, 1)
    turn.get_by_text("Regenerate").click()
    answer(page, "b0")
    turn.get_by_text("Rank 2 answers").click()
    page.keyboard.press("Control+Enter")
    turn.get_by_text("Ranked").wait_for()
    while said(page)[1] != "a0":
        turn.get_by_text("‹").click()
    assert told(turn) == [1, 1, 1]
    typed("x")
    assert told(turn) == [0, 0, 0]
    reloaded(page)
    page.click("#gear")
    typed("End")
    typed("Backspace")
    assert page.input_value("#system") == "Be kind" and told(turn) == [1, 1, 1]
    typed("x")
    for reply in ("c0", "d0"):  # answers to another prompt are ranked apart
        turn.get_by_text("Regenerate").click()
        answer(page, reply)
    assert page.evaluate("open.turns[1].answers.map(({ content }) => content)") == ["c0", "d0"]
    turn.get_by_text("Rank 2 answers").click()
    typed("y")
    page.get_by_text("Keep the ranking").click()
    page.get_by_text("The system prompt has changed").wait_for()
    typed("Backspace")
    page.get_by_text("Keep the ranking").click()
    turn.get_by_text("Ranked").wait_for()


def test_code_is_set_apart_as_text_and_copied_alone(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    code = "def f(x):\n    return '<b>x</b>'\n"
    ask(page, "code")
    write(page, "See:\n```py")
    write(page, f"thon\n{code}```\nso ```inline``` it is.")
    shown = "[...document.querySelectorAll('.assistant .said pre')].map((n) => n.textContent)"
    assert page.evaluate(shown) == [code]
    page.evaluate("asked.pop().end()")
    settled(page)
    last = page.locator(".turn").last
    assert page.evaluate(shown) == [code] and not page.locator(".said b").count()
    assert last.locator(".code-head").inner_text().split() == ["python", "Copy"]
    last.get_by_title("Copy the code").click()
    assert page.evaluate("navigator.clipboard.readText()") == code
    last.get_by_title("Copy the text").click()
    assert page.evaluate("navigator.clipboard.readText()").startswith("See:\n```python\ndef")
    talk(page, ("```\nnever ended", "```\na\n```\nb\n```\nc"))
    assert page.evaluate("[...document.querySelectorAll('pre')].map((n) => n.textContent)") == [
        code, "never ended", "a\n", "c",
    ]  # fmt: skip
    assert page.evaluate("open.turns[1].content").count("```") == 4


def test_what_comes_of_an_answer_within_a_frame_is_drawn_at_once(page):
    ask(page, "go")
    asked(page)
    drawn = page.evaluate("""async () => {
      const fill = fillSaid;
      let count = 0;
      fillSaid = (...those) => { count += 1; fill(...those); };
      for (let n = 0; n < 500; n++) asked.at(-1).say(`word${n} `);
      const { turn } = running.get(open);
      while (!turn.content.endsWith("word499 ")) await new Promise(requestAnimationFrame);
      await new Promise(requestAnimationFrame); // all of it has come, and is shown
      fillSaid = fill;
      return count;
    }""")
    assert 0 < drawn < 100
    assert said(page)[1].split() == [f"word{n}" for n in range(500)]


def test_what_was_selected_or_is_to_be_copied_stays_while_an_answer_goes_on(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ask(page, "code")
    write(page, "First of all.\n```py\na = 1\n```\nAnd then")
    page.evaluate("""() => {
      const { firstChild, lastChild } = document.querySelector(".growing .said");
      getSelection().setBaseAndExtent(firstChild, 0, lastChild, 3);
      window.copying = document.querySelector(".growing [title='Copy the code']");
    }""")
    selected = page.evaluate("getSelection().toString()")
    write(page, " more, and\n```py\nb = ")
    write(page, "2")
    assert page.evaluate("getSelection().toString()") == selected != ""
    page.evaluate("copying.click()")
    page.wait_for_function("copying.isConnected && copying.textContent === 'Copied'")
    assert page.evaluate("navigator.clipboard.readText()") == "a = 1\n"
    page.locator(".growing").get_by_title("Copy the code").last.click()
    page.wait_for_function("navigator.clipboard.readText().then((text) => text === 'b = 2')")


def test_each_text_has_the_direction_it_is_written_in(page):
    talk(page, ("שלום, איך אתה?", "Fine.\nمرحبا"))
    way = "(node) => getComputedStyle(node).direction"
    said_by = page.locator(".turn .said")
    assert [one.evaluate(way) for one in said_by.all()] == ["rtl", "ltr"]
    assert page.locator(".entry .name").evaluate(way) == "rtl"
    page.fill("#text", "مرحبا")
    assert page.locator("#text").evaluate(way) == "rtl"
    page.locator(".turn").nth(0).get_by_text("Edit").click()
    assert page.get_by_label("Change this turn").evaluate(way) == "rtl"
