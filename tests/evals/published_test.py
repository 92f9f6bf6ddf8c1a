"""The paper's figures by task, setting and size."""

import re
from pathlib import Path

import numpy as np
import pytest

from lm.evals.published import figures, nearest, of_case, one
from lm.studies.alignment_report import is_tax, published
from lm.studies.capacity_report import paper_cells, paper_means

ROOT = Path(__file__).parents[2]
SIZES = {
    row["system"]: row["value"]
    for row in figures()
    if row["family"] == "gpt3" and row["task"] == "size"
}


def means(setting: str) -> list[float]:
    """Over the 21 tasks of table H.1, by size."""
    rows = [r for r in figures() if r["source"] == "GPT-3 table H.1" and r["setting"] == setting]
    assert len(rows) == 21 * 8
    return [round(100 * np.mean([r["value"] for r in rows if r["system"] == s]), 1) for s in SIZES]


def test_means_of_table_h1_are_those_that_were_derived_from_it():
    assert means("zero") == [36.6, 42.5, 45.8, 48.5, 51.7, 53.6, 56.5, 60.7]
    assert means("one") == [35.6, 42.3, 46.2, 49.3, 53.3, 55.6, 58.2, 63.9]
    assert means("few") == [35.8, 42.9, 48.5, 51.3, 56.5, 58.6, 61.7, 67.4]


@pytest.mark.parametrize(
    ("parameters", "system"),
    [(1, "GPT-3 Small"), (124_439_808, "GPT-3 Small"), (210_000_000, "GPT-3 Small"),
     (213_000_000, "GPT-3 Medium"), (1_557_611_200, "GPT-3 XL"), (10**15, "GPT-3 175B")],
)  # fmt: skip
def test_the_nearest_size_is_nearest_in_logarithm(parameters, system):
    row = nearest("gpt3", "hellaswag", "accuracy", "few", parameters)
    assert row["system"] == system and row["parameters"] == SIZES[system]


def test_a_figure_is_the_papers_and_an_absent_one_is_none():
    assert nearest("gpt3", "arc_challenge", "accuracy", "one", 1_300_000_000)["value"] == 0.364
    assert nearest("gpt3", "two_digit_addition", "exact_match", "zero", 10**6)["value"] == 0.769
    assert nearest("gpt3", "wic", "accuracy", "zero", 10**9) is None
    assert nearest("gpt3", "hellaswag", "answer_f1", "few", 10**9) is None


def test_every_figure_of_gpt4s_page_and_its_mmlu_are_there():
    found = {
        (row["family"], row["task"]): row["value"] for row in figures() if row["system"] == "GPT-4"
    }
    page = {task: value for (family, task), value in found.items() if family == "gpt4_vision"}
    assert page == {
        "vqav2": 0.772, "textvqa": 0.78, "chartqa": 0.785, "ai2d": 0.782, "docvqa": 0.884,
        "infographicvqa": 0.751, "tvqa": 0.873, "lsmdc": 0.457,
    }  # fmt: skip
    assert found["gpt4", "mmlu"] == 0.864


def test_gpt3_s_penn_treebank_stands_with_gpt2_s_whose_protocol_it_is():
    row = nearest("gpt2", "ptb", "word_perplexity", "zero", 174_604_259_328)
    assert (row["value"], row["system"]) == (20.5, "GPT-3 175B")
    row = nearest("gpt2", "ptb", "word_perplexity", "zero", 1_557_611_200)
    assert (row["value"], row["system"]) == (35.76, "GPT-2 XL")
    row = nearest("gpt2", "wikitext2", "word_perplexity", "zero", 174_604_259_328)
    assert row["system"] == "GPT-2 XL"  # the one figure of GPT-3 there


def told(family, task):
    return {
        (row["system"], row.get("setting")): (row["value"], row.get("error"))
        for row in figures() if (row["family"], row["task"]) == (family, task)
    }  # fmt: skip


def test_what_instructgpt_says_of_people_is_there_with_its_errors():
    best, small = ("PPO-ptx 175B", None), ("PPO-ptx 1.3B", None)
    assert told("instructgpt", "preferred_to_gpt3") == {best: (0.85, 0.03), small: (0.5, None)}
    assert told("instructgpt", "preferred_to_few_shot_gpt3") == {best: (0.71, 0.04)}
    assert told("instructgpt", "preferred_to_flan") == {best: (0.78, 0.04)}
    assert told("instructgpt", "preferred_to_t0") == {best: (0.79, 0.04)}
    assert told("instructgpt", "comparisons") == {
        ("RM 6B, labelers of its training", None): (0.724, 0.004),
        ("RM 6B, held-out labelers", None): (0.696, 0.009),
    }
    assert told("instructgpt", "closed_domain") == {
        ("InstructGPT", None): (0.21, None), ("GPT-3", None): (0.41, None)
    }  # fmt: skip
    assert told("instructgpt", "toxicity") == {("InstructGPT", None): (-0.25, None)}
    assert told("instructgpt", "labelers") == {
        ("training labelers", None): (0.726, 0.015), ("held-out labelers", None): (0.773, 0.013)
    }  # fmt: skip
    page = published()
    assert "0.726 ± 0.015" in page and "prompts" not in page and "share" not in page
    assert "0.780 ± 0.040" in page and "0.696 ± 0.009" in page and ">0.410<" in page


def test_what_instructgpt_says_of_its_prompts_and_of_what_training_costs_is_there():
    shares = told("instructgpt_data", "use_cases")
    assert len(shares) == 10 and shares["generation", None] == (0.456, None)
    assert sum(value for value, _ in shares.values()) == pytest.approx(0.999)  # as it is printed
    counts = {
        task: {key: value for key, (value, _) in told("instructgpt_data", task).items()}
        for task in ("sft", "reward", "ppo", "training")
    }
    people, customers = ("labelers", "train"), ("customers", "train")
    assert counts["sft"][people] + counts["sft"][customers] == 12_725
    assert counts["reward"][people] + counts["reward"][customers] == 33_207
    assert counts["ppo"] == {customers: 31_144, ("customers", "valid"): 16_185}
    held_out = {task: sum(value for (_, part), value in found.items() if part == "valid")
                for task, found in counts.items()}  # fmt: skip
    assert held_out == {"sft": 1_653, "reward": 17_887, "ppo": 16_185, "training": 0}
    assert list(counts["training"].values()) == [4.9, 60, 3640]


def test_what_gpt4s_report_says_of_exams_people_and_calibration_is_there():
    exam = told("gpt4", "bar_exam")
    assert {system: 400 * value for (system, _), (value, _) in exam.items()} == {
        "GPT-4": 298, "GPT-3.5": 213
    }  # fmt: skip
    assert told("gpt4", "preferred_to_gpt35") == {("GPT-4", None): (0.702, None)}
    assert told("gpt4", "calibration") == {
        ("GPT-4", "before RLHF"): (0.007, None), ("GPT-4", "after RLHF"): (0.074, None)
    }  # fmt: skip


def test_paligemmas_figures_are_there_at_every_resolution():
    found: dict[str, list[float]] = {}
    for row in figures():
        if row["system"].startswith("PaliGemma"):
            found.setdefault(row["task"], []).append(round(100 * row["value"], 2))
    assert found == {
        "chartqa": [57.08, 71.36], "textvqa": [55.47, 73.15, 76.48],
        "docvqa": [43.74, 78.02, 84.77], "ai2d": [72.12, 73.28], "vqav2": [83.19, 85.64],
        "ocrvqa": [73.24, 75.6, 75.9], "coco": [141.9, 144.6],
    }  # fmt: skip


def test_the_tax_of_instructgpt_and_its_repair_are_the_papers():
    f1 = {row["system"].split()[0]: row["value"] for row in figures() if is_tax(row)}
    assert f1 == {"GPT": 0.643, "SFT": 0.5767, "PPO": 0.4368, "PPO-ptx": 0.5985}
    assert f1["PPO"] < f1["SFT"] < f1["PPO-ptx"] < f1["GPT"]


def test_the_study_of_capacity_draws_the_means_of_table_h1_beside_its_own():
    for band in paper_means():
        assert [round(100 * mean, 1) for mean in band.mean] == means(band.label)
        assert list(band.x) == list(SIZES.values())
    assert paper_cells() == "87 and 129 of 168"  # counted by hand


def test_published_values_that_once_stood_in_code_stand_in_the_file_alone():
    values = r"(?<![\w.])(18\.4|2\.85|1\.4697|1\.88|2\.57|0\.048|36\.6|67\.4)(?![\w%])"
    folders = ("experiments", "launch", "lm/studies", "lm/evals")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    code = {path: re.sub(r'"""(?s:.*?)"""|#.*', "", path.read_text()) for path in files}
    assert not [path for path, text in code.items() if re.search(values, text)]


def test_the_ablations_of_gpt1_have_the_averages_that_its_table_5_prints():
    rows = [row for row in figures() if row["family"] == "gpt1_ablation"]
    for system in ("GPT-1 from scratch", "no auxiliary loss", "LSTM"):
        mine = [row["value"] for row in rows if row["system"] == system]
        *tasks, average = mine
        assert len(tasks) == 8 and average == pytest.approx(np.mean(tasks), abs=1e-3)
    full = one("gpt1_ablation", "glue", "average", "GPT-1")["value"]
    assert full - one("gpt1_ablation", "glue", "average", "LSTM")["value"] == pytest.approx(0.056)


def test_what_bert_and_gpt1_publish_beyond_single_tasks_is_there():
    def values(*of):
        return {
            (row["system"], row["source"].split(", ")[-1]): row["value"] for row in figures()
            if (row["family"], row["task"], row["metric"]) == of
        }  # fmt: skip

    readme = "google-research/bert README"
    assert values("bert", "glue", "average") == {
        ("BERT Base", "test"): 0.796, ("BERT Large", "test"): 0.821,
        ("BERT Tiny", readme): 0.642, ("BERT Mini", readme): 0.658,
        ("BERT Small", readme): 0.712, ("BERT Medium", readme): 0.735,
    }  # fmt: skip
    assert one("bert", "glue", "leaderboard", "BERT Large")["value"] == 0.805
    assert values("bert", "swag", "accuracy")["BERT Large", "test"] == 0.863
    assert list(values("bert", "masked_words", "perplexity").values()) == [5.84, 3.99, 3.23]
    assert values("bert", "conll2003", "entity_f1")["BERT Base, feature-based", "dev"] == 0.961
    mixed, every = "80% masked, 10% kept, 10% random", "100% masked"
    assert one("bert_masking", "mnli", "accuracy", mixed)["value"] == 0.842
    assert told("bert_masking", "conll2003") == {
        (mixed, "fine-tuned"): (0.954, None), (every, "fine-tuned"): (0.949, None),
        (mixed, "feature-based"): (0.949, None), (every, "feature-based"): (0.94, None),
    }  # fmt: skip
    assert one("gpt1", "glue", "average", "GPT-1")["value"] == 0.728
    assert list(values("gpt1", "storycloze", "accuracy").values()) == [0.865, 0.858]


def test_a_case_of_a_study_has_the_figures_of_its_name_or_of_its_family():
    def told(*case):
        return [(row["system"], row["value"]) for row in of_case(*case)]

    assert told("sst2", "accuracy", "BERT") == [("BERT Base", 0.935), ("BERT Large", 0.949)]
    assert told("sst2", "accuracy", "GPT-1") == [("GPT-1", 0.913)]
    assert told("sst2", "accuracy", "GPT-1 from scratch") == [("GPT-1 from scratch", 0.84)]
    assert told("squad", "answer_f1", "left to right") == [("left to right", 0.778)]
    table5 = ("masked words and next sentence", "masked words", "left to right")  # of BERT
    assert [told("qnli", "accuracy", case)[0][1] for case in table5] == [0.884, 0.849, 0.843]
    assert not told("sst2", "accuracy", "BERT from scratch")


def test_a_figure_that_is_not_there_once_is_named():
    with pytest.raises(LookupError, match="has 0 figures of .*'GPT-9'"):
        one("gpt1", "sst2", "accuracy", "GPT-9")
