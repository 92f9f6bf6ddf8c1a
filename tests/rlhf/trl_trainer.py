"""A real update of TRL's PPO trainer on models of a few thousand weights, with what it went by.

TRL writes its formulas out inside `PPOTrainer.train`. What they were given and what they gave is
taken from the functions that they call by name.
"""

import types
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

VOCAB, END, PAD = 40, 17, 40  # the padding is no token: TRL hides it from the models
ROWS, PROMPT, ANSWER = 16, 6, 8


def parts():
    """torch, transformers and the module of TRL's trainer, or the test is skipped."""
    pytest.importorskip("trl", reason="trl is not here (make slow)")
    torch = pytest.importorskip("torch")
    import transformers
    from trl.experimental.ppo import ppo_trainer

    return torch, transformers, ppo_trainer


def models(seed=0):
    """Policy, reference, reward model and value function: GPT-2's block, all of other weights."""
    torch, transformers, _ = parts()
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        n_layer=1, n_embd=16, n_head=2, n_positions=32, vocab_size=VOCAB, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, num_labels=1, pad_token_id=0, eos_token_id=END,
        bos_token_id=END, initializer_range=0.3,
    )  # fmt: skip
    policy, reference = (transformers.GPT2LMHeadModel(config) for _ in range(2))
    reward, value = (transformers.GPT2ForSequenceClassification(config) for _ in range(2))
    return policy, reference, reward, value


def tokenizer():
    """What TRL asks of one: the ids of its end and its padding, and a batch of rows."""
    torch, _, _ = parts()

    def pad(rows, **_):
        return {"input_ids": torch.tensor([row["input_ids"] for row in rows])}

    return types.SimpleNamespace(
        eos_token_id=END, pad_token_id=PAD, pad=pad, padding_side="left",
        save_pretrained=lambda *_: None, deprecation_warnings={},
    )  # fmt: skip


def update(folder: Path, four, **settings):
    """What one update of TRL's trainer called: name -> [(arguments, result)]; and its settings."""
    torch, _, ppo_trainer = parts()
    from datasets import Dataset
    from trl.experimental.ppo import PPOConfig

    policy, reference, reward, value = four
    numbers = np.random.default_rng(0)
    prompts = numbers.integers(8, VOCAB, (ROWS, PROMPT)).tolist()
    chosen = {
        "output_dir": str(folder), "per_device_train_batch_size": ROWS // 2,
        "gradient_accumulation_steps": 2, "num_mini_batches": 2, "num_ppo_epochs": 2,
        "total_episodes": ROWS, "local_rollout_forward_batch_size": ROWS,
        "response_length": ANSWER, "kl_coef": 0.3, "num_sample_generations": 0,
        "temperature": 0.7, "report_to": [], "use_cpu": True, "bf16": False,
        "save_strategy": "no", "disable_tqdm": True, "stop_token_id": END,
        "missing_eos_penalty": 1.0, "learning_rate": 1e-2,
    }  # fmt: skip
    args = PPOConfig(**(chosen | settings))
    calls = defaultdict(list)

    def recorded(name):
        function = getattr(ppo_trainer, name)

        def call(*given, **named):
            kept = [one.detach().numpy().copy() if torch.is_tensor(one) else one
                    for one in (*given, *named.values())]  # fmt: skip
            result = function(*given, **named)
            calls[name].append((kept, result))
            return result

        return call

    rows = Dataset.from_dict({"input_ids": prompts})
    trainer = ppo_trainer.PPOTrainer(
        args=args, processing_class=tokenizer(), model=policy, ref_model=reference,
        reward_model=reward, value_model=value, train_dataset=rows, eval_dataset=rows,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name in ("masked_whiten", "masked_mean", "selective_log_softmax", "get_reward",
                     "batch_generation", "forward"):  # fmt: skip
            patch.setattr(ppo_trainer, name, recorded(name))
        trainer.train()
    return calls, args
