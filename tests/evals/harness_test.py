"""lm-evaluation-harness reads our models, and says of an item what our scorer says of it."""

import importlib.util
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from lm.core.errors import ConfigError
from tests.evals.zeroshot.writers import Writer
from tests.launched import ROOT, environment, one_line, run, write_text

ITEMS = [
    {"text": f"the {one} sat on a {two} and then it ran", "ends": [" cat", " mat", " then"], "n": n}
    for n, (one, two) in enumerate([("cat", "mat"), ("mat", "cat"), ("cat", "cat"), ("on", "the")])
]
SHARED = """
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
"""
TASKS = {
    "mine_last_word": """
output_type: loglikelihood
doc_to_text: "{{text.split(' ')[:-1]|join(' ')}}"
doc_to_target: "{{' '+text.split(' ')[-1]}}"
metric_list: [{metric: perplexity}, {metric: acc}]
""",
    "mine_choice": """
output_type: multiple_choice
doc_to_text: "{{text}}"
doc_to_choice: "{{ends}}"
doc_to_target: "{{n % 3}}"
target_delimiter: ""
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
    "mine_rolling": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text + ' ' + text + ' ' + text}}"
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
""",
    "mine_written": """
output_type: generate_until
doc_to_text: "{{text}}"
doc_to_target: "a"
generation_kwargs: {until: [" and"], max_gen_toks: 12}
metric_list: [{metric: exact_match}]
""",
}


def harness(*words, cwd=ROOT, home="."):
    quiet = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-m", "lm.evals.harness", *map(str, words)], cwd=cwd,
        env=environment() | quiet,
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is not None, reason="lm-eval is here")
def test_a_missing_lm_eval_is_told_with_the_extra():
    one_line(harness("run", "--model", "lm"), 1, "pip install 'lm[eval]'")


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not here")
def test_settings_of_generation_are_understood_or_refused():
    from lm.evals.harness_model import HarnessModel, read_settings

    greedy = {"until": ["\n", ""], "do_sample": False, "temperature": 0.7, "max_gen_toks": 9}
    assert read_settings(greedy) == {
        "tokens": 9, "stop": ("\n",), "temperature": 0.0, "top_k": None, "top_p": None,
    }  # fmt: skip
    assert read_settings({"do_sample": True, "top_k": 2})["temperature"] == 1.0
    assert read_settings({"until": "."})["stop"] == (".",)
    assert read_settings({"do_sample": True, "temperature": 0.2, "top_p": 0.95})["top_p"] == 0.95
    with pytest.raises(ConfigError, match="no setting num_beams; known: do_sample"):
        read_settings({"num_beams": 4})

    model = HarnessModel(Writer(lambda prompt: " yes. No", length=20))
    requests = [
        SimpleNamespace(args=("A long text, and its é end", {"until": ["."], "max_gen_toks": 12})),
        SimpleNamespace(args=("Q", {"max_gen_toks": 5})),
    ]
    assert model.generate_until(requests) == [" yes", " yes. No"]
    assert [one["prompts"] for one in model.scorer.asked] == [["s é end"], ["Q"]]
    with pytest.raises(ConfigError, match="max_gen_toks is 256 and the model's context 20"):
        model.generate_until([SimpleNamespace(args=("Q", {}))])


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not here")
def test_a_chat_template_is_refused_with_the_way_by_a_server():
    from lm.evals.harness_model import HarnessModel

    model = HarnessModel(Writer(lambda prompt: " yes"))
    with pytest.raises(ConfigError, match=r"launch\.serve .* --model local-chat-completions"):
        model.apply_chat_template([{"role": "user", "content": "Hello"}])


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not here")
def test_a_rolling_likelihood_is_of_windows_as_long_as_the_context():
    from lm.evals.harness_model import HarnessModel

    strides = []

    def rolling(ids, *, stride=None):
        strides.append(stride)
        return np.full(len(ids), 0.5)

    scorer = SimpleNamespace(length=7, tokenizer=Writer.tokenizer, rolling=rolling)
    asked = [SimpleNamespace(args=("abcdefghij",))]
    assert HarnessModel(scorer).loglikelihood_rolling(asked) == [-5.0] and strides == [7]


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed (lm[eval])"
)
def test_every_item_has_the_number_that_our_scorer_gives_it(tmp_path):
    import lm
    from lm.evals.scorer import Request

    text = write_text(tmp_path / "text.txt")
    workdir = tmp_path / "run"
    trained = run(text, workdir, **{"model.length": 64, "steps": 20, "loop.save_every": 20})
    assert trained.returncode == 0, trained.stderr
    data = tmp_path / "items.jsonl"
    data.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    for name, yaml in TASKS.items():
        shared = SHARED.replace("DATA", str(data))
        (tmp_path / f"{name}.yaml").write_text(f"task: {name}\n{shared}{yaml}")

    out = tmp_path / "out"
    done = harness(
        "run", "--model", "lm", "--model_args", f"workdir={workdir}", "--include_path", tmp_path,
        "--tasks", ",".join(TASKS), "--output_path", out, "--log_samples", home=tmp_path / "hf",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = (json.loads(path.read_text())["results"] for path in out.rglob("results_*.json"))
    found = {}
    for name in TASKS:
        (path,) = out.rglob(f"samples_{name}_*.jsonl")
        rows = sorted(map(json.loads, path.read_text().splitlines()), key=lambda row: row["doc_id"])
        found[name] = [row["resps"] for row in rows]

    scorer = lm.load(workdir).scorer()
    words = [item["text"].rpartition(" ") for item in ITEMS]
    ours = scorer.scores([Request(before, f" {word}") for before, _, word in words])
    theirs = [float(row[0][0][0]) for row in found["mine_last_word"]]
    np.testing.assert_allclose(theirs, [one.log_likelihood for one in ours], rtol=1e-5)
    assert results["mine_last_word"]["acc,none"] == np.mean([one.greedy for one in ours])
    assert results["mine_last_word"]["perplexity,none"] == pytest.approx(
        np.exp(-np.mean([one.log_likelihood for one in ours])), rel=1e-5
    )

    right = []
    for item, row in zip(ITEMS, found["mine_choice"], strict=True):
        ours = scorer.scores([Request(item["text"], end) for end in item["ends"]])
        values = [one.log_likelihood for one in ours]
        np.testing.assert_allclose([float(one[0][0]) for one in row], values, rtol=1e-5)
        right.append(np.argmax(values) == item["n"] % 3)
    assert results["mine_choice"]["acc,none"] == np.mean(right)

    for item, row in zip(ITEMS, found["mine_rolling"], strict=True):
        ids = scorer.tokenizer.encode(" ".join([item["text"]] * 3))
        assert len(ids) > 64
        whole = scorer.rolling(ids, stride=64)
        assert float(row[0][0]) == pytest.approx(-whole.sum(), rel=5e-6)
        # the control: more of what stands before gives another number
        assert float(row[0][0]) != pytest.approx(-scorer.rolling(ids, stride=8).sum(), rel=2e-5)

    ours = scorer.generate([item["text"] for item in ITEMS], 12, stop=(" and",))
    assert [row[0][0] for row in found["mine_written"]] == ours

    wrong = harness("run", "--model", "lm", "--model_args", "step=1", "--tasks", "mine_choice",
                    "--include_path", tmp_path, home=tmp_path / "hf")  # fmt: skip
    one_line(wrong, 1, "workdir=RUN")
