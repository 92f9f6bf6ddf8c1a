"""PPO: nothing has changed before the first step, a run resumes exactly, faults stop it."""

import json
import shutil
import sys
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.core import dot
from lm.core.config import bind, bindings
from lm.core.errors import CheckpointError, ConfigError, DataError, FunctionError, GuardStop
from lm.core.mesh import MeshConfig, make_mesh
from lm.data.prompts import RowsConfig
from lm.report.time_spent import processes
from lm.rlhf import function, ppo, scores
from lm.rlhf.controller import KlConfig
from lm.rlhf.experience import AdvantageConfig, Experience, assess
from lm.rlhf.function import file_digest, named
from lm.rlhf.ppo import Ppo
from lm.rlhf.rollout import roll_out
from lm.rlhf.scores import RewardConfig, RolloutScorer, text_scorer
from lm.rlhf.source import Source
from lm.rlhf.state import PpoState, UpdateMetrics
from lm.rlhf.update import UpdateConfig, Updater
from lm.text.byte import ByteTokenizer
from lm.train import session
from lm.train.guard import GuardConfig, GuardState
from lm.train.metrics import read_metrics
from lm.train.optimizer import AdamWConfig, BertAdamConfig, Gpt1AdamConfig
from lm.train.process import Process, Watchdog
from lm.train.reaction import Reaction
from lm.train.saved import read_init, read_run
from lm.train.session import LoopConfig
from tests.launched import final_digests
from tests.rlhf.runs import MODEL, pretrained, write_rows, written

HERE = "tests.rlhf.ppo_test"


def plainness(prompts, answers):
    """How much of the length that an answer may have is ASCII; half of the first policy's bytes."""
    return [sum(letter.isascii() for letter in answer) / 8 for answer in answers]


def length(prompts, answers):
    """Nothing learns from it."""
    return [float(len(answer)) for answer in answers]


def broken(prompts, answers):
    raise RuntimeError("out of\nwords")


def short(prompts, answers):
    return [0.0]


def leaving(prompts, answers):
    sys.exit(3)


CALLS = []  # of `flaky`: what to raise at each, None to score; once empty it scores


def flaky(prompts, answers):
    wrong = CALLS.pop(0) if CALLS else None
    if wrong is not None:
        raise wrong
    return plainness(prompts, answers)


def undefined(prompts, answers):
    return [float("nan")] * len(answers)


@pytest.fixture(scope="module", autouse=True)
def one_device():
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ppo, "make_mesh", lambda config: mesh)
        yield mesh


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return pretrained(tmp_path_factory.mktemp("base"))


def setting(base, folder, function="plainness", **changes):
    rows = [{"prompt": "p" * (1 + n % 7) + f"{n}"} for n in range(60)]
    config = Ppo(
        init=str(base), data=RowsConfig(train=write_rows(folder / "prompts.jsonl", rows)),
        reward=RewardConfig(function=f"{HERE}:{function}"),
        gold=RewardConfig(function=f"{HERE}:plainness"),
        second=RewardConfig(function=f"{HERE}:length"),
        optim=AdamWConfig(peak_lr=3e-3, weight_decay=0.0),
        value_optim=AdamWConfig(peak_lr=3e-3, weight_decay=0.0),
        batch=16, steps=4, prompt_length=10, answer_length=8, warmup=0, best_of=2,
        advantages=AdvantageConfig(missing_end=0.0),
        update=UpdateConfig(minibatches=2, gamma=0.5, text_rows=1, average=0.5),
        guard=GuardConfig(spike="off"), evaluate_prompts=4,
        loop=LoopConfig(log_every=1, evaluate_every=2, save_every=2),
    )  # fmt: skip
    return replace(config, **changes)


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ppo")
    compiled = roll_out._cache_size(), assess._cache_size()
    setting(base, folder).run(folder / "run")
    # each program once for the whole run, and once more where 4 prompts are evaluated and not 16;
    # another test may have compiled it before
    assert roll_out._cache_size() <= compiled[0] + 2 and assess._cache_size() <= compiled[1] + 1
    return folder / "run"


def rows_of(run):
    return [row for row in read_metrics(run / "metrics.jsonl") if "reward" in row]


@pytest.mark.slow
def test_what_an_update_waits_for_is_counted_but_for_the_first_which_compiles(
    base, tmp_path, monkeypatch
):
    laps, scored, watchdogs = [], [], []

    class Kept(Watchdog):
        def __init__(self, timeout):
            super().__init__(timeout)
            watchdogs.append(self)

    class Told(ppo.Clock):
        def lap(self, name, done):
            super().lap(name, done)
            laps.append(watchdogs[-1].since is not None)

    def counted(prompts, answers):
        scored.append(watchdogs[-1].since is not None)
        return plainness(prompts, answers)

    monkeypatch.setattr(session, "Watchdog", Kept)
    monkeypatch.setattr(ppo, "Clock", Told)
    monkeypatch.setattr(f"{HERE}.length", counted)
    nobody = RewardConfig()
    setting(base, tmp_path, "length", steps=3, gold=nobody, second=nobody).run(tmp_path / "run")
    assert laps == 3 * [False] + 6 * [True]
    assert scored.count(True) == 2 and watchdogs[-1].since is None  # no evaluation is


@pytest.mark.slow
def test_before_the_first_step_the_ratio_is_one_and_the_kl_is_zero(run):
    first, *later = rows_of(run)
    assert first["first_ratio"] < 1e-5 and abs(first["kl"]) < 1e-5
    for row in later:  # the inner epoch begins with the policy that drew, in every update
        assert row["first_ratio"] < 1e-5
    assert abs(later[-1]["kl"]) > 1e-3  # the control: by then the policy has moved
    assert all(row["drift"] < 1e-4 for row in [first, *later])


@pytest.mark.slow
def test_a_policy_with_adapters_learns_them_alone_and_is_read_as_their_sum(
    base, tmp_path, one_device
):
    setting(base, tmp_path, lora_rank=2, steps=2).run(tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    assert len(rows) == 2 and all(row["first_ratio"] < 1e-5 for row in rows)
    assert all(row["drift"] < 1e-4 for row in rows)  # answers are drawn from the sum
    assert abs(rows[0]["kl"]) < 1e-5 < abs(rows[1]["kl"])
    known, apart = (read_run(folder, one_device).params for folder in (base, tmp_path / "run"))
    jax.tree.map(np.testing.assert_array_equal, apart["base"], known)
    adapters = apart["lora"]["stack"]["blocks"]["mlp"]["hidden"]["kernel"]
    added = np.einsum("LDR,LRF->LDF", *(np.asarray(adapters[name]) for name in ("down", "up")))
    found = read_init(str(tmp_path / "run"), one_device).params
    kernels = [one["stack"]["blocks"]["mlp"]["hidden"]["kernel"] for one in (found, known)]
    np.testing.assert_allclose(kernels[0], kernels[1] + added, atol=1e-6)
    assert np.abs(added).max() > 1e-4
    np.testing.assert_array_equal(found["tokens"]["table"], known["tokens"]["table"])


@pytest.mark.slow
def test_a_run_leaves_its_figures_its_answers_and_the_best_of_n(run):
    summary = json.loads((run / "summary.json").read_text())
    assert summary["episodes"] == 64
    assert summary["drift"] == max(row["drift"] for row in rows_of(run)) < summary["drift_bound"]
    assert summary["drift_bound"] == 1e-4
    assert [point["n"] for point in summary["best_of_n"]] == [1, 2]
    assert summary["best_of_n"][1]["reward"] >= summary["best_of_n"][0]["reward"]
    assert summary["best_of_n"][0]["gold"] == summary["best_of_n"][0]["reward"]
    assert summary["best_of_n"][0]["second"] != summary["best_of_n"][0]["reward"]
    measured = [row for row in read_metrics(run / "metrics.jsonl") if "valid_reward" in row]
    assert [row["step"] for row in measured] == [0, 2, 4]
    for row in measured:  # the second scorer is another, the gold one is the reward here
        assert row["valid_gold"] == row["valid_reward"] != row["valid_second"]
    low, high = summary["win_rate"][1:]
    assert 0 <= low <= summary["win_rate"][0] <= high <= 1
    assert {"rollout_seconds", "score_seconds", "update_tokens_per_second", "loss/text"} <= set(
        rows_of(run)[-1]
    )
    assert {path.name for path in (run / "samples").iterdir()} == {
        "00000000.txt", "00000002.txt", "00000004.txt",
    }  # fmt: skip
    assert processes(run / "goodput.json")[0]["seconds"]["data"] > 0
    assert "pretraining_loss" in summary and (run / "report.html").exists()


@pytest.mark.slow
def test_a_policy_of_more_rows_than_tokens_learns_from_answers_of_tokens_alone(
    monkeypatch, tmp_path
):
    padded = replace(MODEL, vocab=MODEL.vocab + 64)
    config = setting(pretrained(tmp_path / "base", padded), tmp_path, steps=2)
    config.run(tmp_path / "run")
    first, second = rows_of(tmp_path / "run")
    assert abs(first["kl"]) < 1e-5
    for row in (first, second):  # drawn, scored anew and updated over the same ids
        assert row["drift"] < 1e-4 and row["first_ratio"] < 1e-5
    # the control: with those rows drawn an answer has no text
    monkeypatch.setattr(ppo, "roll_out", lambda *some, vocab, **more: roll_out(*some, **more))
    with pytest.raises(DataError, match="is not in the bytes vocabulary"):
        config.run(tmp_path / "uncut")


def test_what_is_read_from_a_run_is_the_moving_average(tmp_path, one_device):
    numbers = np.random.default_rng(0)
    config = Ppo(
        model=MODEL, value_model=MODEL, optim=AdamWConfig(peak_lr=1e-3), batch=16,
        prompt_length=10, answer_length=8,
    )  # fmt: skip
    state = jax.tree.map(
        lambda leaf: jnp.asarray(numbers.integers(0, 99, leaf.shape), leaf.dtype),
        config.abstract(one_device),
    )
    saved = read_run(written(tmp_path, config, state), one_device)
    jax.tree.map(np.testing.assert_array_equal, saved.params, state.average)
    assert not np.array_equal(saved.params["norm"]["scale"], state.policy["norm"]["scale"])
    assert saved.config.policy_model == MODEL


@pytest.mark.slow
def test_a_run_that_was_cut_off_ends_with_the_same_parameters(base, run, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoints" / "4")
    setting(base, run.parent).run(again)
    assert final_digests(again, 4) == final_digests(run, 4)
    figures = [[(row["reward"], row["kl"], row["loss"]) for row in rows_of(one)]
               for one in (run, again)]  # fmt: skip
    assert figures[0] == figures[1] and len(figures[0]) == 4


@pytest.mark.slow
def test_a_resumed_run_on_another_reference_is_refused(base, run, tmp_path):
    other = pretrained(tmp_path / "other", seed=8)
    with pytest.raises(CheckpointError, match="init: checkpoint"):
        setting(base, run.parent, init=str(other)).run(run)


@pytest.mark.parametrize(
    ("function", "error", "problem"),
    [
        ("broken", DataError, f"{HERE}:broken raised RuntimeError: out of words"),
        ("leaving", DataError, f"{HERE}:leaving raised SystemExit: 3"),
        ("short", DataError, r"shape \(1,\) for 3 answers"),
        ("missing", ConfigError, "has no missing"),
        ("HERE", ConfigError, "is a str, not a function"),
    ],
)
def test_a_reward_function_that_fails_is_told_in_one_line(one_device, function, error, problem):
    with pytest.raises(error, match=problem) as caught:
        text_scorer(RewardConfig(function=f"{HERE}:{function}"), ByteTokenizer(), one_device)(
            ["p"] * 3, ["a"] * 3
        )
    assert "\n" not in str(caught.value)


def test_a_reward_function_that_has_worked_is_called_again_and_then_said_to_fail_for_now(
    one_device, monkeypatch, capsys
):
    monkeypatch.setattr(function, "PAUSES", (0, 0))
    config = RewardConfig(function=f"{HERE}:flaky")
    score = text_scorer(config, ByteTokenizer(), one_device)
    gone = TimeoutError("nobody\nanswers")
    monkeypatch.setattr(f"{HERE}.CALLS", [None, gone, gone])
    assert score(["p"], ["a"]) == score(["p"], ["a"]) == 1 / 8 and not CALLS
    said = (
        f"warning: reward.function={HERE}:flaky raised TimeoutError: nobody answers; called again"
    )
    assert capsys.readouterr().err.splitlines() == [f"{said} in 0 s"] * 2
    monkeypatch.setattr(f"{HERE}.CALLS", [gone] * 3)
    with pytest.raises(FunctionError, match="nobody answers; it was called 3 times") as caught:
        score(["p"], ["a"])
    assert caught.value.exit_code == 70  # launch/again.sh starts the command again
    monkeypatch.setattr(f"{HERE}.CALLS", [gone])
    fresh = text_scorer(config, ByteTokenizer(), one_device)
    with pytest.raises(DataError, match="nobody answers$") as caught:
        fresh(["p"], ["a"])  # a mistake, as far as is known
    assert caught.value.exit_code == 2


def test_a_reward_function_is_known_by_its_file_too_where_it_has_one(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("def one(prompts, answers): return [1.0] * len(answers)\n")
    name = f"{mine}:one"
    assert named(name)(["p"], ["a"]) == [1.0]
    before = file_digest(name)
    assert before == file_digest(name) and len(before) == 16
    mine.write_text(mine.read_text().replace("1.0", "2.0"))
    assert file_digest(name) != before
    assert len(file_digest(f"{HERE}:plainness")) == 16 and file_digest("builtins:len") == ""


@pytest.mark.parametrize(("passes", "error"), [(True, FunctionError), (False, DataError)])
def test_a_reward_function_that_fails_in_one_process_ends_all_alike(
    one_device, monkeypatch, passes, error
):
    score = RolloutScorer(RewardConfig(function=f"{HERE}:plainness"), ByteTokenizer(), one_device)
    assert score.by_function([("p", "a")]) == 1 / 8
    monkeypatch.setattr(scores, "everywhere", lambda flags: flags & [False, passes])
    with pytest.raises(error, match=f"{HERE}:plainness fails in another process") as caught:
        score.by_function([("p", "a")])
    assert type(caught.value) is error


@pytest.mark.slow
def test_where_the_reward_function_fails_the_run_is_saved_and_goes_on_to_the_same_parameters(
    base, run, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(function, "PAUSES", ())
    config = setting(base, tmp_path, "flaky")
    gone = [TimeoutError("nobody answers")]
    # an evaluation and two updates, another evaluation and two updates
    monkeypatch.setattr(f"{HERE}.CALLS", [None, None, None, *gone, None, *gone])
    with pytest.raises(FunctionError, match="update 3: .* nobody answers"):
        config.run(tmp_path / "run")
    assert "warning: step 2 is not measured: " in capsys.readouterr().out
    assert (tmp_path / "run" / "checkpoints" / "3").is_dir()
    monkeypatch.setattr(f"{HERE}.CALLS", gone)
    with pytest.raises(FunctionError, match="update 3: "):  # it had worked, if in another process
        config.run(tmp_path / "run")
    config.run(tmp_path / "run")
    assert final_digests(tmp_path / "run", 4) == final_digests(run, 4)


@pytest.mark.slow
def test_a_reward_that_is_no_number_stops_the_run_before_it_learns(base, run):
    folder = run.parent / "undefined"
    folder.mkdir()
    config = setting(base, folder, "undefined", gold=RewardConfig(), steps=1)
    with pytest.raises(GuardStop, match="update 0: reward nan is not a number"):
        config.run(folder / "run")


@pytest.mark.parametrize(
    ("platform", "precision", "stops"),
    [("cpu", "default", True), ("tpu", "highest", True), ("tpu", "default", False)],
)
def test_float32_products_that_an_accelerator_rounds_may_differ_as_those_of_bfloat16(
    monkeypatch, platform, precision, stops
):
    monkeypatch.setattr(dot, "platform", lambda: platform)
    monkeypatch.setattr(Ppo, "warn", lambda config, session: [])
    config = Ppo(model=MODEL, optim=AdamWConfig(peak_lr=1e-3), batch=16)
    said = []
    session = SimpleNamespace(first=0, main=False, journal=SimpleNamespace(say=said.append))
    figures = {"reward": 0.5, "kl": 0.0, "drift": 1.2e-2, "drift_mean": 1.4e-3}  # seen of float32
    refused = pytest.raises(GuardStop, match="more than drift 1e-04") if stops else nullcontext()
    with jax.default_matmul_precision(precision), refused:
        config.check(figures, 0, None, session)
        config.check(figures, 1, None, session)
    # the first update says by how much they do, and how much they may
    assert [line.split(": ")[1] for line in said] == (
        [] if stops else ["drift_mean 1.4e-03 nats a token, at most 2e-02"]
    )


@pytest.mark.slow
def test_a_kl_above_its_bound_stops_the_run_with_its_state_saved(base, run):
    folder = run.parent / "far"
    folder.mkdir()
    config = setting(base, folder, kl=KlConfig(beta=0.0, stop=1e-4))
    with pytest.raises(GuardStop, match=r"update 1: KL .* above kl.stop 0.0001"):
        config.run(folder / "run")
    assert (folder / "run" / "checkpoints" / "1").is_dir()
    # nor does a page that cannot be written hide why it stopped
    shutil.rmtree(folder / "run")
    (folder / "run" / "report.html.tmp").mkdir(parents=True)
    with pytest.raises(GuardStop, match="update 1: KL"):
        config.run(folder / "run")


@pytest.mark.slow
def test_a_run_that_its_kl_stopped_goes_on_with_a_larger_bound_or_from_before(base, tmp_path):
    def going(run, step=None, stop=None, rate=3e-3):
        loop = LoopConfig(log_every=1, evaluate_every=9, save_every=1, keep=9)
        setting(
            base, tmp_path, kl=KlConfig(beta=0.0, stop=stop), gold=RewardConfig(), loop=loop,
            second=RewardConfig(), optim=AdamWConfig(peak_lr=rate, weight_decay=0.0),
            update=UpdateConfig(minibatches=2, average=0.5),
            advantages=AdvantageConfig(estimator="k3"),  # of 16 answers the other is noise
        ).run(run, Process(restore_step=step))  # fmt: skip

    first, again = tmp_path / "run", tmp_path / "again"
    going(first)
    kl = [row["kl"] for row in rows_of(first)]
    stop = 0.5 * (max(kl[1], 0.0) + kl[3])
    assert max(kl[:2]) < 0.7 * stop < stop < kl[3]
    shutil.rmtree(first / "checkpoints" / "4")
    for rate in (3e-3, 1e-6):  # of the policy that went too far a lower rate makes no other
        with pytest.raises(GuardStop, match=rf"update 3: KL .* above kl.stop {stop}"):
            going(first, stop=stop, rate=rate)
    shutil.copytree(first, again)
    going(again, stop=2 * kl[3])
    going(first, step=1, stop=stop, rate=1e-6)
    assert all((run / "checkpoints" / "4").is_dir() for run in (first, again))


@pytest.mark.slow
def test_another_beta_counts_from_the_step_that_a_run_goes_on_from(base, run, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoints" / "4")
    before = (again / "config.gin").read_text()
    with pytest.raises(ConfigError, match="kl.beta: checkpoint 0.02, now 5.0"):
        setting(base, run.parent, kl=KlConfig(beta=5.0, target=6.0)).run(again)
    assert (again / "config.gin").read_text() == before
    setting(base, run.parent, kl=KlConfig(beta=5.0)).run(again)
    assert [row["beta"] for row in rows_of(again)] == pytest.approx([0.02, 0.02, 5.0, 5.0])


def test_the_reference_says_the_same_whatever_the_number_of_steps(monkeypatch):
    def draws(steps):
        drawn = []

        def recorded(model, policy, prompts, key, **_):
            drawn.append((policy, prompts, *jax.random.key_data(key).tolist()))

        monkeypatch.setattr(ppo, "roll_out", recorded)
        config = Ppo(
            model=MODEL, optim=AdamWConfig(peak_lr=1e-3), batch=16, steps=steps,
            reward=RewardConfig(function="a:b", normalise=48),
        )  # fmt: skip
        score = SimpleNamespace(normalise=lambda rollouts: (len(list(rollouts)), 0.0))
        material = SimpleNamespace(form=ByteTokenizer(), prompts=lambda step, mesh: step)
        session = SimpleNamespace(journal=SimpleNamespace(say=lambda text: None))
        config.normalise(score, "reference", material, None, session)
        return drawn

    assert draws(4) == draws(9)
    assert [some[:2] for some in draws(4)] == [("reference", step) for step in range(3)]
    assert len({tuple(key) for _, _, *key in draws(4)}) == 3  # the control


def test_every_update_draws_and_orders_its_answers_by_keys_of_its_own(base, tmp_path, monkeypatch):
    drawn_by, ordered_by = [], []

    def noted(keys, key):
        keys.append(tuple(jax.random.key_data(key).tolist()))

    def rolled_out(config, policy, prompts, key, form):
        noted(drawn_by, key)
        return SimpleNamespace(there=1)

    def update(state, experience, text, kl, rates, key):
        noted(ordered_by, key)
        return state.replace(step=state.step + 1), UpdateMetrics(*[jnp.ones(())] * 10)

    for name, fake in {
        "Ppo.rolled_out": rolled_out, "Ppo.compiled": lambda *_: update,
        "Ppo.check": lambda *_: None, "assess": lambda *_, **__: (None, {"kl": 0.0}),
        "RolloutScorer.__call__": lambda *_: None, "PpoEvaluation.__call__": lambda *_: {},
        "PpoEvaluation.finish": lambda *_: {"figures": {}},
    }.items():  # fmt: skip
        monkeypatch.setattr(f"lm.rlhf.ppo.{name}", fake)
    nobody, plain = RewardConfig(), UpdateConfig(minibatches=2)
    setting(base, tmp_path, gold=nobody, second=nobody, update=plain).run(tmp_path / "run")
    for keys in (drawn_by, ordered_by):
        assert len(set(keys)) == len(keys) == 4


class Counter(Updater):
    """Adds one to the policy in a minibatch of numbers."""

    def minibatches(self, whole, order):
        return whole

    def learn(self, state, part, text, rates):
        finite = jnp.isfinite(part.mask)
        zero = jnp.zeros(())
        learned = state.replace(policy=jnp.where(finite, state.policy + 1, state.policy))
        return learned, UpdateMetrics(
            policy_loss=part.mask, value_loss=zero, text_loss=zero, grad_norm=part.mask,
            finite=finite, applied=finite, spike=zero, clipped=zero, first_ratio=zero, step_kl=zero,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("losses", "loss", "steps", "said"),
    [
        ((1.0, 2.0, 3.0, 6.0), 3.0, 4, None),
        ((1.0, np.nan, 3.0, 5.0), 3.0, 3,
         "loss 3.0, gradient norm 3.0 of the 75% of its minibatches that were finite; the others "
         "were skipped"),
        ((np.nan,) * 4, np.nan, 0, "loss nan, gradient norm nan; skipped"),
    ],
)  # fmt: skip
def test_an_update_tells_what_of_it_was_made_and_is_followed_where_any_was(
    losses, loss, steps, said, one_device
):
    guard = GuardConfig(spike="off", nonfinite="skip")
    update = Counter(
        MODEL, MODEL, UpdateConfig(average=0.5), AdvantageConfig(), KlConfig(target=6.0), guard,
        None, None, None, None, 1.0, one_device,
    )  # fmt: skip
    zero = jnp.zeros(())
    state = PpoState(
        step=zero, policy=zero, value=zero, average=zero, policy_moments=zero, value_moments=zero,
        beta=jnp.float32(0.1), guard=GuardState.empty(guard),
    )  # fmt: skip
    nothing = dict.fromkeys(
        ("tokens", "start", "logp", "values", "rewards", "advantages", "returns")
    )
    part = Experience(mask=jnp.array(losses), **nothing)
    after, found = update(state, part, None, jnp.float32(99.0), (zero, zero), jax.random.key(0))
    assert (after.step, after.policy, after.average) == (1, steps, steps / 2)
    assert (after.beta > 0.1) == (steps > 0)
    assert found.finite == (steps == 4) and found.applied == steps / 4
    np.testing.assert_array_equal((found.policy_loss, found.grad_norm), loss)
    told = []
    journal = SimpleNamespace(say=told.append, bad_step=lambda *_: None, main=False)
    config = Ppo(model=MODEL, optim=AdamWConfig(peak_lr=1e-3), batch=16)
    Reaction(guard, journal).to(3, jax.device_get(config.metrics(found, 3, {})))
    assert told == ([f"warning: step 3: {said}"] if said else [])


def test_prompt_and_answer_must_fit_the_context(base, tmp_path):
    with pytest.raises(ConfigError, match=r"prompt_length 40 \+ answer_length 9 is more than"):
        setting(base, tmp_path, prompt_length=40, answer_length=9).run(tmp_path / "run")
    with pytest.raises(ConfigError, match="batch 16 is not divisible by update.minibatches 3"):
        setting(base, tmp_path, update=UpdateConfig(minibatches=3))
    with pytest.raises(ConfigError, match="batch 16 is not divisible by rollout_parts 5"):
        setting(base, tmp_path, rollout_parts=5)
    with pytest.raises(ConfigError, match="no reward: --set reward.run=RUN"):
        setting(base, tmp_path, reward=RewardConfig()).run(tmp_path / "run")


@pytest.mark.slow
def test_without_a_penalty_the_policy_hacks_and_with_a_large_one_it_stays(base, tmp_path):
    found = {}
    for beta in (0.0, 50.0):
        folder = tmp_path / str(beta)
        folder.mkdir()
        setting(
            base, folder, steps=60, kl=KlConfig(beta=beta), gold=RewardConfig(),
            update=UpdateConfig(minibatches=2, average=0.5),
            loop=LoopConfig(log_every=1, evaluate_every=60, save_every=60),
        ).run(folder / "run")  # fmt: skip
        rows = rows_of(folder / "run")
        found[beta] = {
            name: (rows[0][name], np.mean([row[name] for row in rows[-20:]]))
            for name in ("reward", "kl", "entropy")
        }
    # over the last 20 updates, 320 answers: an estimate from a few answers is noise of this size
    start, end = found[0.0]["reward"]
    assert end > start + 0.3 and found[0.0]["kl"][1] > 5
    assert found[0.0]["entropy"][1] < found[0.0]["entropy"][0] - 1
    start, end = found[50.0]["reward"]
    assert abs(end - start) < 0.1 and abs(found[50.0]["kl"][1]) < 0.2


@pytest.mark.slow
def test_updates_on_eight_devices_equal_those_on_one(base, run, tmp_path):
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ppo, "make_mesh", lambda config: mesh)
        setting(base, tmp_path).run(tmp_path / "run")
    for ours, theirs in zip(rows_of(tmp_path / "run"), rows_of(run), strict=True):
        for name in ("reward", "kl", "loss", "loss/value", "loss/text", "grad_norm"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_an_update_in_microbatches_equals_the_whole(base, run, tmp_path):
    setting(base, tmp_path, microbatches=4, rollout_parts=2).run(tmp_path / "run")
    for ours, theirs in zip(rows_of(tmp_path / "run"), rows_of(run), strict=True):
        for name in ("reward", "kl", "loss", "loss/value", "loss/text", "grad_norm", "clipped"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-5)
    lengths = {row["length"] for row in rows_of(run)}
    assert min(lengths) < 8  # some end early: microbatches have unequal numbers of tokens


@pytest.mark.parametrize(
    ("name", "run"), [("model", "BASE"), ("value_model", "REWARD"), ("value_model", "BASE")]
)
def test_a_policy_and_a_value_function_compute_what_the_runs_they_begin_with_do(name, run):
    config = Ppo(
        model=MODEL, value_model=MODEL, init="BASE", reward=RewardConfig(run="REWARD"),
        optim=AdamWConfig(peak_lr=1e-3), batch=16, prompt_length=10, answer_length=8,
        value_from="reward" if run == "REWARD" else "policy",
    )  # fmt: skip
    begins, scores = SimpleNamespace(model=MODEL, text=None), MODEL
    assert config.resolved(begins, scores).value_model == MODEL
    other = replace(config, **{name: replace(MODEL, activation="relu")})
    told = rf"^{name}\.activation is 'relu', and .* in init={run}: --set {name}=None takes that one"
    with pytest.raises(ConfigError, match=told):
        other.resolved(begins, scores)
    trunk = replace(config, value_from="trunk", value_model=replace(MODEL, activation="relu"))
    assert trunk.resolved(begins, scores).value_model == MODEL  # which has no model of its own


@pytest.mark.parametrize("begins", ["reward", "policy", "trunk"])
def test_a_value_function_begins_as_the_reward_model_or_with_a_head_of_zeros(begins, one_device):
    numbers = np.random.default_rng(0)
    config = Ppo(
        model=MODEL, value_model=MODEL, value_from=begins, optim=AdamWConfig(peak_lr=1e-3),
        batch=16, prompt_length=10, answer_length=8,
    )  # fmt: skip

    def drawn(leaf):
        return jnp.asarray(numbers.standard_normal(leaf.shape), leaf.dtype)

    abstract = config.abstract(one_device)
    policy, scores = (
        jax.tree.map(drawn, config.beside(one_device)[name]) for name in ("reference", "reward")
    )
    source = Source(MODEL, ByteTokenizer(), None, policy, "")
    with jax.set_mesh(one_device):
        state = config.create(abstract, source, scores)
        without = config.create(abstract, source, None)
    zeros = {"head": jax.tree.map(jnp.zeros_like, scores["head"])}
    fresh = zeros if begins == "trunk" else zeros | {"model": policy}
    for found, expected in (
        (state.policy, policy), (state.average, policy),
        (state.value, scores if begins == "reward" else fresh), (without.value, fresh),
    ):  # fmt: skip
        jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("name", ["optim", "value_optim"])
def test_a_schedule_that_would_do_nothing_is_refused_and_none_is_recorded(name):
    config = Ppo(
        model=MODEL, optim=AdamWConfig(peak_lr=1e-3), batch=16, prompt_length=10, answer_length=8
    )
    config.check_rates()
    begins = SimpleNamespace(model=MODEL, text=None)
    assert bindings(config.resolved(begins, None))[f"{name}.schedule"] == "constant"
    for field, value in {"schedule": "linear", "final_ratio": 0.0, "warmup_tokens": 9,
                         "warmup_fraction": 0.5, "decay_tokens": 9}.items():  # fmt: skip
        with pytest.raises(ConfigError, match=rf"^{name}.{field} .* `warmup` and `linear_decay`"):
            bind(config, {f"{name}.{field}": value}).check_rates()
    theirs = replace(config, **{name: Gpt1AdamConfig(peak_lr=1e-3)}).resolved(begins, None)
    assert bindings(theirs)[f"{name}.warmup_fraction"] == 0.0
    with pytest.raises(ConfigError, match=f"^{name}: BertAdamConfig has a schedule"):
        replace(config, **{name: BertAdamConfig(peak_lr=1e-3)}).check_rates()


@pytest.mark.parametrize("gamma", [pytest.param(0.0, marks=pytest.mark.slow), 27.8])
def test_the_update_is_lowered_for_a_mesh_without_a_run_to_start_from(gamma):
    config = Ppo(
        model=MODEL, value_model=MODEL, optim=AdamWConfig(peak_lr=1e-3), batch=16,
        prompt_length=10, answer_length=8, update=UpdateConfig(minibatches=2, gamma=gamma),
    )  # fmt: skip
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    assert ("tensor<16x8x18xi32" in config.lowered(mesh).as_text()) == (gamma > 0)  # rows of text
    with pytest.raises(ConfigError, match="batch 8 is not divisible by 16 .* nearest"):
        replace(config, batch=8).lowered(mesh)
    with pytest.raises(ConfigError, match="batch 16 is not divisible by 32 .* nearest"):
        replace(config, rollout_parts=4).lowered(mesh)
