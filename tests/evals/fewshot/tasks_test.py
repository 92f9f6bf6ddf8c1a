"""GPT-3's tasks: how rows become text, on the published files and on broken ones."""

import gzip
import json
from pathlib import Path

import pytest

from lm.core.errors import DataError
from lm.data.scrambles import SCRAMBLES
from lm.evals.fewshot.evaluation import evaluate
from lm.evals.fewshot.ledger import Ledger
from lm.evals.fewshot.task import first_of
from lm.evals.fewshot.tasks import TASKS, marked
from lm.evals.incontext import Item, Prompt
from lm.evals.protocols import Choose, Write
from lm.text.byte import ByteTokenizer
from tests.evals.told import Told

DATA = Path(__file__).parents[3].parent / "shared" / "data"
NAMED = {task.name: task for task in TASKS}
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the data are not there")

# The right answer of the first row of each file, in the text that an example is.
EXAMPLES = {
    "hellaswag": (
        "Roof shingle removal: A man is sitting on a roof. he starts pulling up roofing on a roof."
    ),
    "piqa": (
        "How do I ready a guinea pig cage for it's new occupants? Provide the guinea pig "
        "with a cage full of a few inches of bedding made of ripped paper strips, you will "
        "also need to supply it with a water bottle and a food dish."
    ),
    "arc_easy": (
        "Question: Which statement best explains why photosynthesis is the foundation of "
        "most food webs?\nAnswer: Sunlight is the source of energy for nearly all "
        "ecosystems."
    ),
    "openbookqa": (
        "Frilled sharks and angler fish live far beneath the surface of the ocean, which is why "
        "they are known as Deep sea animals"
    ),
    "winograd": "The trophy doesn't fit into the brown suitcase because the trophy is too large.",
    "winogrande": (
        "Sarah was a much better surgeon than Maria so Maria always got the easier cases."
    ),
    "copa": "The girl found a bug in her cereal, therefore she lost her appetite.",
    "rte": (
        "No Weapons of Mass Destruction Found in Iraq Yet.\nquestion: Weapons of Mass "
        "Destruction Found in Iraq. True or False?\nanswer: False"
    ),
    "wic": (
        "An emerging professional class.\nApologizing for losing your temper, even though "
        "you were badly provoked, showed real class.\nquestion: Is the word 'class' used "
        "in the same way in the two sentences above?\nanswer: no"
    ),
    "triviaqa": (
        "Q: Brunswick, Lancastrian and Pearl Pickler are types of which vegetable?\n\nA: Onion"
    ),
    "natural_questions": (
        "Q: when was the last time anyone was on the moon?\n\nA: 14 December 1972 UTC"
    ),
    "webquestions": "Q: what kind of money to take to bahamas?\n\nA: Bahamian dollar",
    "lambada": (
        "In my palm is a clear stone, and inside it is a small ivory statuette. A guardian "
        "angel.\n\n\"Figured if you're going to be out at night getting hit by cars, you might as "
        'well have some backup."\n\nI look at him, feeling stunned. Like this is some sort of '
        "sign. But as I stare at Harlin, his mouth curved in a confident grin, I don't care about "
        "____. -> signs"
    ),
    "two_digit_addition": "Q: What is 98 plus 45?\n\nA: 143",
    "reversed_words": "taefed = defeat",
}

# K, what the likelihood is divided by, and the answer context of the choices that are compared
# with one (section 2.4); of a written answer, how it is compared, and the beams (appendix G).
ABOVE, WRITTEN = ("unconditional", "Answer:"), ("verbatim", 4, 0.6)
ASKED = {
    "hellaswag": (20, "token"), "storycloze": (70, "token"), "piqa": (50, "token"),
    "arc_easy": (50, *ABOVE), "arc_challenge": (50, *ABOVE), "openbookqa": (100, *ABOVE),
    "winograd": (7, "token"), "winogrande": (50, "token"), "copa": (32, "token"),
    "sat_analogies": (20, "token"), "rte": (32, "token"), "cb": (32, "token"),
    "wic": (32, "token"), "wsc": (32, "token"), "boolq": (32, "token"),
    "triviaqa": (64, "trivia", 4, 0.6), "natural_questions": (64, "words", 4, 0.6),
    "webquestions": (64, "words", 4, 0.6), "lambada": (15,),
    "race_middle": (10, "unconditional", "A:"), "race_high": (10, "unconditional", "A:"),
    "quac": (5, "left_out", 4, 0.6), "squad2": (16, "squad2", 4, 0.6),
    "coqa": (5, "left_out", 4, 0.6), "drop": (20, "drop", 4, 0.6), "multirc": (32,),
    "record": (32, "token"),
    "wmt14_en_fr": (64, "bleu_intl", 4, 0.6), "wmt14_fr_en": (64, "bleu_intl", 4, 0.6),
    "wmt16_en_de": (64, "bleu_intl", 4, 0.6), "wmt16_de_en": (64, "bleu_intl", 4, 0.6),
    "wmt16_en_ro": (64, "bleu_intl", 4, 0.6), "wmt16_ro_en": (64, "bleu_intl", 4, 0.6),
    "multi30k_en_fr": (64, "bleu_intl", 4, 0.6), "multi30k_fr_en": (64, "bleu_intl", 4, 0.6),
    "two_digit_addition": (50, *WRITTEN), "two_digit_subtraction": (50, *WRITTEN),
    "three_digit_addition": (50, *WRITTEN), "three_digit_subtraction": (50, *WRITTEN),
    "four_digit_addition": (50, *WRITTEN), "four_digit_subtraction": (50, *WRITTEN),
    "five_digit_addition": (50, *WRITTEN), "five_digit_subtraction": (50, *WRITTEN),
    "two_digit_multiplication": (50, *WRITTEN), "single_digit_three_ops": (50, *WRITTEN),
    "cycle_letters_in_word": (100, *WRITTEN), "mid_word_1_anagrams": (100, *WRITTEN),
    "mid_word_2_anagrams": (100, *WRITTEN), "random_insertion_in_word": (100, *WRITTEN),
    "reversed_words": (100, *WRITTEN),
}  # fmt: skip


def test_every_task_is_asked_with_the_examples_and_by_the_rule_of_the_paper():
    def asked(task):
        how = task.protocol
        if isinstance(how, Write):
            return task.shots, how.compare, how.beams, how.length_penalty
        if isinstance(how, Choose):
            above = (how.answer_context,) if how.rule == "unconditional" else ()
            return task.shots, how.rule, *above
        return (task.shots,)

    assert {task.name: asked(task) for task in TASKS} == ASKED


@needs_data
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_the_text_of_the_paper(name):
    assert NAMED[name].read(DATA).items[0].example == EXAMPLES[name]


@needs_data
@pytest.mark.parametrize(
    "task", [task for task in TASKS if task.rows is None], ids=lambda task: task.name
)
def test_every_row_of_the_published_files_is_read(task):
    path = first_of(DATA, task.files)
    if path is None:
        pytest.skip(f"no file of {task.name}")
    read = task.read(DATA)
    with gzip.open(path, "rt") as file:
        rows = sum(1 for line in file if line.strip())
    assert len(read.items) == rows - path.name.endswith(".tsv.gz")
    assert len({item.id for item in read.items}) == len(read.items)
    golds = {item.gold for item in read.items}
    several = max(max(len(item.contexts), len(item.completions)) for item in read.items)
    if task.protocol.metrics[0] == "accuracy" and task.name != "lambada":
        assert golds == set(range(several))  # no answer is right by its place alone


@needs_data
def test_answers_of_trivia_qa_are_compared_by_its_own_rule():
    right = Item(contexts=("Q: What did they play?\n\nA:",), completions=(" Rock-n-Roll",))
    for name, score in (("triviaqa", 1), ("natural_questions", 0)):
        outcome = NAMED[name].protocol.outcome(" rock n roll", Prompt(right, "", 0))
        assert outcome.figures == {"exact_match": score}


def test_lambada_is_a_cloze_with_examples_and_plain_text_without(tmp_path):
    path = tmp_path / "lambada_openai" / "lambada_test.jsonl"
    path.parent.mkdir()
    rows = [{"text": f"Story {n} ends, as they all do, with an end"} for n in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = NAMED["lambada"].read(tmp_path)
    tokenizer = ByteTokenizer()
    with_one = read.prompt(5, 1, 0, tokenizer, 10_000)
    without = read.prompt(5, 0, 0, tokenizer, 10_000)
    assert with_one.contexts[0].endswith(" ____. ->") and with_one.shots == 1
    assert with_one.contexts[0].count(" ____. -> ") == 1  # of the example
    assert with_one.contexts[0].startswith("Fill in blank:\n\n")
    assert with_one.contexts[0].count("Fill in blank:") == 1
    plain = with_one.item.contexts[0].removesuffix(" ____. ->")
    assert without.contexts == (plain,)
    assert with_one.item.completions == without.item.completions


def test_the_commitment_bank_has_the_mean_f1_of_its_classes(tmp_path):
    path = tmp_path / "superglue_cb" / "val.jsonl"
    path.parent.mkdir()
    labels = 6 * ["entailment"] + 3 * ["contradiction"] + ["neutral"]
    rows = [{"premise": f"{n}", "hypothesis": "so", "label": it} for n, it in enumerate(labels)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Ledger(tmp_path / "a.jsonl") as ledger:
        asked = {"scorer": Told(), "model": "m", "seed": 0, "limit": None, "ledger": ledger}
        found = evaluate(NAMED["cb"].read(tmp_path), 0, **asked)
    # to which all words are as likely, so that it says the first
    assert found.metric == "accuracy" and found.mean()[0] == 0.6
    f1, error = found.mean(metric="macro_f1")
    assert f1 == pytest.approx((2 * 6 / (10 + 6)) / 3)  # of the other two classes it is 0
    assert error > 0


@needs_data
def test_the_pronoun_of_a_schema_is_marked():
    item = NAMED["wsc"].read(DATA).items[1]
    assert "that *his* financial" not in item.contexts[0]
    assert item.contexts[0].startswith("Passage: Mr. Moncrieff visited Chester 's luxurious")
    assert "he no longer requires *his* financial support." in item.contexts[0]
    assert item.contexts[0].endswith('does the pronoun "*his*" refer to Mr. Moncrieff?\nAnswer:')


@pytest.mark.parametrize("word", ["he's", "he’s", "“he's,", "he.", "(he)"])
def test_a_pronoun_is_found_behind_its_marks_and_before_its_verb(word):
    target = {"span2_text": "he", "span2_index": 2}
    told = marked({"text": f"Tom said {word} ill, she's not", "target": target})
    assert told == (f"Tom said {word.replace('he', '*he*')} ill, she's not", "he")
    with pytest.raises(ValueError, match='no word "it"'):
        marked({"text": f"Tom said {word} ill", "target": target | {"span2_text": "it"}})


@needs_data
def test_word_tasks_are_described_and_stand_on_lines():
    prompt = NAMED["reversed_words"].read(DATA).prompt(0, 2, 0, ByteTokenizer(), 10_000)
    first, *lines = prompt.contexts[0].split("\n")
    assert first == "Please unscramble the letters into a word, and write that word:"
    assert len(lines) == 3 and all(" = " in line for line in lines[:2]) and lines[2].endswith(" =")


def test_examples_are_of_the_training_part_where_there_is_one(tmp_path):
    folder = tmp_path / "copa"
    folder.mkdir()

    def write(name, letters):
        rows = [{"query": f"{a}, so", "choices": ["x", "y"], "gold": 0} for a in letters]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    write("copa.jsonl", "abc")
    read = NAMED["copa"].read(tmp_path)
    shown = {read.prompt(0, 2, seed, ByteTokenizer(), 999).prefix[0] for seed in range(9)}
    assert shown == {"b", "c"}  # the other items, never the item itself
    write("train.jsonl", "xyz")
    read = NAMED["copa"].read(tmp_path)
    shown = {read.prompt(0, 1, seed, ByteTokenizer(), 999).prefix[0] for seed in range(20)}
    assert shown == {"x", "y", "z"}


TWIN = {"context_options": ["It fits not, as the box", "It fits not, as the cup"], "gold": 0}
SCHEMA = {"text": "The box fits not in the cup, as it is big.", "label": "true"}
SAME = {  # a row, and how another on the same passage differs
    "winograd": ({**TWIN, "continuation": "is big."}, {"continuation": "is small.", "gold": 1}),
    "winogrande": ({**TWIN, "continuation": "is big."}, {"continuation": "is small.", "gold": 1}),
    "wsc": (
        {**SCHEMA, "target": {"span1_text": "box", "span2_text": "it", "span2_index": 8}},
        {"text": SCHEMA["text"].replace("cup,", "cup ,")},
    ),
    "cb": (
        {"premise": "It is big.", "hypothesis": "It is", "label": "neutral"},
        {"label": "neutral"},
    ),
    "boolq": (
        {"passage": "It is big.", "question": "is it", "label": True},
        {"question": "isn't it"},
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_no_example_is_of_the_items_own_passage_nor_its_twin(name, tmp_path):
    row, changed = SAME[name]
    other = json.loads(json.dumps(row).replace("big", "red").replace("It ", "She "))
    if "context_options" in other:
        other["context_options"] = ["She is ill, as Ann", "She is ill, as Eve"]
    path = tmp_path / NAMED[name].files[0]
    path.parent.mkdir()
    path.write_text("".join(json.dumps(each) + "\n" for each in (row, row | changed, other)))
    read = NAMED[name].read(tmp_path)
    for number in (0, 1):
        prompt = read.prompt(number, 9, 0, ByteTokenizer(), 9999)
        assert prompt.shots == 1 and prompt.prefix == read.items[2].example + "\n\n"
    assert read.prompt(2, 9, 0, ByteTokenizer(), 9999).shots == 2
    assert len({item.group for item in read.items}) == 2


@needs_data
def test_questions_on_one_passage_of_the_files_at_hand_are_one_group():
    groups = {name: len({item.group for item in NAMED[name].read(DATA).items}) for name in SAME}
    assert groups == {"winograd": 135, "winogrande": 745, "wsc": 36, "cb": 41, "boolq": 2179}


@pytest.mark.parametrize("folder", ["glue_rte", "rte", "superglue_cb", "cb"])
def test_sentence_pairs_are_asked_of_the_dev_set_and_their_examples_are_of_the_training_part(
    folder, tmp_path
):
    (tmp_path / folder).mkdir()

    def write(name, word):
        path = tmp_path / folder / name
        if name.endswith(".tsv"):
            rows = [f"{n}\t{word}.\tIt is.\tentailment\n" for n in range(3)]
            path.write_text("".join(["index\tsentence1\tsentence2\tlabel\n", *rows]))
        else:
            row = {"premise": f"{word}.", "hypothesis": "It is", "label": "neutral"}
            path.write_text(f"{json.dumps(row)}\n" * 3)

    task, asked, shown = (
        ("rte", "dev.tsv", "train.tsv") if "rte" in folder else ("cb", "val.jsonl", "train.jsonl")
    )
    write(asked, "asked")
    write(shown, "shown")
    read = NAMED[task].read(tmp_path)
    assert {item.contexts[0].split(".")[0] for item in read.items} == {"asked"}
    assert {item.contexts[0].split(".")[0] for item in read.pool} == {"shown"}
    if folder == "glue_rte":  # whose training rows stand in where there is no dev set
        (tmp_path / folder / asked).unlink()
        read = NAMED[task].read(tmp_path)
        assert len(read.items) == 3 and read.pool == ()  # the other items


def test_a_story_has_two_ends_and_examples_of_its_validation_part(tmp_path):
    folder = tmp_path / "storycloze"
    folder.mkdir()
    columns = ["InputStoryid", *(f"InputSentence{k}" for k in (1, 2, 3, 4))]
    columns += ["RandomFifthSentenceQuiz1", "RandomFifthSentenceQuiz2", "AnswerRightEnding"]
    row = 'a,Bob drove.,"He, alone, slept.",He woke.,He ate.,He sank.,He left.,2'
    for name in ("test", "val"):
        text = ",".join(columns) + "\n" + row.replace("Bob", name) + "\n"
        (folder / f"cloze_test_{name}__spring2016.csv").write_text(text)
    prompt = NAMED["storycloze"].read(tmp_path).prompt(0, 70, 0, ByteTokenizer(), 999)
    assert prompt.contexts[0] == (
        "val drove. He, alone, slept. He woke. He ate. He left.\n\n"
        "test drove. He, alone, slept. He woke. He ate."
    )
    assert prompt.item.completions == (" He sank.", " He left.") and prompt.item.gold == 1


def test_arithmetic_and_scrambled_words_are_made_where_no_file_is_and_others_are_not(tmp_path):
    read = NAMED["five_digit_subtraction"].read(tmp_path)
    assert read.generated and len(read.items) == 2000
    assert read.items[0].contexts[0].startswith("Q: What is ")
    for name in SCRAMBLES:
        read = NAMED[name].read(tmp_path)
        assert read.generated and len({item.completions for item in read.items}) == 2000
    item = read.items[0]
    assert (name, item.id) == ("reversed_words", "reversed_words:0")
    assert item.contexts[0] == f"{item.completions[0].strip()[::-1]} ="
    prompt = read.prompt(0, 1, 0, ByteTokenizer(), 10_000)
    assert prompt.contexts[0].endswith(f"\n{item.contexts[0]}")
    with pytest.raises(DataError, match=r"no file of piqa .*; leave the task out"):
        NAMED["piqa"].read(tmp_path)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"query": "a, so", "choices": ["x", "y"], "gold": 2}, "number 2, there are 2"),
        ({"query": "a, so", "choices": "xy", "gold": 0}, "expected some texts"),
        ({"query": "a, so", "choices": ["x", ""], "gold": 0}, "expected text"),
        ({"query": 7, "choices": ["x", "y"], "gold": 0}, "expected text"),
        ({"query": "a, so \ud800", "choices": ["x", "y"], "gold": 0}, "UnicodeEncodeError"),
        ({"query": "a, so", "gold": 0}, "KeyError"),
        ({"query": "a, so", "choices": ["x", "y"], "gold": None}, "TypeError"),
    ],
)
def test_a_malformed_item_is_named_by_file_and_line(tmp_path, row, reason):
    path = tmp_path / "copa" / "copa.jsonl"
    path.parent.mkdir()
    good = {"query": "a, so", "choices": ["x", "y"], "gold": 1}
    path.write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError) as error:
        NAMED["copa"].read(tmp_path)
    assert str(error.value).startswith(f"{path}:2: not a row of copa") and reason in str(
        error.value
    )
    path.write_text(json.dumps(good) + "\n{broken\n")
    with pytest.raises(DataError, match="copa.jsonl:2: not JSON; mend the row"):
        NAMED["copa"].read(tmp_path)


def test_a_smaller_limit_takes_a_part_of_what_a_larger_one_takes(tmp_path):
    read = NAMED["two_digit_addition"].read(tmp_path)
    assert set(read.chosen(10)) < set(read.chosen(50)) < set(read.chosen(None))
    assert read.chosen(10) != list(range(10))
    assert read.chosen(10**6) == list(range(2000))
