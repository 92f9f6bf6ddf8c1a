"""A plan in words."""

import math

from lm.plan.memory import Need
from lm.plan.plan import Plan, versions
from lm.train.checkpoint import first_line

GIB = 2**30


def page(plan: Plan, total_tokens: int | None = None) -> str:
    """The plan as it is printed.

    Args:
      total_tokens: of the whole run, for its days.
    """
    lines = [
        f"{plan.topology}: {plan.chips} chips, mesh {mesh_text(plan.mesh)}, "
        f"{plan.tokens:,} tokens a step",
        "  " + ", ".join(f"{name} {version}" for name, version in versions().items()),
        verdict(plan),
        f"  parameters {plan.parameters / GIB:.2f}, optimizer {plan.optimizer / GIB:.2f} GiB "
        "a device",
    ]
    if plan.networks:
        each = ", ".join(f"{name} {size / GIB:.2f}" for name, size in plan.networks.items())
        lines.append(f"  networks: {each} GiB a device; the limit is what those beside it leave")
    if plan.others:
        each = ", ".join(f"{name} {held(need)}" for name, need in plan.needs.items())
        lines.append(
            f"  programs: {each} GiB, each of what the networks that it does not read leave"
        )
    if not plan.fits:
        return "\n".join([*lines, *(largest(plan) if plan.tightest == "update" else ())])
    if not plan.flops:
        return "\n".join([*lines, "the program cannot be read with this jaxlib: 0.12 can"])
    spare = plan.useful / plan.flops
    lines += [
        f"  beside them at the peak {plan.temporary / GIB:.2f} GiB (activations, gradients)",
        *largest(plan),
        f"products: {plan.flops:.3g} FLOPs a device and step, of which {spare:.0%} count once; "
        f"{plan.attention_kernels} attention kernels in the program",
        f"{'sent over':<16} {'how':<20} {'runs':>7} {'GB':>9} {'beside work':>12} {'s':>8}",
    ]
    lines += [
        f"{row.axes:<16} {row.kind:<20} {row.count:>7,} {row.wire / 1e9:>9.2f} "
        f"{row.hidden / max(row.wire, 1):>12.0%} {row.seconds:>8.3f}"
        for row in plan.traffic
        if row.wire * 1e3 > max(other.wire for other in plan.traffic)
    ]
    bounds = ", ".join(
        f"{name} {plan.mfu(kind):.2f}"
        for name, kind in (
            ("all sending hidden", "overlapped"),
            ("as compiled", "compiled"),
            ("nothing hidden", "serial"),
        )
    )
    speed = f"{plan.tokens_a_day():.3g} tokens a day as compiled"
    if plan.others:  # a run's days are not known
        others = ", ".join(plan.others)
        speed = f"the update alone: {speed}; not counted is the time of the programs {others}"
    elif total_tokens:
        days = total_tokens / plan.tokens_a_day()
        speed += f", {days:.1f} days for {total_tokens:.3g} tokens"
    lines += [
        f"t_mxu {plan.t_mxu:.3f} s, t_ici {plan.t_ici:.3f} s, of it "
        f"{plan.t_synchronous:.3f} s synchronous",
        f"MFU at most: {bounds} (bounds from the executable; lm/plan/plan.py has the formulas)",
        speed,
        f"compiled in {plan.compile_seconds:.0f} s",
    ]  # fmt: skip
    return "\n".join(lines)


def verdict(plan: Plan) -> str:
    need = plan.needs[plan.tightest]
    if plan.fits:
        which = f", in the {plan.tightest} program" if plan.others else ""
        return f"fits: {held(need)} GiB, {need.free / GIB:.2f} free{which}"
    amount = "more than it has" if math.isnan(need.peak) else f"{need.peak / GIB:.2f} GiB"
    said = (
        f"does not fit: {f'the {plan.tightest} program' if plan.others else 'it'} needs {amount} "
        f"of {need.limit / GIB:.2f} GiB; try more devices, --set mesh.fsdp or mesh.tensor larger, "
        "a smaller batch, "
    )
    if plan.tightest == "update":
        return said + "more microbatches, or model.remat=full"
    if plan.tightest == "rollout":
        return said + "more rollout_parts, or a smaller answer_length or prompt_length"
    return said + "or more microbatches"


def held(need: Need) -> str:
    peak = "more" if math.isnan(need.peak) else f"{need.peak / GIB:.2f}"
    return f"{peak} of {need.limit / GIB:.2f}"


def mesh_text(mesh: dict[str, int]) -> str:
    return " x ".join(f"{name} {n}" for name, n in mesh.items()) or "1"


def largest(plan: Plan) -> list[str]:
    """A line of the largest arrays: the program's, or where there is none the state's."""
    if not plan.arrays:
        return []
    of = "arrays of the program"
    if plan.problem:
        least = plan.parameters / 2 / GIB
        of = f"arrays of the state, beside gradients of {least:.2f} GiB at the least"
    each = ", ".join(f"{name} {size / GIB:.2f}" for name, size in plan.arrays.items())
    return [f"  the largest {of}: {each} GiB"]


def row(name: str, plan: Plan) -> str:
    """A line of the table of many plans, in Markdown."""
    cells = [name, plan.topology, mesh_text(plan.mesh), f"{plan.tokens / 1e6:.2f} M"]
    need = plan.needs[plan.tightest]
    memory = f"{need.peak / GIB:.1f} of {need.limit / GIB:.1f}"
    if plan.fits:
        cells += [
            memory,
            f"{plan.t_mxu:.3g}", f"{plan.t_ici:.3g}",
            f"{plan.mfu('overlapped'):.2f} / {plan.mfu('compiled'):.2f} / {plan.mfu('serial'):.2f}",
        ]  # fmt: skip
    else:
        cells += [
            f"needs {memory}",
            "",
            "",
            "refused",
        ]
    return "| " + " | ".join([*cells, f"{plan.compile_seconds:.0f}"]) + " |"


def no_row(name: str, topology: str, error: Exception) -> str:
    """The line in that table of a step that could not be compiled at all, and why."""
    text = first_line(error)[:160].replace("|", "/")
    return f"| {name} | {topology} | no program: {text} | | | | | | |"


HEADER = (
    "| experiment | pod | mesh | tokens a step | GiB a device | t_mxu s | t_ici s | "
    "MFU at most: overlapped / as compiled / serial | compile s |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)
