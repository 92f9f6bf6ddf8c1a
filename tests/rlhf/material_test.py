"""What PPO reads: which prompts are left out, and that it says so."""

from lm.data.prompts import RowsConfig
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
