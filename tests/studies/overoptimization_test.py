"""The study of over-optimisation: its rule, and its command."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments import sweeps
from lm.core.config import bind
from lm.studies.overoptimization_report import accuracies, change, shown, verdict
from tests.studies.demonstrated import bindings

pytestmark = pytest.mark.usefixtures("one_device")

ROOT_KL = np.linspace(0, 4, 15)
NOISE = 0.02 * np.random.default_rng(0).standard_normal((2, 3, 15))


def optimised(beta, noise):
    """Gold scores over the root of the KL, d (alpha - beta log d) as Gao et al. (2022, equation 2)
    fit them, of three seeds."""
    distance = np.maximum(ROOT_KL, 1e-9)
    return distance * (1 - beta * np.log(distance)) + noise


HACKED, HONEST = change(optimised(0.7, NOISE[0])), change(optimised(0.1, NOISE[1]))


def test_shown_is_a_clear_rise_and_a_clear_fall_where_the_control_has_none():
    assert HACKED.rises and HACKED.falls and HONEST.rises and not HONEST.falls
    found = {"proxy": HACKED, "control": HONEST}
    assert shown(**found) and verdict(found, 3).startswith("shown")
    for proxy, control in ((HONEST, HONEST), (HACKED, HACKED), (HONEST, HACKED)):
        found = {"proxy": proxy, "control": control}
        assert not shown(**found) and verdict(found, 3).startswith("not shown")


def test_a_score_that_only_falls_is_not_over_optimised():
    falling = change(-ROOT_KL + NOISE[0])
    assert falling.falls and not falling.rises and not shown(falling, HONEST)


def test_a_control_that_learns_nothing_or_may_fall_alike_shows_nothing():
    assert not shown(HACKED, change(NOISE[1]))  # it does not rise
    unsure = replace(HONEST, losses=np.array([0.1, 0.2, 5.0]))
    assert unsure.rises and not unsure.falls and not shown(HACKED, unsure)
    assert shown(HACKED, replace(HONEST, losses=np.array([0.1, 0.2, 0.3])))


def test_one_seed_shows_nothing():
    alone = change(optimised(0.7, NOISE[0])[:1])
    assert alone.rise[0] > 0 and alone.fall[0] > 0 and not alone.rises and not alone.falls


def test_noise_around_a_plateau_is_no_fall():
    """A peak of its own would be above the end in every seed, however flat the curve."""
    random, own, told = np.random.default_rng(1), 0, 0
    for _ in range(200):
        flat = 1 + 0.1 * random.standard_normal((3, 15))
        falls = flat.max(axis=1) - flat[:, -1]
        own += falls.mean() > 2 * falls.std(ddof=1)
        told += change(flat).falls
    assert told < 20 < own  # the control: of 200


def test_of_peoples_rankings_no_limit_is_told(tmp_path):
    def seed(number, known):
        folder = tmp_path / str(number)
        (folder / "pipeline" / "reward").mkdir(parents=True)
        (folder / "pipeline/reward/summary.json").write_text('{"valid_accuracy": 0.7}')
        if known:
            figures = {"rankings": 4, "pairs": 9, "bayes_accuracy": 0.8}
            (folder / "pipeline/labeling.json").write_text(json.dumps(figures))
        return folder

    judged = "\n".join(accuracies([seed(0, True)]))
    assert "Bayes limit) | 0.800" in judged and judged.endswith("Rankings: 4 of 9 pairs.")
    for folders in ([seed(1, False)], [tmp_path / "0", tmp_path / "1"]):
        told = "\n".join(accuracies(folders))
        assert "reward model | 0.700" in told and "Bayes" not in told and "Rankings" not in told


@pytest.mark.slow
def test_one_command_goes_far_by_the_reward_model_and_by_the_truth(tmp_path):
    study = bind(
        sweeps.overoptimization(),
        bindings(tmp_path) | {
            "pipeline.ppo.steps": "3",
            "pipeline.ppo.best_of": "4",
            "pipeline.ppo.evaluate_prompts": "8", "pipeline.ppo.prompt_length": "16",
            "pipeline.ppo.answer_length": "16", "pipeline.ppo.loop.evaluate_every": "2",
        },
    )  # fmt: skip
    study.run(tmp_path / "study")
    assert (tmp_path / "study" / "report.md").read_text().startswith("not shown")  # one seed
    summary = json.loads((tmp_path / "study" / "summary.json").read_text())
    proxy, control = (summary["curves"][name] for name in ("proxy", "control"))
    assert summary["updates"] == {"proxy": [0, 2, 3], "control": [0, 2, 3]}
    assert proxy["gold"][0][0] == control["gold"][0][0]  # one model, the same answers
    assert control["gold"] == control["reward"]
    assert proxy["gold"][0][0] != proxy["reward"][0][0]  # the control: a reward model is another
    assert proxy["kl"][0][0] == 0 and proxy["kl"][0][-1] != control["kl"][0][-1]
    best = summary["best_of_n"]
    assert best["n"] == [[1, 2, 4]] and best["reward"][0] == sorted(best["reward"][0])
    rankings = (tmp_path / "study" / "0" / "pipeline" / "comparisons.jsonl").read_text()
    counts = {len(json.loads(line)["answers"]) for line in rankings.splitlines()}
    assert min(counts) >= 4 and max(counts) == 9
    before = (tmp_path / "study" / "0" / "proxy" / "metrics.jsonl").stat().st_mtime
    study.run(tmp_path / "study")  # all is there: it tells again
    assert (tmp_path / "study" / "0" / "proxy" / "metrics.jsonl").stat().st_mtime == before
