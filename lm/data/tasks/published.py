"""Every task by its name: those of the papers of BERT and GPT-1, a few more, and one's own data."""

from lm.data.tasks.choices import CHOICE_TASKS
from lm.data.tasks.forms import Form, Kind
from lm.data.tasks.glue import GLUE_TASKS
from lm.data.tasks.race import RACE_TASKS

SQUAD_METRICS = ("answer_f1", "exact_match")
NO_ANSWER_METRICS = ("has_answer_f1", "has_answer_exact", "no_answer_exact")


def squad(version: str, *, no_answer: bool, others: tuple[str, ...] = ()) -> Form:
    """Questions about passages (Rajpurkar et al. 2016, 2018). An article is held out whole."""
    return Form(
        kind="span",
        metrics=SQUAD_METRICS + (NO_ANSWER_METRICS if no_answer else ()),
        folders=(f"squad_v{version}", f"squad{version}", "squad", "SQuAD", "squad_xquad_en"),
        train=(f"train-v{version}.json",),
        valid=(f"dev-v{version}.json", *others),
        no_answer=no_answer,
    )


def ner(
    types: tuple[str, ...],
    folders: tuple[str, ...],
    train: tuple[str, ...],
    valid: tuple[str, ...],
    test: tuple[str, ...],
    places: tuple[int, int] = (0, -1),
) -> Form:
    """Named entities in CoNLL columns, tagged in IOB1 or IOB2."""
    return Form(
        kind="tagging",
        metrics=("entity_f1", "tag_accuracy"),
        labels=("O", *(f"{mark}-{kind}" for kind in types for mark in "BI")),
        folders=folders,
        train=train,
        valid=valid,
        test=test,
        places=places,
    )


def own(
    kind: Kind, metrics: tuple[str, ...], ends: tuple[str, ...] = ("jsonl", "tsv", "csv")
) -> Form:
    """One's own data: `train`, `valid` or `dev`, and `test`, with an end that the kind reads."""
    train, valid, dev, test = (
        tuple(f"{part}.{end}" for end in ends) for part in ("train", "valid", "dev", "test")
    )
    return Form(
        kind=kind,
        metrics=metrics,
        train=train,
        valid=valid + dev,
        test=test,
        no_answer=kind == "span",
    )


PUBLISHED: dict[str, Form] = {
    **GLUE_TASKS,
    **CHOICE_TASKS,
    **RACE_TASKS,
    "squad": squad("1.1", no_answer=False, others=("xquad.en.json", "xquad.en.part.json")),
    "squad2": squad("2.0", no_answer=True),
    "conll2003": ner(
        ("PER", "ORG", "LOC", "MISC"),
        ("conll2003", "CoNLL-2003", "ner_conll2003"),
        ("eng.train", "train.txt"),
        ("eng.testa", "valid.txt", "dev.txt"),
        ("eng.testb", "test.txt"),
    ),
    "wnut17": ner(
        ("corporation", "creative-work", "group", "location", "person", "product"),
        ("wnut17", "ner_wnut17"),
        ("wnut17train.conll",),
        ("emerging.dev.conll",),
        ("emerging.test.annotated",),
    ),
    "uner": ner(
        ("PER", "ORG", "LOC"),
        ("uner", "UNER_English-EWT", "ner_uner_ewt"),
        ("en_ewt-ud-train.iob2",),
        ("en_ewt-ud-dev.iob2",),
        ("en_ewt-ud-test.iob2",),
        places=(1, 2),
    ),
    "classification": own("classification", ("accuracy",)),
    "regression": own("regression", ("spearman", "pearson")),
    "choice": own("choice", ("accuracy",)),
    "span": own("span", SQUAD_METRICS + NO_ANSWER_METRICS, ("jsonl", "json")),
    "tagging": own("tagging", ("entity_f1", "tag_accuracy"), ("jsonl", "conll", "iob2", "txt")),
}
