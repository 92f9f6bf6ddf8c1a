"""Reinforcement learning from a reward (Ouyang et al. 2022, section 3.5 and appendix C.4).

One update, as `Ppo.run` does it:

    rollout     the policy answers a batch of prompts
    scores      the reward model, or any function, judges the answers
    experience  log-probabilities anew, KL to the reference, values, advantages
    update      minibatches of PPO's clipped losses, and of pre-training text (PPO-ptx)

Policy, value function, reference and reward model are four parameter trees.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from lm.core import tree
from lm.core.dot import exact
from lm.core.errors import DataError, FunctionError, GuardStop
from lm.core.mesh import make_mesh
from lm.report.page import write_report
from lm.rlhf.assessment import PpoEvaluation
from lm.rlhf.clock import Clock
from lm.rlhf.controller import check_beta, own_beta
from lm.rlhf.diagnosis import check_rollout, troubles
from lm.rlhf.experience import assess
from lm.rlhf.material import PpoMaterial
from lm.rlhf.rollout import Prompts, Rollout, roll_out
from lm.rlhf.scores import RolloutScorer
from lm.rlhf.setting import PpoSetting
from lm.rlhf.source import Source, knowing, read_source, started
from lm.rlhf.state import PpoState
from lm.text.interface import Form
from lm.train.metrics import peak_flops, read_metrics
from lm.train.process import Process
from lm.train.session import Session
from lm.train.step import StepMetrics

# Nats a token: the largest difference of exact products, and the mean one of rounded ones.
DRIFT = {"float32": 1e-4, "bfloat16": 2e-2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ppo(PpoSetting):
    """Teaches a policy what a reward prefers, near to where it began."""

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Trains, or goes on training, in `workdir`."""
        process = process or Process()
        self.check_rates()
        mesh = make_mesh(self.mesh)
        self.check_batch(mesh)
        before = started(workdir, type(self))
        # the reference, in any case
        source = self.source(mesh)
        form = self.form(source)
        score = RolloutScorer(
            self.reward, form, mesh, self.width, self.at_once, worked=before is not None
        )
        config = self.resolved(before[0] if before else source, score.model)
        material = config.material(form, source)
        facts = {
            "tokenizer": source.tokenizer.digest, "data": material.digest,
            "init": source.identity, "reward": score.identity, "reward_file": score.file,
        }  # fmt: skip
        each = self.batch * config.width
        with (
            jax.set_mesh(mesh),
            Session(
                workdir, config, process, loop=self.loop, guard=self.guard, steps=self.steps,
                facts=facts, flops_per_token=lambda step: config.flops_per_token(),
                peak=peak_flops(mesh.size), tokens_before=lambda step: step * each,
            ) as session,
        ):  # fmt: skip
            check_beta(self.kl, session.changed)
            session.keep(source.tokenizer)
            abstract = config.abstract(mesh)
            reference = source.language_model()
            if self.reward.normalise:
                config.normalise(score, reference, material, mesh, session)
            state = session.start(abstract, lambda: config.create(abstract, source, score.value()))
            vocab = form.tokenizer.vocab_size
            update = config.compiled(mesh, abstract, vocab)
            evaluate = PpoEvaluation(config, material, reference, score, mesh, session)
            session.journal.say(f"{tree.count(state.policy):,} parameters; {material}; {workdir}")

            def measure(step: int, policy: Any) -> None:
                try:
                    session.tell(step, evaluate(step, policy))
                except FunctionError as error:  # of the reward, the next update ends the run
                    session.journal.say(f"warning: step {step} is not measured: {error}")

            if session.unevaluated:
                measure(session.first, state.params)

            def on_the_way(step: int, policy: Any) -> None:
                measure(step, policy)
                self.warn(session)

            for step in session.steps(material.origins):
                with session.goodput.spent("data"):
                    prompts, text = material.prompts(step, mesh), material.text_rows(step, mesh)
                clock = Clock()
                drawn_by = jax.random.fold_in(jax.random.key(self.seed + 1), step)
                try:
                    with session.watched(step):
                        rollout = config.rolled_out(state.policy, prompts, drawn_by, form)
                        clock.lap("rollout", rollout)
                        scores = score(rollout)
                        experience, told = assess(
                            config.policy_model, config.critic_model, config.advantages,
                            state.policy, reference, state.value, rollout, scores,
                            own_beta(self.kl, state.beta),
                            temperature=self.temperature, parts=self.parts, vocab=vocab,
                        )  # fmt: skip
                        clock.lap("score", experience)
                        fetched = jax.device_get(told)
                except FunctionError as error:  # no longer watched: a save may take its time
                    config.save(step, state, session)
                    raise FunctionError(f"update {step}: {error}") from None
                figures = {name: float(value) for name, value in fetched.items()}
                config.check(figures, step, state, session)
                with session.watched(step):
                    state, metrics = update(
                        state, experience, text, told["kl"], config.rates(step),
                        jax.random.fold_in(jax.random.key(self.seed), step),
                    )  # fmt: skip
                    clock.lap("update", metrics)
                measured = config.metrics(metrics, step, figures | clock.told(int(rollout.there)))
                state = session.after(step, state, measured, on_the_way)
            summary = evaluate.finish(state.params)
            session.tell(self.steps, summary.pop("figures"))
            wrong = self.warn(session)
            session.finish(
                {"episodes": self.steps * self.batch, "prompts": str(material)}
                | {"parameters": tree.count(state.policy), **summary, "troubles": wrong}
                | largest(session, *config.bound)
            )
        if jax.process_index() == 0:
            print(f"report: {write_report(workdir)}")

    def source(self, mesh: jax.sharding.Mesh) -> Source:
        """The run to start from."""
        return knowing(read_source(self.init, mesh, self.init_step), self.data)

    def form(self, source: Source) -> Form:
        """How prompts and answers become ids."""
        return self.data.form(source.tokenizer)

    def material(self, form: Form, source: Source) -> PpoMaterial:
        """What is answered, and the text that is read beside it."""
        del source
        return PpoMaterial(
            self.data, form, batch=self.batch, prompt_length=self.prompt_length,
            width=self.width, text=self.text, seed=self.seed,
            text_rows=self.text_rows,
        )  # fmt: skip

    def rolled_out(self, policy: Any, some: Prompts, key: jax.Array, form: Form) -> Rollout:
        """Answers of a policy."""
        return roll_out(
            self.policy_model, policy, some, key,
            count=self.answer_length, end=self.end(form), temperature=self.temperature,
            vocab=form.tokenizer.vocab_size, parts=self.rollout_parts,
        )  # fmt: skip

    def normalise(
        self, score: RolloutScorer, reference: Any, material: PpoMaterial,
        mesh: jax.sharding.Mesh, session: Session,
    ) -> None:  # fmt: skip
        """Scores answers of the reference, so that theirs have mean 0 and deviation 1: at every
        start the same answers, which none of training's are, however many steps the run has."""
        key = jax.random.key(self.seed + 2)
        parts = -(-self.reward.normalise // self.batch)
        form = material.form
        gain, bias = score.normalise(
            self.rolled_out(reference, material.prompts(n, mesh), jax.random.fold_in(key, n), form)
            for n in range(parts)
        )
        session.journal.say(
            f"rewards x {gain:.4g} {bias:+.4g}: over {parts * self.batch} answers of the reference "
            "they have mean 0 and deviation 1"
        )

    @property
    def bound(self) -> tuple[str, float]:
        """The figure that says how far log-probabilities as drawn are from those as scored anew,
        and how large it may be, in nats a token."""
        same = exact(self.policy_model.dtype)
        bound = self.drift or DRIFT["float32" if same else "bfloat16"]
        return "drift" if same else "drift_mean", bound

    def check(
        self, figures: dict[str, float], step: int, state: PpoState, session: Session
    ) -> None:
        """Stops the run, its state saved, where nothing could be learned from a rollout.

        Raises:
          GuardStop: see `check_rollout`.
        """
        name, bound = self.bound
        try:
            check_rollout(figures, tolerance=bound, exact=name == "drift", kl_stop=self.kl.stop)
            if step == session.first:
                session.journal.say(
                    f"log-probabilities as drawn and as scored anew: {name} {figures[name]:.1e} "
                    f"nats a token, at most {bound:.0e}"
                )
        except GuardStop as stop:
            wrong = self.warn(session)
            self.save(step, state, session)
            if session.main:
                session.journal.flush()
                try:
                    write_report(session.workdir)
                except DataError as error:  # on a full disk: why it stopped is told in any case
                    session.journal.say(f"warning: {error}")
            raise GuardStop("; ".join([f"update {step}: {stop}", *wrong])) from None

    def save(self, step: int, state: PpoState, session: Session) -> None:
        """Saves what a run that cannot go on has made since it was started."""
        if step > session.first:
            session.drain()
            session.save(step, state)
            session.checkpoints.settle()

    def warn(self, session: Session) -> list[str]:
        """Says in words what the last updates show to be wrong, and gives it back."""
        wrong = troubles(
            told_rows(session), missing_end=self.advantages.missing_end, gamma=self.update.gamma
        )
        for what in wrong:
            session.journal.say(f"in trouble: {what}")
        return wrong

    def metrics(self, found: Any, step: int, figures: dict[str, float]) -> StepMetrics:
        if self.fixed_length:  # no answer ends, and none is to
            figures = {name: value for name, value in figures.items()
                       if name not in ("ended", "empty")}  # fmt: skip
        measured = {"clipped": found.clipped, "first_ratio": found.first_ratio,
                    "step_kl": found.step_kl}  # fmt: skip
        parts = {"policy": found.policy_loss, "value": found.value_loss}
        if self.update.gamma:
            parts["text"] = found.text_loss
        return StepMetrics(
            loss=found.policy_loss, tokens=jnp.zeros(()), grad_norm=found.grad_norm,
            applied=found.applied, finite=found.finite, spike=found.spike,
            lr=self.rates(step)[0], parts=parts, figures=figures | measured,
        )  # fmt: skip


def told_rows(session: Session) -> list[dict[str, Any]]:
    """What was told of the steps so far, on the process that tells."""
    path = session.workdir / "metrics.jsonl"
    session.journal.flush()
    return read_metrics(path) if session.main and path.exists() else []


def largest(session: Session, name: str, bound: float) -> dict[str, float]:
    """A figure at its largest of the updates that were told, and its bound."""
    found = [row[name] for row in told_rows(session) if name in row]
    return {name: max(found), f"{name}_bound": bound} if found else {}
