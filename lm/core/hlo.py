"""What a compiled program sends between devices, read from its HLO text.

Sizes are those of the results on one device, times are counted: a collective in a loop runs once a
trip, in nested loops once a trip of all of them.
"""

import dataclasses
import math
import re

KINDS = (
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all",
    "collective-permute", "collective-broadcast",
)  # fmt: skip
ARRAY = re.compile(r"\b(pred|bf16|f8\w*|[fsuc]\d+)\[([\d,]*)\]")
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\(")
CALLED = re.compile(
    r"(?:to_apply|calls|body|condition|true_computation|false_computation)=%?([\w.\-]+)"
)
LISTED = re.compile(r"(?:branch_computations|called_computations|calls)=\{([^}]*)\}")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
CONSTANT = re.compile(r"= [su]\d+\[\]\S* constant\((\d+)\)")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective instruction."""

    kind: str  # of KINDS; an asynchronous one by its plain name
    bytes: int  # of its result on a device, once
    runs: int  # times a call of the program runs it
    name: str


def collectives(text: str) -> list[Collective]:
    """The collectives of a compiled program, in the order of its computations."""
    entry, computations = parse(text)
    runs = count_runs(entry, computations)
    found = []
    for computation, lines in computations.items():
        for line in lines:
            match = INSTRUCTION.match(line)
            if match is None or computation not in runs:
                continue
            name, shape, operation = match.groups()
            kind = operation.removesuffix("-start")
            if kind in KINDS:
                started = operation != kind
                found.append(Collective(kind, size(kind, shape, started), runs[computation], name))
    return found


def parse(text: str) -> tuple[str, dict[str, list[str]]]:
    """Name of the entry computation, and the lines of each."""
    entry, current, computations = "", "", {}
    for raw in text.splitlines():
        line = re.sub(r"/\*.*?\*/", "", raw)  # `/*index=5*/` in long tuples
        if match := COMPUTATION.match(line):
            current = match[2]
            computations[current] = list[str]()
            entry = current if match[1] else entry
        elif current:
            computations[current].append(line)
    return entry, computations


def count_runs(entry: str, computations: dict[str, list[str]]) -> dict[str, int]:
    """How often each computation that can be reached from `entry` runs."""
    runs: dict[str, int] = {}

    def visit(computation: str, times: int) -> None:
        runs[computation] = runs.get(computation, 0) + times
        for line in computations[computation]:
            called = CALLED.findall(line)
            for names in LISTED.findall(line):
                called += re.findall(r"[\w.\-]+", names)
            inside = times * trips(line, computations) if " while(" in line else times
            for name in called:
                if name in computations:
                    visit(name, inside)

    visit(entry, 1)
    return runs


def trips(line: str, computations: dict[str, list[str]]) -> int:
    """Trips of a while loop: as XLA knows them, or the constant that its condition compares with.

    Raises ValueError where neither says.
    """
    if known := TRIPS.search(line):
        return int(known[1])
    condition = re.search(r"condition=%?([\w.\-]+)", line)
    lines = computations.get(condition[1], []) if condition else []
    constants = [int(found[1]) for text in lines if (found := CONSTANT.search(text))]
    if len(constants) != 1:
        raise ValueError(f"trip count of a loop is not in the text: {line.strip()[:120]}")
    return constants[0]


def size(kind: str, shape: str, started: bool) -> int:
    """Bytes of a result. A started operation's tuple has its operands too, an all-reduce's not."""
    sizes = [bits(kind_of) * math.prod(map(int, dims.split(",") if dims else [])) // 8
             for kind_of, dims in ARRAY.findall(shape)]  # fmt: skip
    if started and kind != "all-reduce" and len(sizes) > 1:
        results = re.split(r"\), ?", shape)  # ((operands), (results), contexts)
        if shape.startswith("(("):
            return sum(bits(t) * math.prod(map(int, d.split(",") if d else [])) // 8
                       for t, d in ARRAY.findall(results[1]))  # fmt: skip
        return sizes[1]
    return sum(sizes)


def bits(dtype: str) -> int:
    if dtype == "pred":
        return 8
    return int("".join(re.findall(r"\d+", dtype)[:1]))
