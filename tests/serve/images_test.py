"""Images in conversations: over the API, in the engine, and what is no image."""

import base64
import dataclasses
import io
import struct
import subprocess
import sys
import zlib

import jax
import numpy as np
import pytest
from PIL import Image

import lm
from lm.core.errors import ConfigError
from lm.data.images import pixels
from lm.data.visual.example import Given, asked
from lm.data.visual.rows import prompt_ids
from lm.data.visual.turns import turns_of
from lm.decode.images import ImageGenerator
from lm.decode.sampling import SamplingConfig
from lm.serve.conversations import chat_prompt
from lm.serve.engine import Engine
from lm.serve.model import Served
from lm.serve.turns import given
from lm.text.byte import ByteTokenizer
from tests.launched import ROOT, environment
from tests.serve.commands_test import Terminal
from tests.serve.engine_test import GREEDY, PROMPTS
from tests.serve.engine_test import asked as request
from tests.serve.seeing import IMAGE_ID, asking, black, drawn, model, picture, seeing_run, shown
from tests.serve.served import client, listening

pytestmark = pytest.mark.slow  # a run that sees, and a server of it
URL = "/v1/chat/completions"
SIDE, SLOTS = 16, 4


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return seeing_run(tmp_path_factory.mktemp("runs") / "seeing", model())


@pytest.fixture(scope="module")
def seeing(run):
    loaded = lm.load(run)
    engine = Engine(loaded.config.model, loaded.params, slots=2, queue=4).start()
    yield Served("seeing", engine, loaded.tokenizer)
    engine.close(drain=False)


@pytest.fixture(scope="module")
def address(seeing):
    with listening(seeing) as address:
        yield address


def answer(api, *messages, **more):
    body = {"messages": list(messages), "max_tokens": 12, "temperature": 0} | more
    return api.post(URL, json=body)


def said(api, *messages):
    found = answer(api, *messages)
    assert found.status_code == 200, found.text
    return found.json()["choices"][0]["message"]["content"]


def alone(run, question, *contents):
    """What the generator says that `launch.sample --image` and evaluation use."""
    loaded = lm.load(run)
    given = [Given(content, "a.png") for content in contents]
    room = loaded.config.model.text.length - 12
    ids = prompt_ids(asked(question, *given), loaded.tokenizer, IMAGE_ID, SLOTS, room)
    images = np.stack([one.pixels(SIDE) for one in given])
    (row,) = loaded.image_generator()([ids], [images], 12, SamplingConfig(temperature=0))
    return loaded.tokenizer.decode(row)


def test_an_answer_about_images_is_the_one_that_the_model_gives_alone(run, api):
    one, two = picture(1), picture(2)
    first = said(api, asking("what?", one))
    assert first == alone(run, "what?", one)
    assert said(api, asking("what?", one)) == first
    assert said(api, asking("what?", one, two)) == alone(run, "what?", one, two)
    behind = {"role": "user", "content": [{"type": "text", "text": "what?"}, *shown(one)]}
    assert said(api, behind) == first  # as it learned them, images stand before the question


def test_another_image_and_none_at_all_change_what_is_likely(api):
    def likelihoods(*contents):
        found = answer(api, asking("what?", *contents), logprobs=True, max_tokens=1).json()
        return found["choices"][0]["logprobs"]["content"][0]["logprob"]

    one = likelihoods(picture(1))
    assert one == likelihoods(picture(1))  # the control: the same image
    others = [likelihoods(picture(2)), likelihoods(black()), likelihoods()]
    assert min(abs(one - other) for other in others) > 1e-3
    assert len(set(others)) == 3


def test_an_image_is_kept_in_the_conversation(run, api):
    turns = [asking("first", picture(1)), {"role": "assistant", "content": "yes"}]
    older = said(api, *turns, {"role": "user", "content": "what?"})
    assert older == alone(run, "what?", picture(1))
    newer = said(api, *turns, asking("what?", picture(2)))
    assert newer == alone(run, "what?", picture(2))


def test_text_that_spells_the_marker_of_an_image_is_text(api):
    spelled = "<|image|>" * 2
    found = answer(api, {"role": "user", "content": spelled}).json()
    assert found["usage"]["prompt_tokens"] == len(spelled) + 1
    with_one = answer(api, asking(spelled, picture(1))).json()
    assert with_one["usage"]["prompt_tokens"] == len(spelled) + 1 + SLOTS
    ids = {"prompt": [1, *[IMAGE_ID] * SLOTS, 2], "max_tokens": 1}
    refused = api.post("/v1/completions", json=ids)
    assert refused.status_code == 400
    assert "4 places of images for 0 images" in refused.json()["error"]["message"]


def chunk(kind, data):
    code = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", code)


def bomb(width=60_000, height=60_000):
    """A PNG of some bytes that says it has 3.6 billion pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def part(url):
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}


CODED = base64.b64encode(picture()).decode()
WRONG = {
    "empty": (part("data:image/png;base64,"), "empty"),
    "cut short": (asking("x", picture()[:200]), "damaged"),
    "a bomb": (asking("x", bomb()), "million pixels"),
    "no pixels": (asking("x", bomb(0, 5)), "part 1 of message 1"),
    "a GIF": (asking("x", picture(kind="GIF")), "neither PNG nor JPEG"),
    "no image": (asking("x", b"<svg onload=alert(1)>"), "neither PNG nor JPEG"),
    "no base64": (part("data:image/png;base64,%%%"), "no base64"),
    "no kind": (part("data:;base64," + CODED), "comes within the request"),
    "an address": (part("https://example.com/a.png"), "nothing is fetched"),
    "a file": (part("file:///etc/passwd"), "nothing is fetched"),
    "a metadata server": (part("http://169.254.169.254/latest"), "nothing is fetched"),
    "too many": (asking("x", *[black()] * 14), "fewer"),
    "no URL": ({"role": "user", "content": [{"type": "image_url"}]}, "has no URL"),
    "sound": ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "known"),
    "no part": ({"role": "user", "content": ["x"]}, "part 1 of message 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_image_is_refused_in_one_line(api, name):
    message, told = WRONG[name]
    found = answer(api, message)
    assert found.status_code == 400, found.text
    error = found.json()["error"]
    assert told in error["message"] and "\n" not in error["message"] and len(error["message"]) < 250


def test_only_the_users_turns_have_images(api):
    found = answer(api, asking("x", black(), role="system"), {"role": "user", "content": "y"})
    assert found.status_code == 400 and "not the user's" in found.json()["error"]["message"]


def sixteen():
    out = io.BytesIO()
    Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 200).save(out, "PNG")
    return out.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return picture(kind="JPEG", exif=exif)


def animated():
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "PNG", save_all=True, append_images=frames[1:])
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [picture(mode="CMYK", kind="JPEG"), picture(mode="RGBA"), sixteen(), turned(), animated(),
     picture(mode="P"), picture(mode="L", kind="JPEG"), picture(size=(1, 300))],
    ids=["cmyk", "alpha", "sixteen", "turned", "animated", "palette", "grey", "narrow"],
)  # fmt: skip
def test_an_image_of_any_form_is_seen_as_the_readers_of_training_see_it(seeing, content):
    (image,) = seeing_prompt(seeing, content).images
    np.testing.assert_array_equal(image, pixels(content, SIDE, "it"))


def seeing_prompt(seeing, *contents):
    return chat_prompt(seeing, turns_of([asking("what?", *contents)], given), 12)


def test_a_model_of_text_alone_says_that_it_sees_nothing(toy):
    with listening(toy) as address, client(address) as api:
        found = answer(api, asking("what?", black()))
        assert found.status_code == 400
        assert "toy reads text alone" in found.json()["error"]["message"]
        assert api.get("/v1/models").json()["data"][0]["images"] == 0
        # nor does it read bodies that are larger than text is
        large = answer(api, part("data:image/png;base64," + "A" * (1 << 20)))
        assert large.status_code == 413


def test_a_model_of_single_questions_says_that_it_is_told_nothing(seeing, api, monkeypatch):
    told = {"role": "system", "content": "Be brief."}, asking("what?", black())
    found = answer(api, *told)
    assert found.status_code == 400
    assert "leave the system turn out" in found.json()["error"]["message"]
    assert not api.get("/v1/models").json()["data"][0]["dialogue"]
    whole = dataclasses.replace(seeing.sight, dialogue=True)
    monkeypatch.setattr(seeing.engine.reader, "sight", whole)
    assert answer(api, *told).status_code == 200
    assert api.get("/v1/models").json()["data"][0]["dialogue"]


def test_the_terminal_says_of_a_model_of_single_questions_that_it_is_told_nothing(run):
    terminal = Terminal("launch.chat", f"--workdir={run}", "--max_tokens=6")
    terminal.until("> ")
    terminal.type("/system Be brief.\n")
    terminal.until("/system Be brief.\r\n")
    assert "leave the system turn out" in terminal.until("> ")
    terminal.type("/quit\n")
    assert terminal.close() == 0


def test_a_length_without_room_for_an_image_is_one_line():
    config = model()
    params = drawn(config)
    with pytest.raises(ConfigError, match=f"at least {SLOTS + 1}, got {SLOTS}: an image takes"):
        Engine(config, params, length=SLOTS)
    Engine(config, params, length=SLOTS + 1).warm()  # the control


def test_nothing_compiles_for_another_number_of_images(seeing, api):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **_: compiled.append(name) if "backend_compile" in name else None
    )
    for count in (0, 1, 3, 5, 2):
        said(api, asking("what is in them?", *(picture(n) for n in range(count))))
    assert not compiled
    jax.jit(lambda x: x + 54321)(np.float32(1))  # the listener does hear of one
    assert compiled


@pytest.mark.parametrize(
    "mask, piece",
    [("causal", 16), ("causal", 256), ("prefix", 256)],
)
def test_prompts_with_images_among_others_get_the_answers_that_each_gets_alone(mask, piece):
    config = model(mask)
    params = drawn(config)
    engine = Engine(config, params, slots=2, queue=9, piece=piece).start()
    tokenizer = ByteTokenizer()
    images = [pixels(picture(n), SIDE, "it") for n in range(3)]
    slots = [IMAGE_ID] * SLOTS
    ids = [tokenizer.encode("is it ")] * 3
    ids[0] = [*slots, *ids[0], *slots, *ids[0]]  # an image across the end of a piece
    ids[1] = [*ids[1], *slots]
    ids[2] = [*ids[2] * 2, *slots, *slots, *slots, *ids[2]]
    own = [images[:2], images[1:2], images]
    several = [
        request(one, 10, images=some, prefix=len(one)) for one, some in zip(ids, own, strict=True)
    ]
    text = [request(prompt, 12) for prompt in PROMPTS[:2]]
    for one in (several[0], text[0], several[1], text[1], several[2]):
        engine.submit(one)
    generator = ImageGenerator(config, params, end=None)
    for one, prompt, some in zip(several, ids, own, strict=True):
        assert one.tell.tokens() == generator([prompt], [np.stack(some)], 10, GREEDY)[0]
    engine.close()


def test_the_commands_and_openais_client_say_the_same(run, address, tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(picture(1))
    common = [f"--workdir={run}", "--max_tokens=12", "--temperature=0"]
    sampled = subprocess.run(
        [sys.executable, "-m", "launch.sample", f"--image={file}", "--prompt=what?", *common],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    openai = pytest.importorskip("openai")
    official = openai.OpenAI(base_url=address + "/v1", api_key="none", max_retries=0)
    messages = [asking("what?", picture(1))]
    options = {"model": "seeing", "messages": messages, "max_tokens": 12, "temperature": 0}
    whole = official.chat.completions.create(**options).choices[0].message.content
    parts = official.chat.completions.create(stream=True, **options)
    assert "".join(each.choices[0].delta.content or "" for each in parts) == whole
    assert sampled.stdout.removesuffix("\n") == f"what?\n{whole}"
