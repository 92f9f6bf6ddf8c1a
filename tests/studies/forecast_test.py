"""Laws from small runs: what they foretell of planted ones, and a file that is written once."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments import sweeps
from lm.core.config import bind, dump
from lm.core.errors import ConfigError, DataError
from lm.data.programs import problems
from lm.evals.programs.trial import Trial, ask
from lm.studies import forecast
from lm.studies.forecast_fit import (
    buckets,
    minus_log_rates,
    predict_loss,
    predict_rate,
    solved_by_all,
)
from lm.studies.forecast_report import Measured, foretell, outcomes, verdict, write_report
from lm.train import process
from lm.train.pretrain import Pretrain
from lm.train.process import Process

pytestmark = pytest.mark.usefixtures("one_device")

COMPUTE = np.geomspace(1e-4, 5e-2, 8)


def losses(seed, noise, compute=COMPUTE):
    """Of 0.6 C^-0.15 + 1.4, with relative errors."""
    errors = np.random.default_rng(seed).standard_normal(len(compute))
    return (0.6 * compute**-0.15 + 1.4) * np.exp(noise * errors)


def test_a_law_without_noise_is_foretold_exactly():
    found = predict_loss(COMPUTE, losses(0, 0))
    assert found.value == pytest.approx(2.0, rel=1e-3)
    assert found.low <= found.value <= found.high < found.low * 1.01
    assert found.law.irreducible == pytest.approx(1.4, rel=2e-2)


@pytest.mark.slow
def test_the_interval_holds_a_new_run_about_as_often_as_it_says():
    held, plain = [], []
    for seed in range(50):
        new = 2.0 * np.exp(0.01 * np.random.default_rng([seed, 1]).standard_normal())
        found = predict_loss(COMPUTE, losses(seed, 0.01))
        held.append(found.low <= new <= found.high)
        # the control: the law alone, without what its fit leaves uncertain
        plain.append(abs(new / found.value - 1) < 1.96 * found.law.error)
    assert 0.84 < np.mean(held) <= 1.0
    assert np.mean(plain) < np.mean(held) - 0.1


def test_losses_that_compute_does_not_explain_have_a_wide_interval():
    shuffled = np.random.default_rng(3).permutation(losses(0, 0.01))
    wide, narrow = predict_loss(COMPUTE, shuffled), predict_loss(COMPUTE, losses(0, 0.01))
    assert wide.high / wide.low > 3 * narrow.high / narrow.low


def rates(seed, noise, compute=COMPUTE):
    """-log pass rates 0.5 C^-0.2."""
    errors = np.random.default_rng(seed).standard_normal(len(compute))
    return 0.5 * compute**-0.2 * np.exp(noise * errors)


def test_a_pass_rate_is_foretold_with_the_interval_of_a_line():
    found = predict_rate(COMPUTE, rates(0, 0))
    assert found.value == pytest.approx(0.5) and found.law.exponent == pytest.approx(0.2)
    held = []
    for seed in range(400):
        new = 0.5 * np.exp(0.05 * np.random.default_rng([seed, 1]).standard_normal())
        found = predict_rate(COMPUTE, rates(seed, 0.05))
        held.append(found.low <= new <= found.high)
    assert abs(np.mean(held) - 0.95) < 3.5 * np.sqrt(0.95 * 0.05 / 400)


def test_only_problems_that_all_models_solve_have_a_logarithm():
    passed = [[0, 3, 8], [1, 0, 8], [4, 2, 8]]
    assert solved_by_all(passed).tolist() == [False, False, True]
    np.testing.assert_allclose(minus_log_rates([2, 8], [8, 8]), [np.log(4), 0])
    with pytest.raises(DataError, match="1 problems were never solved"):
        minus_log_rates([0, 8], [8, 8])


def test_buckets_go_from_easy_to_hard_over_the_kept_problems():
    mean = np.array([0.9, 0.1, 0.5, 0.7, 0.3, 0.2, 0.8])
    kept = mean != 0.7
    parts = buckets(np.stack([mean, mean]), kept)
    assert [part.tolist() for part in parts] == [[0, 6], [2, 4], [1, 5]]


def measured(name, compute, loss, passed, samples=50):
    trials = [Trial(f"w{n}", 1 + n % 3, c, samples, 2, "x") for n, c in enumerate(passed)]
    return Measured(name, 1000, 2000, compute, loss, trials)


def planted(rate=0.15):
    """Runs whose losses and pass rates follow laws, and the large one that follows them too."""
    ease = np.linspace(0.3, 1.5, 12)  # of a problem
    runs = []
    for n, c in enumerate([*COMPUTE, 1.0]):
        passed = np.round(5000 * np.exp(-ease * 0.3 * c**-rate))
        loss = 0.6 * c**-0.15 + 1.4
        runs.append(measured(f"s{n}", c * 1e12, loss, passed.astype(int), 5000))
    return runs[:-1], runs[-1]


def test_planted_runs_come_out_as_foretold_and_a_run_off_the_laws_does_not(tmp_path):
    small, large = planted()
    rated = [one.name for one in small[2:]]
    told = foretell(small, {"compute": 1e12}, rated, 0.95)
    assert set(told["rates"]) == {"all", "easy", "middle", "hard"}
    rows = outcomes(told, large)
    assert [row["what"].split(",")[0] for row in rows] == ["loss"] + ["-log pass@1"] * 4
    for row in rows:
        assert row["value"] == pytest.approx(row["out"], rel=0.02), row
    assert rows[0]["plain"] < rows[0]["out"] * 0.99  # the control: without c it is too low
    write_report(tmp_path, "title", told, small, large)
    report = (tmp_path / "report.md").read_text()
    assert "| 95% interval |" in report
    sure = foretell(small, {"compute": 1e12}, rated, 0.999)
    write_report(tmp_path, "title", sure, small, large)
    assert "| 99.9% interval |" in (tmp_path / "report.md").read_text()
    assert report.startswith("loss, nats a token: foretold 2") and "inside the interval" in report
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")
    loose = foretell(small[::2], {"compute": 1e12}, rated, 0.95)  # four points
    loose["loss"] |= {"low": loose["loss"]["value"] / 100}
    assert "foretold 2 (not bound by so few points)" in verdict(outcomes(loose, large)[0])
    off = replace(large, loss=3.0)
    assert "outside of the interval" in verdict(outcomes(told, off)[0])


def test_a_bucket_that_is_wholly_solved_has_no_relative_error(tmp_path):
    small, large = planted()
    told = foretell(small, {"compute": 1e12}, [one.name for one in small[2:]], 0.95)
    solved = [replace(trial, passed=trial.samples) for trial in large.trials]
    large = replace(large, trials=solved)
    write_report(tmp_path, "title", told, small, large)
    assert "came out 0, error -, outside of the interval" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")


def test_a_pass_rate_is_measured_over_the_problems_that_it_was_foretold_of(tmp_path):
    small, large = planted()
    told = foretell(small, {"compute": 1e12}, [one.name for one in small[2:]], 0.95)

    def unsolved(*numbers):
        trials = [
            replace(trial, passed=0) if number in numbers else trial
            for number, trial in enumerate(large.trials)
        ]
        return replace(large, trials=trials)

    whole, one, none = (outcomes(told, unsolved(*some)) for some in ((), (11,), range(8, 12)))
    names = ["loss, nats a token", *(f"-log pass@1, {name}" for name in told["rates"])]
    for rows in (whole, one, none):  # a bucket of which nothing is solved keeps its row
        assert [row["what"].partition(" (")[0] for row in rows] == names
    assert one[4]["unsolved"] == 1 and none[4]["unsolved"] == 4
    half = np.log(5000 / 0.5)  # the hardest problem counts half a success
    rate = -np.log(large.passed[8:] / 5000)
    assert one[4]["out"] == pytest.approx((rate[:3].sum() + half) / 4)
    assert one[4]["out"] > whole[4]["out"] and none[4]["out"] == pytest.approx(half)
    assert "came out at least 9.21, error -, outside of the interval" in verdict(none[4])
    wide = one[4] | {"high": 100.0}
    assert verdict(wide).endswith("error -, no verdict: 1 never solved")
    write_report(tmp_path, "title", told, small, unsolved(11))
    assert "| at least " in (tmp_path / "report.md").read_text()


def small_runs(study):
    """Of its sizes, as if they had ended."""
    members = study.members()
    return [
        measured(name, study.compute(members[name]), 3.0 - 0.1 * n, [n + 1, 2 * n + 1, 3, 0])
        for n, (name, _) in enumerate(study.sizes)
    ]


def test_a_forecast_is_written_once_before_the_large_run_and_of_the_same_small_ones(tmp_path):
    study = sweeps.forecast()
    names, small = [name for name, _ in study.sizes], small_runs(study)
    assert study.register(tmp_path, small) is None  # nothing more before it is committed
    path = tmp_path / "forecast.json"
    text = path.read_text()
    first = json.loads(text)
    assert first["written"].startswith("20")
    assert first["rated"] == names[names.index(study.rated) :]
    assert study.register(tmp_path, small) == json.loads(text)  # read, not made again
    (tmp_path / study.large[0]).mkdir()
    assert study.register(tmp_path, small) == json.loads(text)
    nudged = json.loads(text)
    nudged["loss"]["value"] *= 1 + 1e-6  # the arithmetic of another machine
    path.write_text(json.dumps(nudged))
    assert study.register(tmp_path, small) == nudged
    for part, name in (("loss", "high"), ("rates", "all")):
        changed = json.loads(text)
        held = changed[part][name] if part == "rates" else changed[part]
        held["high"] *= 1.1
        path.write_text(json.dumps(changed))
        with pytest.raises(DataError, match="changed by hand"):
            study.register(tmp_path, small)
    path.write_text(text)
    other = [replace(small[0], loss=2.9), *small[1:]]
    with pytest.raises(DataError, match="a forecast is not made again"):
        study.register(tmp_path, other)
    assert path.read_text() == text
    path.unlink()
    with pytest.raises(DataError, match=r"was started before there was a forecast\.json"):
        study.register(tmp_path, small)


def test_another_process_ends_where_the_first_has_written_the_forecast(tmp_path, monkeypatch):
    study, written = sweeps.forecast(), []
    small = small_runs(study)
    (tmp_path / "first").mkdir()
    study.register(tmp_path / "first", small)
    text = (tmp_path / "first" / "forecast.json").read_text()

    def waited(done):  # the second time the first process has written, and goes on
        written.append(done)
        if len(written) == 2:
            (tmp_path / "forecast.json").write_text(
                text.replace('"written": "20', '"written": "19')
            )
            (tmp_path / study.large[0]).mkdir()
        return done

    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(process, "agreed", waited)
    monkeypatch.setattr(forecast, "agreed", waited, raising=False)
    assert study.register(tmp_path, small) is None and written == [True, True]
    assert study.register(tmp_path, small)["written"].startswith("19")


def test_runs_that_carry_no_forecast_are_refused():
    study = sweeps.forecast()
    with pytest.raises(ConfigError, match="a law with three unknowns needs 4"):
        replace(study, sizes=study.sizes[:3])
    with pytest.raises(ConfigError, match="must rise"):
        replace(study, sizes=study.sizes[::-1])
    with pytest.raises(ConfigError, match="is not one of"):
        replace(study, rated="7b")
    seeds = [one.seed for one in study.members().values()]
    assert len(set(seeds)) == len(seeds)


def test_runs_that_have_begun_keep_their_seeds_beside_a_new_smaller_one(tmp_path, monkeypatch):
    study, given = sweeps.forecast(), {}

    def run(self, folder, _):
        given[folder.name] = self.seed
        raise InterruptedError

    monkeypatch.setattr(Pretrain, "run", run)
    for name, member in list(study.members().items())[:2]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.gin").write_text(dump(member))
    first, second, third, *_, last = study.members()
    smaller = ("9k", study.sizes[0][1].replace("model.width=32", "model.width=12"))
    grown = replace(study, sizes=(smaller, *study.sizes))
    for name, seed in {"9k": 2, first: 0, second: 1, third: 3, last: len(study.sizes) + 1}.items():
        assert grown.members(tmp_path)[name].seed == seed
        with pytest.raises(InterruptedError):
            grown.measured(tmp_path, name, Process())
        assert given[name] == seed
    seeds = {name: member.seed for name, member in study.members(tmp_path).items()}
    assert list(seeds.values()) == list(range(len(seeds)))  # as where none has begun
    assert study.members(tmp_path / "new") == study.members()


def test_what_a_model_writes_is_run_problem_by_problem():
    some = problems(3)

    class Told:
        """Right for the first problem, half of the time for the second, never for the third."""

        def generate(self, prompts, tokens, **options):
            assert prompts == [problem.prompt for problem in some for _ in range(4)]
            second = some[1].program
            return [some[0].program] * 4 + [second, "x+", second, "1/0"] + ["while", "", "x", "("]

    trials = ask(Told(), some, 4)
    assert [trial.passed for trial in trials] == [4, 2, 0]
    assert [trial.distinct for trial in trials] == [1, 3, 4]


@pytest.mark.slow
def test_the_same_command_foretells_then_trains_and_tells_and_does_nothing_twice(tmp_path, capsys):
    prose = tmp_path / "prose.txt"
    prose.write_text("Once there was a cat that sat on a mat. " * 200)
    study = bind(
        sweeps.forecast(),
        {
            "base.data.train": str(prose), "base.data.cache": str(tmp_path / "cache"),
            "base.batch": 8, "base.data.documents_train": 300, "base.data.documents_valid": 20,
            "base.evaluate_batches": 1, "problems": 3, "samples": 2,
        },
    )  # fmt: skip
    tiny = "model.layers=1 model.heads=2 model.unroll=1 model.width=8"
    sizes = tuple((name, f"{tiny} steps={n + 1}") for n, name in enumerate("abcd"))
    study = replace(study, sizes=sizes, rated="a", large=("e", f"{tiny} steps=9"))
    study.run(tmp_path / "study")
    text = (tmp_path / "study" / "forecast.json").read_text()
    assert not (tmp_path / "study" / "e").exists() and "commit it" in capsys.readouterr().out
    study.run(tmp_path / "study")
    report = (tmp_path / "study" / "report.md").read_text()
    assert report.startswith("loss, nats a token: foretold ")
    capsys.readouterr()
    study.run(tmp_path / "study")
    assert "---" not in capsys.readouterr().out.partition("| --- |")[0]  # none is trained again
    assert (tmp_path / "study" / "forecast.json").read_text() == text
