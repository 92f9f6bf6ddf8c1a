"""What PPO reads: which prompts are left out and that it says so, and text beside them."""

import numpy as np

from lm.data.prompts import RowsConfig
from lm.data.tokens import TextConfig
from lm.rlhf.material import PpoMaterial
from lm.text.byte import ByteTokenizer
from tests.rlhf.runs import write_rows


def test_prompts_that_are_too_long_are_told_of_those_to_learn_and_of_those_held_out(tmp_path):
    sizes = {"train": (3, 12, 4, 5), "valid": (20, 3, 21, 4, 22)}
    files = {
        part: write_rows(
            tmp_path / f"{part}.jsonl",
            [{"prompt": chr(97 + n) * size} for n, size in enumerate(some)],
        )
        for part, some in sizes.items()
    }

    def told(prompt_length):
        return str(
            PpoMaterial(
                RowsConfig(**files), ByteTokenizer(), batch=2, prompt_length=prompt_length,
                width=32, text=None, text_rows=0, seed=0,
            )
        )  # fmt: skip

    assert told(10) == (
        "3 prompts, 1 longer than prompt_length left out; "
        "2 held out, 3 longer than prompt_length left out"
    )
    assert told(30) == "4 prompts; 5 held out"


def test_updates_read_the_rows_of_text_one_after_another_as_many_as_each_prompt_has(
    tmp_path, one_device
):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"line {n} of a text\n" for n in range(200)))
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": f"p{n}"} for n in range(9)])
    material = PpoMaterial(
        RowsConfig(train=rows), ByteTokenizer(), batch=2, prompt_length=8,
        width=16, text=TextConfig(train=str(text)), text_rows=3, seed=0,
    )  # fmt: skip
    each = [material.text_rows(step, one_device) for step in range(4)]
    assert all(one.tokens.shape == (2, 3, 16) for one in each)
    read = np.concatenate([np.reshape(one.tokens, (-1, 16)) for one in each])
    np.testing.assert_array_equal(read, material.text(0, 24).tokens)
    told = [row["row"] for step in range(4) for row in material.origins(step)[2:]]
    assert told == list(range(24))
