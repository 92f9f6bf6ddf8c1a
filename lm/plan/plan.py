"""One training step on one absent pod: what it needs, what it sends, how fast it can be at most.

    useful  = tokens x flops_per_token / devices    (6NT and causal attention, nothing twice)
    t_mxu   = FLOPs of the compiled step / peak
    t_ici   = sum over mesh axes of wire bytes / (link rate x links along the axis)
    mfu     = useful / peak / t;  t = max(t_mxu, t_ici)          overlapped
                                  t = t_mxu + sum of what is synchronous, or t_ici   as compiled
                                  t = t_mxu + t_ici              serial

They are bounds: nothing is executed, and vector work, memory and latency are left out. Of a step
that runs several programs (PPO: rollout, scores, experience, update) they are of the last alone;
whether it fits is of all.
"""

import dataclasses
import importlib.metadata
import json
import math
import platform
import sys
import time
from collections.abc import Iterable
from typing import Any, Protocol

import jax
import numpy as np

from lm.core.mesh import MESH_AXES, MeshConfig, make_mesh, slice_of
from lm.nn.config import BlockConfig
from lm.nn.kernels import live_blocks
from lm.plan.hlo import Collective, collectives, largest_arrays
from lm.plan.memory import Need, amount, largest_parts, needs, shard_bytes
from lm.plan.products import product_flops, splash_flops
from lm.plan.topology import Topology
from lm.train.checkpoint import first_line
from lm.train.masked import MaskedPretrain
from lm.train.supervised import Programs

BOUNDS = ("overlapped", "compiled", "serial")


class Plannable(Protocol):
    """An experiment that trains one model."""

    mesh: MeshConfig

    def lowered(self, mesh: jax.sharding.Mesh) -> jax.stages.Lowered: ...
    def abstract(self, mesh: jax.sharding.Mesh) -> Any: ...
    def abstract_rows(self) -> Any: ...
    def beside(self, mesh: jax.sharding.Mesh) -> dict[str, Any]: ...
    def others(self, mesh: jax.sharding.Mesh) -> Programs: ...
    def flops_per_token(self) -> float: ...


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What a step sends over one mesh axis, or several at once."""

    axes: str  # names, joined with +
    kind: str
    count: int  # runs a step
    wire: float  # bytes a device sends
    hidden: float  # of them, bytes of collectives that run beside other work
    seconds: float  # at the rate of the axis' links
    hidden_seconds: float
    largest: int  # bytes of the largest result


@dataclasses.dataclass(frozen=True)
class Plan:
    """Figures of a step, for a device where nothing else is said. Bytes, FLOPs, seconds."""

    topology: str
    chips: int
    mesh: dict[str, int]
    tokens: int  # of a step, on all devices
    fits: bool
    problem: str  # why not, as the compiler says it
    limit: float  # memory that a program may use, beside networks that are not of its state
    peak_memory: float
    parameters: float
    optimizer: float
    temporary: float  # what there is at the peak beside what enters
    flops: float  # of products, the kernels' included
    useful: float
    attention_kernels: int
    arrays: dict[str, int]  # the largest that the program makes, or of the state: name to bytes
    traffic: tuple[Traffic, ...]
    t_mxu: float
    t_ici: float
    t_synchronous: float
    compile_seconds: float
    # all that are in memory; none where the step's own model is the only one
    networks: dict[str, float] = dataclasses.field(default_factory=dict)
    others: dict[str, Need] = dataclasses.field(default_factory=dict)  # programs, in their order

    @property
    def needs(self) -> dict[str, Need]:
        """Of each program, that of the figures last."""
        return self.others | {"update": Need(self.peak_memory, self.limit)}

    @property
    def tightest(self) -> str:
        """The program that leaves the least memory free."""
        return min(self.needs, key=lambda name: self.needs[name].free)

    def mfu(self, bound: str) -> float:
        """Model FLOPs utilisation as `overlapped`, `compiled` or `serial`."""
        if not self.fits or not self.flops:  # refused, or no program to count in
            return math.nan
        seconds = {
            "overlapped": max(self.t_mxu, self.t_ici),
            "compiled": max(self.t_mxu + self.t_synchronous, self.t_ici),
            "serial": self.t_mxu + self.t_ici,
        }[bound]
        return self.useful / (self.flops / self.t_mxu) / seconds

    def tokens_a_day(self) -> float:
        """At the bound `compiled`."""
        return self.tokens / max(self.t_mxu + self.t_synchronous, self.t_ici) * 86_400

    def json(self) -> str:
        """One line, with the versions that it was made by; null where a figure is not known."""
        bounds = {f"mfu_{bound}": round(self.mfu(bound), 4) for bound in BOUNDS}
        figures = dataclasses.asdict(self) | bounds | {"versions": versions()}
        for part in (figures, *figures["others"].values()):
            for name, value in part.items():
                if isinstance(value, float) and not math.isfinite(value):
                    part[name] = None
        return json.dumps(figures, allow_nan=False)


def versions() -> dict[str, str]:
    """Of what a plan's figures depend on: another compiler makes another program."""
    found = {"python": platform.python_version()}
    for name in ("jax", "jaxlib", "libtpu"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def total_tokens(experiment: Any, plan: Plan) -> int | None:
    """Of the whole run, where that is known before it begins. Its steps need not all have as many
    as the one that was compiled, the largest; what a mesh fills a small batch up with is none."""
    if hasattr(experiment, "total_tokens"):
        return int(experiment.total_tokens())
    steps = getattr(experiment, "steps", None)
    return steps and steps * plan.tokens


def flops_per_token(experiment: Plannable) -> float:
    """Of the step that is compiled: of a run with rows of several lengths, that of the longest."""
    if isinstance(experiment, MaskedPretrain):
        return experiment.flops_at(experiment.abstract_rows().tokens.shape[-1])
    return experiment.flops_per_token()


def plan(experiment: Plannable, topology: Topology, devices: list[Any]) -> Plan:
    """Compiles the experiment's own step for a pod and reads the executable; and, where that one
    fits, of the other programs of the step how much memory they need.

    Raises:
      ConfigError: the mesh or the batch does not divide.
    """
    mesh = make_mesh(experiment.mesh, devices)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        state = experiment.abstract(mesh)
        beside = {name: shard_bytes(one) for name, one in experiment.beside(mesh).items()}
    own = {field.name: shard_bytes(getattr(state, field.name))
           for field in dataclasses.fields(state)} if beside else {}  # fmt: skip
    tokens = math.prod(experiment.abstract_rows().tokens.shape)
    chip = topology.chip
    facts: dict[str, Any] = {
        "topology": topology.name,
        "chips": topology.chips,
        "mesh": {name: n for name, n in mesh.shape.items() if n > 1},
        "tokens": tokens,
        "limit": chip.memory - sum(beside.values()),
        "networks": {name: size for name, size in own.items() if size > 1e-3 * sum(own.values())}
        | beside,
        "parameters": shard_bytes(state.params),
        "optimizer": shard_bytes(state.moments),
        "useful": tokens * flops_per_token(experiment) / mesh.size,
    }
    began = time.monotonic()
    try:
        compiled = experiment.lowered(mesh).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return refused(facts, largest_parts(state, 5), str(error), time.monotonic() - began)
    took = time.monotonic() - began
    memory: Any = compiled.memory_analysis()
    text = program_text(compiled)
    flops = product_flops(text) + splash_flops(text, live_share(experiment))
    found = traffic(collectives(text), mesh, topology)
    peak = float(memory.peak_memory_in_bytes)
    fits, others = peak <= facts["limit"], dict[str, Need]()
    if fits:
        others = needs(experiment.others(mesh), own | beside, chip.memory)
        fits = all(one.free >= 0 for one in others.values())
    return Plan(
        **facts, fits=fits, problem="", others=others,
        peak_memory=peak,
        temporary=max(0.0, peak - float(memory.argument_size_in_bytes)),
        flops=flops, attention_kernels=text.count('custom_call_target="tpu_custom_call"'),
        arrays=largest_arrays(text, 5), traffic=found, t_mxu=flops / chip.peak,
        t_ici=sum(one.seconds for one in found),
        t_synchronous=sum(one.seconds - one.hidden_seconds for one in found),
        compile_seconds=took,
    )  # fmt: skip


def program_text(compiled: jax.stages.Compiled) -> str:
    """The program; "" where this jaxlib cannot print it (0.10 and asynchronous SparseCore work)."""
    try:
        return compiled.as_text() or ""
    except jax.errors.JaxRuntimeError as error:
        print(f"warning: only the memory is known: {first_line(error)}", file=sys.stderr)
        return ""


def refused(facts: dict[str, Any], arrays: dict[str, int], message: str, took: float) -> Plan:
    """A plan that does not fit, with what the compiler says it would need, and arrays that are
    known without it."""
    nothing: dict[str, Any] = dict.fromkeys(
        ("temporary", "flops", "t_mxu", "t_ici", "t_synchronous"), math.nan
    )
    return Plan(
        **facts, **nothing, fits=False, problem=message, peak_memory=amount(message),
        attention_kernels=0, arrays=arrays, traffic=(), compile_seconds=took,
    )  # fmt: skip


def live_share(experiment: Any) -> float:
    """Share of the query-key pairs that the attention kernels compute: whole blocks."""
    model = getattr(experiment, "model", None)
    if not isinstance(model, BlockConfig):
        return 1.0
    length = experiment.abstract_rows().tokens.shape[-1]
    return float(np.mean([live_blocks(length, model, pattern) for pattern in model.pattern]))


def traffic(
    found: Iterable[Collective], mesh: jax.sharding.Mesh, topology: Topology
) -> tuple[Traffic, ...]:
    """Collectives by the mesh axes that they cross and their kind, the costliest first.

    A group that stays in a slice is charged at the rate of the slice's links, also along an axis
    that goes across slices.
    """
    shape = [mesh.shape[name] for name in MESH_AXES]
    flat = mesh.devices.ravel()
    rates = {
        inside: [topology.links(mesh.devices, axis, inside) for axis in range(len(MESH_AXES))]
        for inside in (False, True)
    }
    sums: dict[tuple[str, str], list[Any]] = {}
    for one in found:
        crossed = axes_of(one.group, shape)
        names = "+".join(MESH_AXES[axis] for axis in crossed) or "none"
        inside = len({slice_of(flat[n]) for n in one.group or range(flat.size)}) == 1
        rate = sum(rates[inside][axis] for axis in crossed) if crossed else math.inf
        wire, seconds = one.wire * one.runs, one.wire * one.runs / rate
        total = sums.setdefault((names, one.kind), [0, 0.0, 0.0, 0.0, 0.0, 0])
        hidden = float(one.asynchronous)
        for place, value in enumerate((one.runs, wire, wire * hidden, seconds, seconds * hidden)):
            total[place] += value
        total[5] = max(total[5], one.bytes)
    rows = [Traffic(names, kind, *total) for (names, kind), total in sums.items()]
    return tuple(sorted(rows, key=lambda row: -row.seconds))


def axes_of(group: tuple[int, ...], shape: list[int]) -> list[int]:
    """Mesh axes along which the members of a group differ; all of them where it is not told."""
    if not group:
        return [axis for axis, size in enumerate(shape) if size > 1]
    places = np.array(np.unravel_index(np.array(group), shape))
    return [axis for axis in range(len(shape)) if len(set(places[axis].tolist())) > 1]
