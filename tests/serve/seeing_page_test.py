"""The chat page in a real browser: images, several tabs, and those who use it without a mouse."""

import base64
import dataclasses

import pytest

from lm.serve.engine import Engine
from lm.serve.model import Served
from lm.text.byte import ByteTokenizer
from tests.serve.browser import browsing, reloaded, settled, spoken
from tests.serve.seeing import black, drawn, model, picture
from tests.serve.served import listening

pytestmark = pytest.mark.slow
IMAGE = {"name": "a.png", "mimeType": "image/png", "buffer": picture(1)}
# An event as a browser makes one when somebody pastes or drops a file.
TRANSFER = """([kind, target, type, coded]) => {
  const bytes = Uint8Array.from(atob(coded), (c) => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "b", { type }));
  const options = { bubbles: true, cancelable: true };
  document.querySelector(target).dispatchEvent(kind === "paste"
    ? new ClipboardEvent(kind, { ...options, clipboardData: data })
    : new DragEvent(kind, { ...options, dataTransfer: data }));
}"""


@pytest.fixture(scope="module")
def seeing():
    config = model()
    engine = Engine(config, drawn(config), slots=2, queue=4).start()
    yield Served("seeing", engine, ByteTokenizer())
    engine.close(drain=False)


@pytest.fixture
def asked(seeing, monkeypatch):
    """The prompts that reach the engine."""
    found, submit = [], seeing.engine.submit

    def noted(*some):
        found.extend(some)
        submit(*some)

    monkeypatch.setattr(seeing.engine, "submit", noted)
    return found


@pytest.fixture
def address(seeing):
    with listening(seeing) as address:
        yield address


def transfer(page, kind, target, mime, content):
    page.evaluate(TRANSFER, [kind, target, mime, base64.b64encode(content).decode()])


def say(page, text, turns):
    page.fill("#text", text)
    page.press("#text", "Enter")
    page.wait_for_function(f"document.querySelectorAll('.turn').length === {turns}")
    settled(page)


def test_images_are_chosen_pasted_dropped_and_kept_in_the_conversation(address, asked):
    with browsing(address) as page:
        page.wait_for_selector("#attach:visible")
        page.set_input_files("#files", [IMAGE])
        page.wait_for_selector("#pending img")
        transfer(page, "paste", "#text", "image/png", black())
        page.wait_for_function("document.querySelectorAll('#pending img').length === 2")
        page.locator("#pending button").nth(1).click()  # and left out again
        transfer(page, "drop", "body", "image/gif", picture(2, kind="GIF"))  # becomes a PNG
        page.wait_for_function("document.querySelectorAll('#pending img').length === 2")
        say(page, "what?", 2)
        assert page.locator(".user .shown img").count() == 2
        assert not page.locator(".fault").count(), page.locator(".fault").inner_text()
        assert len(asked[-1].images) == 2 and not page.locator("#pending img").count()
        reloaded(page)  # kept in the browser
        page.wait_for_function("document.querySelector('.shown img')?.naturalWidth === 24")
        say(page, "and now?", 4)
        assert len(asked[-1].images) == 2  # those of the turn before
        assert (asked[-1].images[0] == asked[0].images[0]).all()
        page.locator(".entry .drop").first.click()
        page.get_by_text("Undo").click()  # they are put back with it
        page.wait_for_function("document.querySelector('.shown img')?.naturalWidth === 24")
        page.locator(".entry .drop").first.click()
        reloaded(page)
        page.wait_for_function("(async () => !(await images('readonly', (all) => all.count())))()")


def test_the_page_says_whether_a_conversation_is_read_whole(seeing, address, monkeypatch):
    for dialogue, told in ((False, "one question at a time"), (True, "reads the whole conv")):
        sight = dataclasses.replace(seeing.sight, dialogue=dialogue)
        monkeypatch.setattr(seeing.engine.reader, "sight", sight)
        with browsing(address) as page:
            page.wait_for_selector(".empty .small")
            assert told in page.locator(".empty .small").inner_text()


def test_of_a_long_conversation_the_oldest_images_are_left_out(address):
    with browsing(address) as page:
        page.wait_for_selector("#attach:visible")
        for turns in (2, 4, 6):
            page.set_input_files("#files", [IMAGE])
            page.wait_for_selector("#pending img")
            say(page, "what?", turns)
        sent = """async () => {
          for (const turn of open.turns) turn.content ||= "an answer"; // it may have said nothing
          const messages = await messagesOf(open);
          return messages.map(({ content }) => Array.isArray(content) ? content.length : content);
        }"""
        assert page.evaluate(sent)[::2] == [2, 2, 2]  # the control
        page.evaluate("""() => {
          for (const [id, url] of pictures) pictures.set(id, url + "A".repeat(5 << 20));
        }""")
        assert page.evaluate(sent)[::2] == ["what?", 2, 2]
        assert page.is_hidden("#note")
        answered = spoken("an answer", "stop")
        page.route("**/v1/chat/completions", lambda route: route.fulfill(**answered))
        say(page, "and now?", 8)
        assert "Without the oldest image:" in page.inner_text("#note")


def test_an_image_that_is_still_being_read_goes_with_the_message(address, asked):
    with browsing(address) as page:
        page.wait_for_selector("#attach:visible")
        page.evaluate("""() => {
          const read = createImageBitmap;
          const held = new Promise((resolve) => { window.release = resolve; });
          createImageBitmap = async (file) => { await held; return read(file); };
        }""")
        transfer(page, "drop", "body", "image/gif", picture(2, kind="GIF"))
        transfer(page, "paste", "#text", "image/png", black())
        page.fill("#text", "what?")
        page.press("#text", "Enter")
        page.press("#text", "Enter")
        assert not page.locator(".turn").count() and not page.input_value("#text")
        page.evaluate("release()")
        page.wait_for_function("document.querySelectorAll('.turn').length === 2")
        settled(page)
        assert len(asked) == 1 and len(asked[0].images) == 2
        assert not page.locator("#pending img").count() and not page.input_value("#text")
        say(page, "and now?", 4)  # the control: without an image nothing waits


def test_of_a_large_image_what_is_transparent_is_white(address):
    with browsing(address) as page:
        found = page.evaluate("""async () => {
          const side = 1200, clear = 50; // of noise, which compresses to no less than it is
          const canvas = document.createElement("canvas");
          canvas.width = canvas.height = side;
          const drawing = canvas.getContext("2d");
          const data = drawing.createImageData(side, side);
          data.data.forEach((_, n) => { data.data[n] = n % 4 === 3 ? 255 : Math.random() * 256; });
          drawing.putImageData(data, 0, 0);
          drawing.clearRect(0, 0, clear, clear);
          const url = await imageOf(await new Promise((resolve) => canvas.toBlob(resolve)));
          const image = await createImageBitmap(await (await fetch(url)).blob());
          drawing.drawImage(image, 0, 0);
          return [url.slice(0, 15), ...drawing.getImageData(10, 10, 1, 1).data];
        }""")
        assert found == ["data:image/jpeg", 255, 255, 255, 255]


def test_an_image_is_sent_as_the_server_reads_it_whatever_its_file_is_called(address, asked):
    files = [
        picture(1, size=(3000, 20)),  # few bytes, and more pixels than are sent
        picture(2, kind="WEBP"),
        picture(3, kind="JPEG"),
        picture(4),
    ]
    with browsing(address) as page:
        page.wait_for_selector("#attach:visible")
        page.set_input_files("#files", [IMAGE | {"buffer": one} for one in files])
        page.wait_for_function("document.querySelectorAll('#pending img').length === 4")
        found = page.evaluate("""() => [...document.querySelectorAll("#pending img")].map(
          ({ src, naturalWidth }) => [src.slice(5, src.indexOf(";")), naturalWidth])""")
        assert found == [
            ["image/png", 2048], ["image/png", 24], ["image/jpeg", 24], ["image/png", 24],
        ]  # fmt: skip
        whole = page.evaluate("draftOf(open).images[3].url.split(',')[1]")
        assert base64.b64decode(whole) == files[3]  # as it is
        say(page, "what?", 2)
        assert len(asked[-1].images) == 4 and not page.locator(".fault").count()


def test_five_photos_of_some_megabytes_fit_in_one_request(address):
    photo = picture(size=(1100, 900))
    assert len(photo) > 2_700_000
    with browsing(address) as page:
        page.wait_for_selector("#attach:visible")
        page.set_input_files("#files", [IMAGE | {"buffer": photo}] * 5)
        page.wait_for_function("document.querySelectorAll('#pending img').length === 5")
        sent = page.evaluate("draftOf(open).images.reduce((sum, { url }) => sum + url.length, 0)")
        assert sent < page.evaluate("MOST_SENT")


def test_of_pasted_cells_the_text_is_taken_and_of_a_pasted_file_the_file(address):
    paste = """(texts) => {
      const data = new DataTransfer();
      for (const [kind, text] of Object.entries(texts)) data.setData(kind, text);
      data.items.add(new File([new Uint8Array()], "a.png", { type: "image/png" }));
      const options = { bubbles: true, cancelable: true, clipboardData: data };
      const files = [];
      attach = (those) => files.push(...those);
      return [$("text").dispatchEvent(new ClipboardEvent("paste", options)), files.length];
    }"""
    with browsing(address) as page:
        page.wait_for_selector("#attach:visible")
        cells = {"text/plain": "1\t2", "text/html": "<table></table>"}
        assert page.evaluate(paste, cells) == [True, 0]  # the browser pastes it
        for other in ({}, {"text/plain": "a.png"}, {"text/html": "<img src='x'>"}):
            assert page.evaluate(paste, other) == [False, 1]


def test_what_is_no_image_and_too_many_are_told(address):
    with browsing(address) as page:
        page.wait_for_selector("#attach:visible")
        page.set_input_files("#files", [IMAGE | {"name": "a.txt", "mimeType": "text/plain"}])
        page.wait_for_function("document.getElementById('note').textContent.includes('no image')")
        page.set_input_files("#files", [IMAGE | {"buffer": b"GIF89a", "mimeType": "image/gif"}])
        page.wait_for_function("document.getElementById('note').textContent.includes('be read')")
        page.set_input_files("#files", [IMAGE] * 16)
        page.wait_for_function("document.getElementById('note').textContent.includes('at most')")
        assert page.locator("#pending img").count() == 15
        page.locator("#pending button").first.click()
        say(page, "x", 2)  # they leave no room for an answer, which the server tells
        assert "fewer" in page.locator(".fault").inner_text()


def test_a_message_goes_where_it_was_sent_and_not_where_one_has_gone_while_its_image_is_read(
    address,
):
    with browsing(address) as page:
        say(page, "there", 2)
        page.click("#new")
        page.wait_for_selector("#attach:visible")
        for wait in ("createImageBitmap", "keepPicture"):  # what is waited for before and after
            page.evaluate(f"""() => {{
              const read = {wait};
              const held = new Promise((resolve) => {{ window.release = resolve; }});
              {wait} = async (file) => {{ window.begun = true; await held; return read(file); }};
              window.begun = false;
            }}""")
            transfer(page, "drop", "body", "image/gif", picture(2, kind="GIF"))
            if wait == "keepPicture":
                page.wait_for_selector("#pending img")
            page.fill("#text", wait)
            page.press("#text", "Enter")
            page.wait_for_function("window.begun")
            page.locator(".entry .name", has_text="there").click()
            page.evaluate("release()")
            page.locator(".entry .name", has_text=wait).wait_for()
            settled(page)
            assert page.locator(".turn").count() == 2
            page.locator(".entry .name", has_text=wait).click()
            assert page.locator(".turn").count() == 2
            assert page.locator(".user .shown img").count() == 1
            page.click("#new")


def test_two_tabs_keep_each_others_conversations(address):
    with browsing(address) as page:
        other = page.context.new_page()
        other.goto(address)
        say(page, "first", 2)
        say(other, "second", 2)
        for tab in (page, other):
            tab.wait_for_function("document.querySelectorAll('.entry').length === 2")
        page.locator(".entry .name", has_text="second").click()
        say(page, "third", 4)
        other.wait_for_function("document.querySelectorAll('.turn').length === 4")
        reloaded(page)
        page.wait_for_function("document.querySelectorAll('.entry').length === 2")
        page.locator(".entry", has_text="first").locator(".drop").click()
        other.wait_for_function("document.querySelectorAll('.entry').length === 1")
        say(other, "fourth", 6)  # and what one has deleted, the other does not bring back
        page.wait_for_function("document.querySelectorAll('.turn').length === 6")
        assert page.locator(".entry").count() == 1


def test_a_conversation_that_one_tab_deletes_ends_no_answer_to_another(address):
    with browsing(address) as page:
        other = page.context.new_page()
        other.goto(address)
        say(page, "first", 2)
        say(other, "second", 2)
        held = []
        other.route("**/v1/chat/completions", lambda route: held.append(route))
        other.fill("#text", "third")
        other.press("#text", "Enter")
        other.wait_for_selector(".growing")
        other.locator(".entry .name", has_text="first").click()
        page.locator(".entry", has_text="first").locator(".drop").click()
        other.wait_for_function("document.querySelectorAll('.entry').length === 1")
        held[0].fulfill(**spoken("an answer", "stop"))  # the model's own may be empty
        settled(other)
        assert other.locator(".turn").count() == 4 and not other.locator(".fault").count()
        assert other.evaluate("open.turns.at(-1).content") == "an answer"


def test_what_two_tabs_write_in_one_conversation_at_once_is_kept_twice(address):
    with browsing(address) as page:
        other = page.context.new_page()
        other.goto(address)
        say(page, "first", 2)
        other.locator(".entry .name", has_text="first").click()
        held = []
        page.route("**/v1/chat/completions", lambda route: held.append(route))
        page.fill("#text", "here")
        page.press("#text", "Enter")
        other.wait_for_function("document.querySelectorAll('.turn').length === 3")
        say(other, "there", 4)
        held[0].continue_()
        settled(page)
        for tab in (page, other):
            tab.locator(".entry", has_text="first").nth(1).wait_for()  # there are two
            assert tab.locator(".turn").count() == 4
        asked = [tab.locator(".user .said").nth(1).inner_text() for tab in (page, other)]
        assert asked == ["here", "there"]


def test_a_message_that_was_changed_is_kept_without_what_followed_it(address):
    with browsing(address) as page:
        say(page, "first", 2)
        say(page, "second", 4)

        def kept():
            (one,) = page.evaluate("JSON.parse(localStorage.getItem('lm.conversations'))")
            return [turn["content"] for turn in one["turns"]]

        before = kept()
        page.route("**/v1/chat/completions", lambda route: None)  # never answered
        page.locator(".turn").nth(2).get_by_text("Edit").click()
        page.get_by_label("Change this turn").fill("changed")
        page.keyboard.press("Enter")
        page.wait_for_selector(".growing")
        assert kept() == [*before[:2], "changed"]
        reloaded(page)  # before the answer comes
        assert page.locator(".turn").count() == 3 and len(before) == 4


def test_a_new_answer_that_never_comes_leaves_the_one_that_was_there_and_what_followed(address):
    with browsing(address) as page:
        say(page, "first", 2)
        say(page, "second", 4)
        kept = "localStorage.getItem('lm.conversations')"
        turns = "JSON.stringify(JSON.parse(localStorage.getItem('lm.conversations'))[0].turns)"
        before, whole = page.evaluate(turns), page.evaluate(kept)
        again = page.locator(".turn").nth(1).get_by_text("Regenerate")
        refused = {"status": 429, "json": {"error": {"message": "ask again later"}}}
        page.route("**/v1/chat/completions", lambda route: route.fulfill(**refused))
        again.click()
        page.locator("#note", has_text="ask again later").wait_for()
        settled(page)
        assert page.locator(".turn").count() == 4 and page.evaluate(turns) == before
        page.unroute("**/v1/chat/completions")
        page.route("**/v1/chat/completions", lambda route: None)  # never answered
        again.click()
        page.wait_for_selector(".growing")
        assert page.locator(".turn").count() == 2 and page.evaluate(kept) != "[]"
        page.click("#stop")
        settled(page)
        assert page.locator(".turn").count() == 4 and page.evaluate(turns) == before
        again.click()
        page.wait_for_selector(".growing")
        page.evaluate("keep(open)")  # as somebody does who sets the system prompt meanwhile
        reloaded(page)  # before anything comes
        assert page.locator(".turn").count() == 4 and page.evaluate(turns) == before
        assert len(page.evaluate(kept)) == len(whole)


def test_a_message_that_is_sent_before_the_models_are_known_waits_for_them(address):
    with browsing(address) as page:
        held = []
        page.route("**/v1/models", lambda route: held.append(route))
        page.reload(wait_until="domcontentloaded")
        page.fill("#text", "early")
        page.press("#text", "Enter")
        page.wait_for_timeout(300)
        assert not page.locator(".turn").count() and held
        for route in held:
            route.continue_()
        page.wait_for_selector(".assistant")
        settled(page)
        assert page.locator(".turn").count() == 2 and not page.locator(".fault").count()


def test_an_answer_is_told_once_to_those_who_listen(address):
    with browsing(address) as page:
        say(page, "x", 2)
        answer = page.locator(".assistant .said").evaluate("(node) => node.textContent")
        live = page.locator("#live").evaluate("(node) => node.textContent")
        assert live.split() == answer.split() != []  # a line of blanks alone is not told
        assert page.get_attribute("#live", "aria-live") == "polite"
        assert page.get_attribute("#turns", "aria-live") is None


def test_the_drawer_of_a_phone_keeps_the_keys_and_gives_them_back(address):
    with browsing(address, viewport={"width": 375, "height": 700}) as page:
        focus = "document.activeElement.id || document.activeElement.className"
        within = "document.getElementById('side').contains(document.activeElement)"
        assert page.evaluate("document.getElementById('side').inert")
        page.focus("#menu")
        page.keyboard.press("Enter")
        assert page.evaluate(focus) == "new"
        for _ in range(8):
            page.keyboard.press("Tab")
            assert page.evaluate(within + " || document.activeElement === document.body")
        page.keyboard.press("Escape")
        assert page.evaluate(focus) == "menu"
        assert not page.evaluate("document.querySelector('main').inert")
