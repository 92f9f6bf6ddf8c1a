"""Published figures as the papers' tables print them, typed a second time."""

import hashlib

import pytest

from lm.evals.published import figures

BERT = ("BERT Base", "BERT Large")
OBJECTIVES = ("masked words and next sentence", "masked words", "left to right")
GPT1 = ("GPT-1", "GPT-1 from scratch", "no auxiliary loss", "LSTM")
GPT2 = ("GPT-2 small", "GPT-2 medium", "GPT-2 large", "GPT-2 XL")
ATTENTION = ("Sparse Transformer, fixed", "Sparse Transformer, strided", "dense attention")
GPT3 = tuple(f"GPT-3 {n}" for n in "Small Medium Large XL 2.7B 6.7B 13B 175B".split())
SETTINGS = ("zero", "one", "few")  # of GPT-3 175B

# Family and source in the file, what its values are multiplied by, and the columns; a line is a
# task, a metric and, where it is no column, a setting. "-" is what is not printed.
TABLES = (
    ("bert", "BERT table 1, test", 100, BERT, """
mnli accuracy 84.6 86.7
mnli_mismatched accuracy 83.4 85.9
qqp f1 71.2 72.1
qnli accuracy 90.5 92.7
sst2 accuracy 93.5 94.9
cola matthews 52.1 60.5
stsb spearman 85.8 86.5
mrpc f1 88.9 89.3
rte accuracy 66.4 70.1
glue average 79.6 82.1
"""),
    ("bert", "BERT table 2, dev", 100, BERT, """
squad exact_match 80.8 84.1
squad answer_f1 88.5 90.9
"""),
    ("bert", "BERT table 3, dev", 100, BERT[1:], """
squad2 exact_match 78.7
squad2 answer_f1 81.9
"""),
    ("bert", "BERT table 4, dev", 100, BERT, """
swag accuracy 81.6 86.6
"""),
    ("bert", "BERT table 7, test", 100, BERT, """
conll2003 entity_f1 92.4 92.8
"""),
    ("bert_ablation", "BERT table 5, Base, dev", 100, OBJECTIVES, """
mnli accuracy 84.4 83.9 82.1
qnli accuracy 88.4 84.9 84.3
mrpc accuracy 86.7 86.5 77.5
sst2 accuracy 92.7 92.6 92.1
squad answer_f1 88.5 87.9 77.8
"""),
    ("gpt1", "GPT-1 table 2", 100, GPT1[:1], """
mnli accuracy 82.1
mnli_mismatched accuracy 81.4
snli accuracy 89.9
scitail accuracy 88.3
qnli accuracy 88.1
rte accuracy 56.0
"""),
    ("gpt1", "GPT-1 table 3", 100, GPT1[:1], """
storycloze accuracy 86.5
race_middle accuracy 62.9
race_high accuracy 57.4
race accuracy 59.0
"""),
    ("gpt1", "GPT-1 table 4", 100, GPT1[:1], """
cola matthews 45.4
sst2 accuracy 91.3
mrpc f1 82.3
stsb pearson 82.0
qqp f1 70.3
glue average 72.8
"""),
    ("gpt1_ablation", "GPT-1 table 5, of its eight tasks", 100, GPT1, """
glue average 74.7 59.9 75.0 69.1
"""),
    ("gpt2", "GPT-2 table 3", 1, GPT2, """
lambada_paper perplexity zero 35.13 15.60 10.87 8.63
lambada_paper accuracy zero .4599 .5548 .6012 .6324
wikitext2 word_perplexity zero 29.41 22.76 19.93 18.34
wikitext103 word_perplexity zero 37.50 26.37 22.05 17.48
ptb word_perplexity zero 65.85 47.33 40.31 35.76
lm1b word_perplexity zero 75.20 55.72 44.575 42.16
enwik8 bits_per_byte zero 1.16 1.01 0.97 0.93
text8 bits_per_byte zero 1.17 1.06 1.02 0.98
"""),
    ("gpt2", "GPT-2 table 3, validation", 100, GPT2, """
cbt_cn accuracy zero 87.65 92.35 93.45 93.30
cbt_ne accuracy zero 83.4 87.1 88.0 89.05
"""),
    ("gpt2", "GPT-2 table 4", 100, GPT2[3:], """
cnn_dailymail rouge1 zero 29.34
cnn_dailymail rouge2 zero 8.27
cnn_dailymail rougeL zero 26.58
cnn_dailymail rouge zero 21.40
cnn_dailymail rouge_no_hint zero 15.03
cnn_dailymail rouge_random_3 zero 20.98
cnn_dailymail rouge_lede_3 zero 31.55
"""),
    ("gpt2", "GPT-2 section 3.3", 100, GPT2[3:], """
lambada_paper accuracy_no_filter zero 52.66
"""),
    ("gpt2", "GPT-2 section 3.4, of full and partial the better", 100, GPT2[3:], """
winograd accuracy_partial zero 70.70
"""),
    ("gpt2", "GPT-2 section 3.5, dev", 100, GPT2[3:], """
coqa f1 zero 55
"""),
    ("gpt2", "GPT-2 section 3.7", 100, GPT2[3:], """
wmt14_en_fr bleu zero 5
wmt14_fr_en bleu zero 11.5
"""),
    ("gpt2", "GPT-2 section 3.8", 100, GPT2[3:], """
natural_questions exact_match zero 4.1
natural_questions exact_match_sure zero 63.1
"""),
    ("gpt2", "lm-evaluation-harness issues 2159 and 911", 1, GPT2[::3], """
lambada_harness perplexity zero 40.06 10.63
"""),
    ("gpt2", "lm-evaluation-harness issue 2159", 100, GPT2[:1], """
lambada_harness accuracy zero 32.56
"""),
    ("gpt3", "GPT-3 table 3.9", 100, SETTINGS, """
two_digit_addition exact_match 76.9 99.6 100
two_digit_subtraction exact_match 58.0 86.4 98.9
three_digit_addition exact_match 34.2 65.5 80.4
three_digit_subtraction exact_match 48.3 78.7 94.2
four_digit_addition exact_match 4.0 14.0 25.5
four_digit_subtraction exact_match 7.5 14.0 26.8
five_digit_addition exact_match 0.7 3.5 9.3
five_digit_subtraction exact_match 0.8 3.8 9.9
two_digit_multiplication exact_match 19.8 27.4 29.2
single_digit_three_ops exact_match 9.8 14.3 21.3
"""),
    ("gpt3", "GPT-3 table 3.10", 100, SETTINGS, """
cycle_letters_in_word exact_match 3.66 21.7 37.9
mid_word_1_anagrams exact_match 2.28 8.62 15.1
mid_word_2_anagrams exact_match 8.91 25.9 39.7
random_insertion_in_word exact_match 8.26 45.4 67.2
reversed_words exact_match 0.09 0.48 0.44
"""),
    ("gpt3", "GPT-3 table H.1", 100, GPT3, """
hellaswag accuracy zero 33.7 43.6 51.0 54.7 62.8 67.4 70.9 78.9
hellaswag accuracy one 33.0 42.9 50.5 53.5 61.9 66.5 70.0 78.1
hellaswag accuracy few 33.5 43.1 51.3 54.9 62.9 67.3 71.3 79.3
lambada accuracy zero 42.7 54.3 60.4 63.6 67.1 70.3 72.5 76.2
lambada accuracy one 22.0 47.1 52.6 58.3 61.1 65.4 69.0 72.5
lambada accuracy few 22.0 40.4 63.2 57.0 78.1 79.1 81.3 86.4
storycloze accuracy zero 63.3 68.5 72.4 73.4 77.2 77.7 79.5 83.2
storycloze accuracy one 62.3 68.7 72.3 74.2 77.3 78.7 79.7 84.7
storycloze accuracy few 62.3 70.2 73.9 76.1 80.2 81.2 83.0 87.7
natural_questions exact_match zero 0.64 1.75 2.71 4.40 6.01 5.79 7.84 14.6
natural_questions exact_match one 1.19 3.07 4.79 5.43 8.73 9.78 13.7 23.0
natural_questions exact_match few 1.72 4.46 7.89 9.72 13.2 17.0 21.0 29.9
triviaqa exact_match zero 4.15 7.61 14.0 19.7 31.3 38.7 41.8 64.3
triviaqa exact_match one 4.19 12.9 20.5 26.5 35.9 44.4 51.3 68.0
triviaqa exact_match few 6.96 16.3 26.5 32.1 42.3 51.6 57.5 71.2
webquestions exact_match zero 1.77 3.20 4.33 4.63 7.92 7.73 8.22 14.4
webquestions exact_match one 2.56 6.20 8.51 9.15 14.5 15.1 19.0 25.3
webquestions exact_match few 5.46 12.6 15.9 19.6 24.8 27.7 33.5 41.5
winograd accuracy zero 66.3 72.9 74.7 76.9 82.4 85.7 87.9 88.3
winograd accuracy one 63.4 68.5 72.9 76.9 82.4 84.6 86.1 89.7
winograd accuracy few 63.4 67.4 73.6 76.9 84.3 85.4 82.4 88.6
winogrande accuracy zero 52.0 52.1 57.4 58.7 62.3 64.5 67.9 70.2
winogrande accuracy one 51.3 53.0 58.3 59.1 61.7 65.8 66.9 73.2
winogrande accuracy few 51.3 52.6 57.5 59.1 62.6 67.4 70.0 77.7
piqa accuracy zero 64.6 70.2 72.9 75.1 75.6 78.0 78.5 81.0
piqa accuracy one 64.3 69.3 71.8 74.4 74.3 76.3 77.8 80.5
piqa accuracy few 64.3 69.4 72.0 74.3 75.4 77.8 79.9 82.3
arc_challenge accuracy zero 26.6 29.5 31.8 35.5 38.0 41.4 43.7 51.4
arc_challenge accuracy one 25.5 30.2 31.6 36.4 38.4 41.5 43.1 53.2
arc_challenge accuracy few 25.5 28.4 32.3 36.7 39.5 43.7 44.8 51.5
arc_easy accuracy zero 43.6 46.5 53.0 53.8 58.2 60.2 63.8 68.8
arc_easy accuracy one 42.7 48.2 54.6 55.9 60.3 62.6 66.8 71.2
arc_easy accuracy few 42.7 51.0 58.1 59.1 62.1 65.8 69.1 70.1
openbookqa accuracy zero 35.6 43.2 45.2 46.8 53.0 50.4 55.6 57.6
openbookqa accuracy one 37.0 39.8 46.2 46.4 53.4 53.0 55.8 58.8
openbookqa accuracy few 37.0 43.6 48.0 50.6 55.6 55.2 60.8 65.4
quac answer_f1 zero 21.2 26.8 31.0 30.1 34.7 36.1 38.4 41.5
quac answer_f1 one 21.1 26.9 31.9 32.3 37.4 39.0 40.6 43.4
quac answer_f1 few 21.6 27.6 32.9 34.2 38.2 39.9 40.9 44.3
race_high accuracy zero 35.2 37.9 40.1 40.9 42.4 44.1 44.6 45.5
race_high accuracy one 34.3 37.7 40.0 42.0 43.8 44.3 44.6 45.9
race_high accuracy few 34.3 37.0 40.4 41.4 42.3 44.7 45.1 46.8
race_middle accuracy zero 42.1 47.2 52.1 52.3 54.7 54.4 56.7 58.4
race_middle accuracy one 42.3 47.3 51.7 55.2 56.1 54.7 56.9 57.4
race_middle accuracy few 42.3 47.0 52.7 53.0 55.6 55.4 58.1 58.1
squad2 answer_f1 zero 28.3 40.2 41.4 50.3 51.0 52.7 56.3 59.5
squad2 answer_f1 one 30.1 43.6 44.1 54.0 54.1 57.1 61.8 65.4
squad2 answer_f1 few 32.1 45.5 44.9 58.7 55.9 62.1 67.7 69.8
coqa answer_f1 zero 34.5 55.0 61.8 65.3 71.1 72.8 76.3 81.5
coqa answer_f1 one 30.6 52.1 61.6 66.1 71.8 75.1 77.9 84.0
coqa answer_f1 few 31.1 52.0 62.7 66.8 73.2 77.3 79.9 85.0
drop answer_f1 zero 9.40 13.6 14.4 16.4 19.7 17.0 24.0 23.6
drop answer_f1 one 11.7 18.1 20.9 23.0 26.4 27.3 29.2 34.3
drop answer_f1 few 12.9 18.7 24.0 25.6 29.7 29.7 32.3 36.5
boolq accuracy zero 49.7 60.3 58.9 62.4 67.1 65.4 66.2 60.5
boolq accuracy one 52.6 61.7 60.4 63.7 68.4 68.7 69.0 76.7
boolq accuracy few 43.1 60.6 62.0 64.1 70.3 70.0 70.2 77.5
copa accuracy zero 66.0 68.0 73.0 77.0 76.0 80.0 84.0 91.0
copa accuracy one 62.0 64.0 66.0 74.0 76.0 82.0 86.0 87.0
copa accuracy few 67.0 64.0 72.0 77.0 83.0 83.0 86.0 92.0
rte accuracy zero 47.7 49.8 48.4 56.0 46.6 55.2 62.8 63.5
rte accuracy one 53.1 47.3 49.5 49.5 54.9 54.9 56.3 70.4
rte accuracy few 52.3 48.4 46.9 50.9 56.3 49.5 60.6 72.9
"""),
    ("sparse_transformer", "Sparse Transformer (Child et al. 2019), section 7", 1, ATTENTION, """
enwik8 bits_per_byte 0.99 - -
cifar10 bits_per_byte - 2.80 2.82
imagenet64 bits_per_byte - 3.44 -
"""),
    ("nanogpt", "nanoGPT README, OpenWebText", 1, ("GPT-2 small", "GPT-2 small, as released"), """
openwebtext loss 2.85 3.11
"""),
)  # fmt: skip


def typed(columns, text):
    """What is printed of each (task, metric, setting, system)."""
    found = {}
    for line in text.strip().split("\n"):
        words = line.split()
        (task, metric, *setting), values = words[: -len(columns)], words[-len(columns) :]
        for column, value in zip(columns, values, strict=True):
            of = (column, "GPT-3 175B") if column in SETTINGS else (*setting, column)
            if value != "-":
                found[task, metric, *of] = float(value)
    return found


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table[1])
def test_the_file_has_of_each_table_what_it_prints_and_nothing_else(table):
    family, source, times, columns, text = table
    found = {}
    for row in figures():
        if (row["family"], row["source"]) == (family, source):
            setting = [row["setting"]] if "setting" in row else []
            key = (row["task"], row["metric"], *setting, row["system"])
            assert key not in found
            found[key] = round(times * row["value"], 6)
    assert found == typed(columns, text)


def test_large_tables_that_are_not_typed_here_have_not_changed():
    """Where a value is mended by the paper, the digest is mended with it."""
    sources = ("GPT-3 table H.1, sacreBLEU", "GPT-3 table 3.8, test", "GPT-1 table 5",
               "InstructGPT table 14")  # fmt: skip
    rows = [sorted(row.items()) for row in figures() if row["source"] in sources]
    assert len(rows) == 8 * 18 + 7 + 24 + 12 * 18
    assert hashlib.sha256(repr(rows).encode()).hexdigest()[:12] == "015fe44d8b13"
