"""What is wrong with a run of PPO, in words: read off the figures of its updates."""

import math
from collections.abc import Mapping, Sequence

from lm.core.errors import GuardStop

RECENT = 10  # updates that a trend is read from
FAR = 1.0  # nats a token: a policy whose KL is larger no longer writes as its reference does
TAX = 0.5  # nats a token more on pre-training text: it is being forgotten


def check_rollout(
    figures: Mapping[str, float], *, tolerance: float, exact: bool, kl_stop: float | None
) -> None:
    """Whether there is something to learn from a rollout.

    Args:
      tolerance: between log-probabilities as drawn and as scored anew, in nats a token.
      exact: the largest difference counts, and not the mean one: products are not rounded.
      kl_stop: nats an answer.

    Raises:
      GuardStop: a reward that is not a number, log-probabilities that differ, or a KL too large.
    """
    if not math.isfinite(figures["reward"]):
        raise GuardStop(
            f"reward {figures['reward']} is not a number: look at the reward model or function"
        )
    drift = figures["drift"] if exact else figures["drift_mean"]
    if not drift <= tolerance:
        which = "largest" if exact else "mean"
        raise GuardStop(
            f"log-probabilities of the rollout and scored anew differ by {drift:.2e} nats a token "
            f"({which}), more than drift {tolerance:.0e}: the two programs see other prompts, "
            "positions or temperatures; PPO would learn from ratios that are wrong"
        )
    if not math.isfinite(figures["kl"]):
        raise GuardStop(f"KL {figures['kl']} is not a number: policy or reference is broken")
    if kl_stop is not None and figures["kl"] > kl_stop:
        raise GuardStop(
            f"KL {figures['kl']:.1f} nats an answer is above kl.stop {kl_stop}: the policy left "
            "its reference; go on with a larger kl.stop, or from an earlier checkpoint "
            "(--restore_step) with a lower optim.peak_lr or a larger kl.beta"
        )


def troubles(rows: Sequence[Mapping[str, float]], *, missing_end: float, gamma: float) -> list[str]:
    """What the last updates say is going wrong; nothing where all is well.

    Args:
      missing_end: what an answer that does not end loses of its score.
      gamma: the weight of pre-training text beside PPO.
    """
    text = [row["pretraining_loss"] for row in rows if "pretraining_loss" in row]
    rows = [row for row in rows if "reward" in row and "kl" in row][-2 * RECENT :]
    if not rows:
        return []
    last, found = rows[-1], []
    if last["reward_std"] < 1e-6:
        found.append(
            f"every answer has the reward {last['reward']:.4g}: nothing tells them apart, and "
            "nothing can be learned"
        )
    # of an estimate over few answers, whose mean may lie a little below the truth by chance
    if last["kl"] < -0.1 - 3 * last.get("kl_error", 0.0):
        found.append(
            f"KL is {last['kl']:.2f} nats an answer, and a mean of it cannot be negative: log-"
            "probabilities of policy and reference disagree, or the answers are not the policy's"
        )
    if last["kl"] > FAR * last["length"]:
        found.append(
            f"KL is {last['kl']:.1f} nats an answer of {last['length']:.1f} tokens, above "
            f"{FAR:.0f} a token: the policy has left its reference; raise kl.beta or lower "
            "optim.peak_lr, and with kl.stop (nats an answer) a run ends itself there"
        )
    if text and text[-1] > text[0] + TAX:
        found.append(
            f"the loss on pre-training text rose from {text[0]:.2f} to {text[-1]:.2f} nats a "
            f"token: the policy forgets it; {more('update.gamma', gamma)} (PPO-ptx), raise kl.beta "
            "or lower optim.peak_lr"
        )
    if last.get("ended", 1.0) < 0.05:
        found.append(
            f"{last['ended']:.0%} of the answers end: "
            f"{more('advantages.missing_end', missing_end)}, give more answer_length, or teach the "
            "end token first"
        )
    if last.get("empty", 0.0) > 0.5:
        found.append(f"{last['empty']:.0%} of the answers are empty: the reward prefers silence")
    if len(rows) == 2 * RECENT:
        half = [rows[:RECENT], rows[RECENT:]]
        reward, kl, spread, entropy = (
            [sum(row[name] for row in part) / RECENT for part in half]
            for name in ("reward", "kl", "reward_std", "entropy")
        )
        if kl[1] > 1.5 * kl[0] + 0.1 and reward[1] - reward[0] < 0.05 * spread[0]:
            found.append(
                f"KL rises ({kl[0]:.2f} to {kl[1]:.2f} nats) and reward does not "
                f"({reward[0]:.3f} to {reward[1]:.3f}): the steps are too large, or the value "
                "function is not learning; lower optim.peak_lr or raise kl.beta"
            )
        if entropy[1] < 0.3 * entropy[0]:
            found.append(
                f"entropy falls from {entropy[0]:.2f} to {entropy[1]:.2f} nats a token: all "
                "answers are becoming one"
            )
    return found


def more(name: str, value: float) -> str:
    """What to do to a setting that is too low."""
    return f"raise {name} (now {value:g})" if value else f"set {name}"
