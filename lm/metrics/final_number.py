"""The answer of a solution in words, as GSM8K has it (Cobbe et al. 2021; grade-school-math's own
`extract_answer`): the number after "####", without the commas of thousands. Without it there is no
answer, whatever number the text ends with.
"""

import re

FINAL = re.compile(r"#### (-?[0-9.,]+)")


def final_number(solution: str) -> str | None:
    found = FINAL.search(solution)
    return found.group(1).replace(",", "").strip() if found else None


def same_number(answer: str, right: str) -> bool:
    """Whether both end with a number, and these are spelled alike."""
    given = final_number(answer)
    return given is not None and given == final_number(right)
