"""Classification and similarity as published: GLUE (Wang et al. 2018), SNLI, MultiNLI, SciTail.

Label names are in the order of the published indices. File names are those of the publication,
and of copies that have only a part of it.
"""

import re

from lm.data.tasks.forms import Form

FILES = ("train.tsv", "train.jsonl"), ("dev.tsv", "dev.jsonl"), ("test.tsv", "test.jsonl")
NLI = ("entailment", "neutral", "contradiction")
ENTAILS = ("entailment", "not_entailment")
# The metrics are GLUE's; the first is the one that BERT's table 1 compares by.
SIMILAR = ("f1", "accuracy")


def glue(
    folder: str,
    *,
    labels: tuple[str, ...],
    text: tuple[str, ...] = ("sentence1",),
    pair: tuple[str, ...] = ("sentence2",),
    label: tuple[str, ...] = ("label",),
    identity: tuple[str, ...] = ("index",),
    metrics: tuple[str, ...] = ("accuracy",),
    files: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]] = FILES,
    header: tuple[str, ...] = (),
    symmetric: bool = False,
    left_out: tuple[str, ...] = (),
) -> Form:
    """A classification task laid out as GLUE's; `pair=()` is a single text."""
    columns = {"id": identity, "text": text, "label": label} | ({"pair": pair} if pair else {})
    train, valid, test = files
    return Form(
        kind="classification",
        metrics=metrics,
        labels=labels,
        symmetric=symmetric,
        folders=folders(folder),
        train=train,
        valid=valid,
        test=test,
        columns=columns,
        header=header,
        left_out=left_out,
    )


def folders(name: str) -> tuple[str, ...]:
    plain = re.sub(r"\W", "", name).lower()
    return (name, plain, f"glue_{plain}", f"nli_{plain}")


def nli(valid: tuple[str, ...], test: tuple[str, ...], train: tuple[str, ...], name: str) -> Form:
    """SNLI (Bowman et al. 2015) and MultiNLI (Williams et al. 2018), as JSONL or GLUE's TSV.

    A row whose annotators did not agree has the label `-`: it is left out, as both papers do.
    """
    return glue(
        name,
        labels=NLI,
        text=("sentence1", "premise"),
        pair=("sentence2", "hypothesis"),
        label=("gold_label", "label"),
        identity=("pairID", "index"),
        files=(train, valid, test),
        left_out=("-",),
    )


def mnli(part: str) -> Form:
    here = ("dev.jsonl",) if part == "matched" else ()
    return nli(
        train=("train.tsv", "multinli_1.0_train.jsonl", "train.jsonl"),
        valid=(f"dev_{part}.tsv", f"multinli_1.0_dev_{part}.jsonl", *here),
        test=(f"test_{part}.tsv",),
        name="MNLI",
    )


GLUE_TASKS: dict[str, Form] = {
    "sst2": glue("SST-2", labels=("negative", "positive"), text=("sentence",), pair=()),
    "cola": glue(
        "CoLA",
        labels=("unacceptable", "acceptable"),
        text=("sentence",),
        pair=(),
        metrics=("matthews", "accuracy"),
        files=(
            ("train.tsv", "in_domain_train.tsv"),
            ("dev.tsv", "in_domain_dev.tsv"),
            ("test.tsv",),
        ),
        header=("source", "label", "mark", "sentence"),
    ),
    "mrpc": glue(
        "MRPC",
        labels=("not_equivalent", "equivalent"),
        text=("#1 String",),
        pair=("#2 String",),
        label=("Quality",),
        metrics=SIMILAR,
        symmetric=True,
    ),
    "qqp": glue(
        "QQP",
        labels=("not_duplicate", "duplicate"),
        text=("question1",),
        pair=("question2",),
        label=("is_duplicate",),
        identity=("index", "id"),
        metrics=SIMILAR,
        symmetric=True,
    ),
    "stsb": Form(
        kind="regression",
        metrics=("spearman", "pearson"),
        symmetric=True,
        folders=folders("STS-B"),
        train=FILES[0],
        valid=FILES[1],
        test=FILES[2],
        columns={
            "id": ("index",),
            "text": ("sentence1",),
            "pair": ("sentence2",),
            "label": ("score",),
        },
        bounds=(0, 5),
    ),
    "rte": glue("RTE", labels=ENTAILS),
    "wnli": glue("WNLI", labels=("not_entailment", "entailment")),
    "qnli": glue(
        "QNLI",
        labels=ENTAILS,
        text=("question",),
        pair=("sentence",),
        files=(FILES[0], ("dev.tsv", "dev_part.tsv"), FILES[2]),
    ),
    "mnli": mnli("matched"),
    "mnli_mismatched": mnli("mismatched"),
    "snli": nli(
        train=("snli_1.0_train.jsonl", "train.jsonl"),
        valid=("snli_1.0_dev.jsonl", "dev.jsonl"),
        test=("snli_1.0_test.jsonl", "test.jsonl"),
        name="SNLI",
    ),
    # Khot et al. 2018, its `tsv_format`: two classes and no header
    "scitail": Form(
        kind="classification",
        metrics=("accuracy",),
        labels=("entails", "neutral"),
        folders=tuple(
            f"{folder}{below}"
            for folder in ("SciTailV1.1", "SciTailV1", "SciTail", "scitail")
            for below in ("/tsv_format", "")
        ),
        train=("scitail_1.0_train.tsv", "train.tsv"),
        valid=("scitail_1.0_dev.tsv", "dev.tsv"),
        test=("scitail_1.0_test.tsv", "test.tsv"),
        columns={"text": ("premise",), "pair": ("hypothesis",)},
        header=("premise", "hypothesis", "label"),
    ),
}
