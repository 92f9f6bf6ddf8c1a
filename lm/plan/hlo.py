"""What a compiled program computes and sends between devices, read from its HLO text.

Sizes are those of one device, and times are counted: what is in a loop runs once a trip, in nested
loops once a trip of all of them.
"""

import dataclasses
import math
import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

KINDS = (
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all",
    "collective-permute", "collective-broadcast",
)  # fmt: skip
WORK = ("fusion", "convolution", "dot", "custom-call", "while")
HANDED_ON = ("parameter", "get-tuple-element", "tuple", "while", "bitcast")
ARRAY = re.compile(r"\b(pred|bf16|f8\w*|[fsuc]\d+)\[([\d,]*)\]")
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\(")
CALLED = re.compile(
    r"(?:to_apply|calls|body|condition|true_computation|false_computation)=%?([\w.\-]+)"
)
LISTED = re.compile(r"(?:branch_computations|called_computations|calls)=\{([^}]*)\}")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
CONSTANT = re.compile(r"= [su]\d+\[\]\S* constant\((\d+)\)")
COUNTER = re.compile(r"= [su]\d+\[\]\S* get-tuple-element\(.*\), index=(\d+)")
CHANNEL = re.compile(r"channel_id=(\d+)")
IOTA = re.compile(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
NAMED = re.compile(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}")
LISTS = re.compile(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{} ]*\})\}")
BETWEEN_SLICES = re.compile(
    r'_xla_megascale_target="\{([\d,]+)\}x\{0:(\d+)\}".*_xla_megascale_transfer_type="(\w+)"'
)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a program, where it stands and how often a call of the program runs it."""

    name: str
    shape: str
    operation: str
    line: str
    computation: str
    runs: int


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective instruction."""

    kind: str  # of KINDS; an asynchronous one by its plain name
    bytes: int  # of its result on a device, once
    runs: int  # times a call of the program runs it
    name: str
    group: tuple[int, ...] = ()  # devices of one group, or one pair of a permutation
    asynchronous: bool = False  # other work is scheduled between its start and its end

    @property
    def wire(self) -> float:
        """Bytes that a device sends in one run, around a ring."""
        n = max(2, len(self.group))
        factor = {
            "all-reduce": 2 * (n - 1) / n,
            "reduce-scatter": n - 1,
            "collective-permute": 1,
            "collective-broadcast": 1,
        }
        return self.bytes * factor.get(self.kind, (n - 1) / n)


def collectives(text: str) -> list[Collective]:
    """The collectives of a compiled program, in the order of its computations."""
    found: list[tuple[Collective, str, str]] = []
    callers, roots, beside = fusions(text), results(text), offloaded(text)
    for one in instructions(text):
        kind = one.operation.removesuffix("-start")
        if kind in KINDS:
            started = one.operation != kind
            caller = callers.get(one.computation, "")
            collective = Collective(
                kind, size(kind, one.shape, started), one.runs, one.name, group(one.line),
                started or caller.startswith("async-collective-start")
                or beside.get(one.computation, False),
            )  # fmt: skip
            if kind == "all-reduce" and one.computation.startswith("all-reduce-scatter"):
                part = size(kind, roots.get(one.computation, one.shape), started)
                collective = replace(collective, kind="reduce-scatter", bytes=part)
            channel = CHANNEL.search(one.line)
            found.append((collective, caller, channel[1] if channel else ""))
        elif one.operation == "send" and (between := between_slices(one)):
            found.append((between, "", ""))
    begun = {channel for one, caller, channel in found if one.asynchronous and caller}
    # On a TPU a reduce-scatter is a fusion of an all-reduce and a slice of it, and an asynchronous
    # gather is three fusions that each hold it: its start, work, its end.
    return [
        one
        for one, caller, channel in found
        if not caller or one.asynchronous or channel not in begun
    ]


def offloaded(text: str) -> dict[str, bool]:
    """Of each computation that a SparseCore runs (what a TPU7x sends, mostly) whether work is
    scheduled from where its operands are handed over to where it is waited for."""
    found: dict[str, bool] = {}
    for lines in parse(text)[1].values():
        running, worked = dict[str, str](), dict[str, bool]()  # by the names of a call's parts
        for line in lines:
            match = INSTRUCTION.match(line)
            name, operation = (match[1], match[3]) if match else ("", "")
            if operation == "call-start" and (called := CALLED.search(line)):
                running[name] = called[1]
                found[called[1]] = True  # unless its end, in the same computation, says otherwise
                worked[called[1]] = False
            elif operation in ("call-update", "call-done"):
                operand = re.search(r"\(%?([\w.\-]+)", line[line.index(f" {operation}(") :])
                called_here = running.get(operand[1]) if operand else None
                if called_here and operation == "call-update":
                    running[name], worked[called_here] = called_here, False
                elif called_here:
                    found[called_here] = worked[called_here]
            elif operation in WORK:
                worked = dict.fromkeys(worked, True)
    return found


def between_slices(one: Instruction) -> Collective | None:
    """What a slice of TPUs sends to the others over the hosts' network, beside other work."""
    told = BETWEEN_SLICES.search(one.line)
    if told is None:
        return None
    slices, last, transfer = told.groups()
    kind = transfer.lower().replace("_", "-")
    members = tuple(n * (int(last) + 1) for n in range(len(slices.split(","))))
    array = ARRAY.search(one.shape)
    sent = size(kind, array[0], started=False) if array else 0
    return Collective(
        kind if kind in KINDS else "collective-permute", sent, one.runs, one.name, members, True
    )


def instructions(text: str) -> Iterator[Instruction]:
    """Every instruction that can be reached, in the order of the text."""
    entry, computations = parse(text)
    runs = count_runs(entry, computations)
    for computation, lines in computations.items():
        for line in lines:
            match = INSTRUCTION.match(line)
            if match is not None and computation in runs:
                name, shape, operation = match.groups()
                yield Instruction(name, shape, operation, line, computation, runs[computation])


def largest_arrays(text: str, count: int) -> dict[str, int]:
    """Shapes of the largest arrays that a program makes, and their bytes on a device.

    What a fusion makes on its way is no array; arguments are none that the program makes.
    """
    inside, found = fusions(text), dict[str, int]()
    for one in instructions(text):
        if one.computation not in inside and one.operation not in HANDED_ON:
            for dtype, dims in ARRAY.findall(one.shape):
                elements = math.prod(int(n) for n in dims.split(",") if n)
                found[f"{dtype}[{dims}]"] = bits(dtype) * elements // 8
    return dict(sorted(found.items(), key=lambda pair: -pair[1])[:count])


def fusions(text: str) -> dict[str, str]:
    """Computation -> name of the fusion that calls it."""
    found = re.findall(r"%?([\w.\-]+) = [^\n]* fusion\([^\n]*calls=%?([\w.\-]+)", text)
    return {called: caller for caller, called in found}


def results(text: str) -> dict[str, str]:
    """Computation -> shape of what it returns."""
    found = {}
    for name, lines in parse(text)[1].items():
        root = next((line for line in lines if line.lstrip().startswith("ROOT")), "")
        if match := INSTRUCTION.match(root):
            found[name] = match[2]
    return found


def group(line: str) -> tuple[int, ...]:
    """The devices of one of a collective's groups, in any of the spellings; () without one."""
    if found := IOTA.search(line):
        groups, members = int(found[1]), int(found[2])
        ids = np.arange(groups * members).reshape([int(n) for n in found[3].split(",")])
        if found[4]:
            ids = ids.transpose([int(n) for n in found[4].split(",")])
        return tuple(ids.reshape(groups, members)[0].tolist())
    if found := NAMED.search(line):
        sizes = {name: int(n) for name, n in re.findall(r"'([^']+)'=(\d+)", found[1])}
        within = re.findall(r"'([^']+)'", found[2])
        ids = np.arange(math.prod(sizes.values())).reshape(list(sizes.values()))
        index = tuple(slice(None) if name in within else 0 for name in sizes)
        return tuple(np.ravel(ids[index]).tolist())
    if found := LISTS.search(line):
        listed = [
            tuple(int(n) for n in inside.replace(" ", "").split(",") if n)
            for inside in re.findall(r"\{([\d, ]*)\}", found[1])
        ]
        return next((one for one in listed if len(set(one)) > 1), listed[0])
    return ()


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

    if computations:  # a program that could not be printed has none
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
    counter = next((found[1] for text in lines if (found := COUNTER.search(text))), None)
    body = re.search(r"body=%?([\w.\-]+)", line)
    each = stride(computations.get(body[1], []), int(counter)) if body and counter else 1
    return -(-constants[0] // each)


def stride(body: list[str], place: int) -> int:
    """What a loop's body adds to its counter, the element of its tuple at `place`; 1 if unsaid."""
    root = next((line for line in body if line.lstrip().startswith("ROOT")), "")
    names = re.findall(r"%([\w.\-]+)", root.partition(" tuple(")[2].partition(")")[0])
    if place >= len(names):
        return 1
    defined = {found[1]: line for line in body if (found := INSTRUCTION.match(line))}
    added = defined.get(names[place], "").partition(" add(")[2].partition(")")[0]
    amounts = [
        int(found[1])
        for name in re.findall(r"%([\w.\-]+)", added)
        if (found := CONSTANT.search(defined.get(name, "")))
    ]
    return max(1, *amounts) if amounts else 1


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
