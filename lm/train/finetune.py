"""Fine-tuning on a task (section 3.2 of BERT and of GPT-1): the same parameters and one head.

A run starts from another one, `init`: pre-trained here, or converted from published weights. With
`features` its parameters stay as they are (BERT's feature-based approach, section 5.3). Three
controls are switches of the same code: `scratch` keeps only the other run's shape and tokenizer,
`transfer` only its first layers, and `lm_weight=0` leaves the auxiliary loss out.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lm.core import tree
from lm.core.config import require, require_at_least_zero, require_fraction, require_positive
from lm.core.errors import ConfigError
from lm.core.mesh import local_rows, make_mesh
from lm.data import bert_features, gpt1_features
from lm.data.bert_features import BertFeatures
from lm.data.features import Encoded, TaskBatch, TaskRows
from lm.data.gpt1_features import Gpt1Features, Specials
from lm.data.records import Record
from lm.data.sources import tell_same
from lm.data.tasks import Task, TaskConfig, check_metrics, read
from lm.data.tasks.task import Part
from lm.models.bert import HEADS, BertConfig
from lm.models.gpt import GptConfig
from lm.models.heads import BackboneConfig, flops_per_token
from lm.models.layers import stream_norms
from lm.models.lstm import LstmConfig
from lm.text.tokenizer import Tokenizer
from lm.text.tokenizer import load as load_tokenizer
from lm.train.beginning import require_same
from lm.train.manifest import steps_in
from lm.train.process import Process
from lm.train.saved import Saved, read_config, read_init, require_init, require_tokenizer
from lm.train.state import create, shardings
from lm.train.supervised import Supervised, steps_of
from lm.train.task_evaluation import Evaluation
from lm.train.task_objective import TaskObjective

SPECIALS = 3  # that GPT-1's inputs add to its vocabulary
GPT1_LENGTH, BERT_LENGTH, SPAN_LENGTH = 512, 128, 384  # of the released codes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finetune(Supervised):
    """Learns a task from labelled items."""

    data: TaskConfig = TaskConfig()
    init: str | None = None  # the run to start from
    model: BertConfig | GptConfig | LstmConfig | None = (
        None  # that of `init`, once the run has begun
    )
    classes: int | None = None  # the task's, likewise
    scratch: bool = False  # take nothing but shape and tokenizer from `init`
    transfer: int | None = None  # layers taken from `init`; None: all
    features: int = 0  # last layers of BERT to read with a BiLSTM, and no fine-tuning; BERT: 4
    epochs: float = 3.0
    steps: int | None = None  # instead of epochs
    length: int | None = None  # tokens of a row; None: as published, or all that the model reads
    question: int = 64  # of a span task's question
    stride: int | None = None  # between the windows of a passage or a document; None: they overlap
    documents: bool = True  # tagged sentences of one document are each other's context
    head_dropout: float = 0.1
    lm_weight: float = 0.0  # of the language model's loss beside the task's; GPT-1: 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "epochs", "steps", "length", "question", "stride")
        require_at_least_zero(self, "lm_weight", "transfer", "features")
        require_fraction(self, "head_dropout")

    # ------------------------------------------------------------------- run

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Fine-tunes, or goes on fine-tuning, in `workdir`."""
        mesh = make_mesh(self.mesh)
        self.check_mesh(mesh)
        task = read(self.data)
        tell_same(task.train, task.valid)
        check_metrics(task.metrics, task.labels)
        started = bool(steps_in(workdir / "checkpoints"))
        source = None if started else self.source(mesh)
        if source is None:
            tokenizer = load_tokenizer(workdir / "tokenizer")
        else:
            tokenizer = require_tokenizer(source.tokenizer, f"init={self.init}")
        begun = replace(self, model=self.model or read_config(workdir).model) if started else self
        config = begun.resolved(task, None if started else source_model(source))
        train, valid = (config.encode(task, part, tokenizer) for part in ("train", "valid"))
        items = task.records("train")
        rows = TaskRows(train.rows, self.seed, [items[n].id for n in train.rows.example])
        steps = steps_of(self, rows.count, self.batch)
        config = replace(config, steps=steps)
        length = train.rows.tokens.shape[1] * train.rows.tokens.shape[2]
        with config.begun(
            workdir, process, mesh,
            steps=steps, facts={"data": task.fingerprint}, tokenizer=tokenizer,
            first=lambda abstract: config.create(abstract, source),
            tokens_before=lambda step: step * self.batch * length,
        ) as (session, state, step_fn):  # fmt: skip
            evaluate = Evaluation(config, task, valid, tokenizer, mesh, session)
            session.journal.say(
                f"{tree.count(state.params):,} parameters; {task.name}, to train on: "
                f"{train.counts}; held out: {valid.counts}; run in {workdir}"
            )
            if session.first and session.unevaluated:
                evaluate(session.first, state.params)
            mine = local_rows(mesh, self.batch)

            def origins(step: int) -> list[dict[str, Any]]:
                return rows.origins(session.counted(step) // length, self.batch)

            def batch_of(step: int) -> Any:
                first = session.counted(step) // length
                host = rows(first + mine.start, mine.stop - mine.start)
                return config.split(host, mesh, mine, self.batch)

            for step, batch, rate in config.batches(session, batch_of, origins):
                state, metrics = step_fn(state, batch, rate)
                state = session.after(step, state, metrics, evaluate)
            evaluate.finish(state.params)

    # ----------------------------------------------------------------- parts

    @property
    def backbone(self) -> BackboneConfig:
        if self.model is None:
            raise ConfigError(f"init is not set: --set init=RUN names {self.beginning}")
        return self.model

    @property
    def beginning(self) -> str:
        """What `init` names."""
        taken = " (its shape and tokenizer alone are taken)" if self.scratch else ""
        return f"the run to start from{taken}"

    def source(self, mesh: jax.sharding.Mesh) -> Saved:
        """The run to start from. Raises CheckpointError where its model reads more than text."""
        saved = read_init(require_init(self.init, self.beginning), mesh)
        if not isinstance(saved.config.model, BertConfig | GptConfig | LstmConfig):
            raise saved.refused(self.init, "a model of text, such as bert:tiny's")
        return saved

    def resolved(self, task: Task, model: Any) -> "Finetune":
        """With `model`, that of `source_model`; or with this run's own, once it has begun.

        Raises:
          ConfigError: both are there and differ, rows longer than the model's context, more layers
            than it has, or a model that this kind of task cannot use.
        """
        if self.model and model:
            require_same(self.model, model, str(self.init), "--set model=None takes that one")
        model = self.model or model
        config = replace(self, model=model, classes=len(task.labels) or 1)
        config = replace(config, length=config.row)
        if isinstance(model, BertConfig):
            require(
                self.lm_weight == 0,
                f"init is a BERT, and lm_weight {self.lm_weight} is of GPT-1: use bert:finetune, "
                "where it is 0",
            )
        require(
            config.row <= model.length,
            f"length {config.row} is longer than model.length {model.length}: set length",
        )
        layers = self.transfer or 0
        require(layers <= model.layers, f"transfer {layers} is more than the {model.layers} layers")
        require(
            self.features <= model.layers,
            f"features {self.features} is more than the {model.layers} layers",
        )
        require(
            not self.features or (isinstance(model, BertConfig) and task.kind == "tagging"),
            f"features={self.features} reads BERT for tagging, and {task.name} is {task.kind}: "
            "set features=0",
        )
        return config

    @property
    def row(self) -> int:
        """Tokens of a row at most: `length`, or the published number as far as the model reads."""
        model = self.backbone
        if self.length is not None:
            return self.length
        if not isinstance(model, BertConfig):
            return min(GPT1_LENGTH, model.length)
        return min(SPAN_LENGTH if self.data.form().kind == "span" else BERT_LENGTH, model.length)

    def bert_features(self) -> BertFeatures:
        """How BERT's rows are laid out.

        Windows of a passage are a third of a row apart, as the released 128 is of 384; of a
        document half, so that each word has a quarter of a row on either side (our choice).
        """
        parts = 3 if self.data.form().kind == "span" else 2
        return BertFeatures(
            length=self.row, question=self.question, stride=self.stride or self.row // parts,
            documents=self.documents,
        )  # fmt: skip

    def encode(self, task: Task, part: Part, tokenizer: Tokenizer) -> Encoded:
        """The rows of a part of the task, as this model reads them."""
        return self.encoded(task.records(part), task.symmetric, tokenizer)

    def encoded(self, records: Sequence[Record], symmetric: bool, tokenizer: Tokenizer) -> Encoded:
        """The same of any records; `symmetric`: the two texts of a pair may change places."""
        model = self.backbone
        if isinstance(model, BertConfig):
            return bert_features.encode(records, tokenizer, self.bert_features())
        ordered = Gpt1Features(length=self.row, both_orders=symmetric)
        specials = Specials.after(model.vocab - SPECIALS)
        return gpt1_features.encode(records, tokenizer, ordered, specials)

    def objective(self) -> TaskObjective:
        kind = self.data.form().kind
        weight, dropout = self.lm_weight, self.head_dropout
        classes = self.classes or 1
        return TaskObjective(self.backbone, kind, classes, weight, dropout, self.features)

    def stream_norms(self, params: Any, rows: TaskBatch) -> jax.Array | None:
        """Candidates are rows of their own; those that fill up are not counted."""
        model = self.backbone
        if isinstance(model, LstmConfig):
            return None
        each = (rows.tokens, rows.segments, rows.valid & rows.candidates[..., None])
        tokens, segments, valid = (leaf.reshape(-1, leaf.shape[-1]) for leaf in each)
        tokens, segments, valid = map(jnp.asarray, (tokens, segments, valid))
        return stream_norms(model, params["model"], tokens, segments, valid)

    def direction(self) -> optax.GradientTransformation:
        if not self.features:
            return super().direction()
        # the model's gradients are zero, and without an optimizer nothing decays them
        return optax.masked(super().direction(), {"model": False, "tagger": True, "head": True})

    def flops_per_token(self) -> float:
        objective = self.objective()
        return flops_per_token(objective.model, self.row, objective.language)

    def abstract_rows(self) -> TaskBatch:
        shape, kind = (self.batch, 1, self.row), self.data.form().kind
        label = {"span": (self.batch, 2), "tagging": shape[::2]}.get(kind, shape[:1])
        exact = jnp.float32 if kind == "regression" else jnp.int32
        struct = jax.ShapeDtypeStruct
        fields: dict[str, Any] = {
            "tokens": struct(shape, jnp.int32), "segments": struct(shape, jnp.int32),
            "valid": struct(shape, jnp.bool_), "read": struct(shape[:2], jnp.int32),
            "lm_mask": struct(shape, jnp.bool_), "candidates": struct(shape[:2], jnp.bool_),
            "label": struct(label, exact), "mask": struct(shape[:1], jnp.bool_),
            "example": struct(shape[:1], jnp.int32), "rows": struct(shape[:1], jnp.uint32),
        }  # fmt: skip
        return TaskBatch(**fields)

    def first_params(self, key: jax.Array) -> Any:
        one = jax.tree.map(lambda leaf: jnp.zeros((1, *leaf.shape[1:]), leaf.dtype),
                           self.abstract_rows())  # fmt: skip
        return self.objective().model.init(key, one)["params"]

    def create(self, abstract: Any, source: Saved | None) -> Any:
        """The first state: random, and over it what comes from the other run."""
        state: Any = create(self.initial(), abstract, self.seed)
        if self.scratch or source is None:
            return state
        known = source.params
        if source.headed:
            known = known["model"]
        known = {name: value for name, value in known.items() if name not in HEADS}
        merge = jax.jit(
            lambda fresh, old: transferred(fresh, old, self.transfer),
            out_shardings=shardings(abstract.params["model"]),
        )
        model = merge(state.params["model"], known)
        return state.replace(params=state.params | {"model": model})


def source_model(source: Saved | None) -> Any:
    """The other run's model, its vocabulary grown by GPT-1's specials where it has none yet."""
    assert source is not None
    model = source.config.model
    if isinstance(model, BertConfig) or isinstance(source.config, Finetune):
        return model
    return replace(model, vocab=model.vocab + SPECIALS)


def transferred(fresh: Any, known: Any, layers: int | None) -> Any:
    """`fresh` parameters with those of another run over them.

    A table that has grown keeps its new rows. Of stacked layers, and of an LSTM's, which have names
    of their own, the first `layers` are taken.
    """

    def over(path: Any, new: jax.Array) -> jax.Array:
        names = [part.key for part in path]
        numbers = [int(name.split("_")[1]) for name in names if name.startswith("recurrences_")]
        if layers is not None and numbers and numbers[0] >= layers:
            return new
        old: Any = known
        for name in names:
            old = old[name]
        count = old.shape[0]
        if "blocks" in names:
            count = count if layers is None else layers
        return jnp.concatenate([old[:count], new[count:]]) if count < new.shape[0] else old

    return jax.tree_util.tree_map_with_path(over, fresh)
