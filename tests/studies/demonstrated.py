"""The studies with a programmed labeler, small: a text, and demonstrations in its words."""

from pathlib import Path

from tests.rlhf.runs import write_rows


def bindings(folder: Path) -> dict[str, str]:
    """What such a study is told: one seed, a base that reads bytes, a few steps of each kind."""
    text = folder / "text.txt"
    text.write_text("The cat saw a red house. You hear the old dog near the new tree. " * 300)
    words = "the cat saw a red house".split()
    rows = [
        {"instruction": f"Say {n}.", "input": "", "output": " ".join(words[: 2 + n % 5]) + "."}
        for n in range(200)
    ]
    return {
        "base.data.train": str(text), "base.data.cache": str(folder / "cache"),
        "base.tokenizer.kind": "bytes", "base.model.vocab": "269", "base.model.length": "96",
        "base.steps": "3", "base.batch": "8", "base.evaluate_batches": "1",
        "pipeline.sft.steps": "4", "pipeline.sft.length": "48", "pipeline.reward.length": "48",
        "pipeline.labeling.prompts": "96", "seeds": "(0,)",
        "pipeline.demonstrations": write_rows(folder / "rows.jsonl", rows),
    }  # fmt: skip
