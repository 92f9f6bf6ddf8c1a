"""Device meshes, and how named axes of arrays are split over them.

This is the only file that knows mesh axes. Four of them: `data` replicates parameters and splits
the batch; `fsdp` splits the batch and every parameter (ZeRO-3, Rajbhandari et al. 2020); `tensor`
splits heads, feed-forward width and vocabulary (Megatron, Shoeybi et al. 2019); `sequence` splits
the length of activations.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lm.core import axes, torus
from lm.core.config import require
from lm.core.errors import ConfigError

DATA, FSDP, TENSOR, SEQUENCE = "data", "fsdp", "tensor", "sequence"
MESH_AXES = (DATA, FSDP, TENSOR, SEQUENCE)
BATCH_AXES = (DATA, FSDP)

# Parameter axis -> the mesh axes it may be split over. The first is its own; the others are taken
# only where no other axis of the same array wants them, so that a bias is split over fsdp too.
PARAMETER_RULES: dict[str, tuple[str, ...]] = {
    axes.WIDTH: (FSDP,),
    axes.ENTRY: (FSDP, TENSOR),  # by tensor where a vocabulary such as 50,257 cannot be
    axes.HEADS: (TENSOR, FSDP),
    axes.HIDDEN: (TENSOR, FSDP),
    axes.VOCABULARY: (TENSOR,),
    axes.POSITIONS: (),
    axes.LAYERS: (),
    axes.QKV: (),
    axes.HEAD: (),
    axes.CLASSES: (),
    axes.PIXELS: (),
}

# Activation axis -> mesh axes.
ACTIVATION_RULES: dict[str, tuple[str, ...]] = {
    axes.BATCH: BATCH_AXES,
    axes.LENGTH: (SEQUENCE,),
    axes.WIDTH: (),
    axes.RESIDUAL: (TENSOR,),  # what a block keeps for its gradient is then split too
    axes.SPAN: (SEQUENCE, TENSOR),
    axes.HEADS: (TENSOR,),
    axes.HEAD: (),
    axes.HIDDEN: (TENSOR,),
    axes.VOCABULARY: (TENSOR,),
    axes.QKV: (),
    axes.ENTRY: (FSDP,),  # of a table that is padded where it is used
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Devices along each mesh axis. One axis may be -1: all the devices that the others leave."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    sequence: int = 1

    def __post_init__(self) -> None:
        sizes = (self.data, self.fsdp, self.tensor, self.sequence)
        require(
            all(size == -1 or size > 0 for size in sizes) and sizes.count(-1) <= 1,
            f"mesh sizes must be positive, and at most one of them -1, got {sizes}",
        )

    def shape(self, devices: int) -> tuple[int, ...]:
        """Sizes of `MESH_AXES` on this many devices.

        Raises:
          ConfigError: the product of the sizes is not the number of devices.
        """
        sizes = [self.data, self.fsdp, self.tensor, self.sequence]
        fixed = math.prod(size for size in sizes if size > 0)
        if -1 in sizes and devices % fixed == 0:
            sizes[sizes.index(-1)] = devices // fixed
        if math.prod(sizes) != devices:
            named = " x ".join(
                f"{name} {size}" for name, size in zip(MESH_AXES, sizes, strict=True)
            )
            raise ConfigError(
                f"the mesh {named} needs {fixed} devices (or a multiple, where one size is -1), "
                f"but {devices} were found; set mesh.data, mesh.fsdp, mesh.tensor, mesh.sequence"
            )
        return tuple(sizes)


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh of a config over `devices` (all by default), with automatic axis types.

    Slices of TPUs are parts of the data axis, since only gradients should leave one.

    Raises:
      ConfigError: the devices are not the product of the sizes, or are slices that do not divide
        the data axis.
    """
    devices = jax.devices() if devices is None else list(devices)
    shape = config.shape(len(devices))
    types = (AxisType.Auto,) * len(MESH_AXES)
    slices = len({slice_of(device) for device in devices})
    if slices > 1:
        data, *others = shape
        require(data % slices == 0, f"mesh.data {data} is no multiple of the {slices} slices")
        placed = mesh_utils.create_hybrid_device_mesh(
            (data // slices, *others), (slices, *(1 for _ in others)), devices,
            allow_split_physical_axes=True,
        )  # fmt: skip
        return Mesh(placed, MESH_AXES, axis_types=types)
    data, fsdp, tensor, sequence = shape
    if (rings := torus.rings(devices, tensor)) is not None:
        placed = rings.reshape(data, fsdp, sequence, tensor).swapaxes(2, 3)
        return Mesh(placed, MESH_AXES, axis_types=types)
    try:
        return jax.make_mesh(shape, MESH_AXES, axis_types=types, devices=devices)
    except NotImplementedError:  # of a torus, where an axis of the mesh is a part of a dimension
        placed = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
        return Mesh(placed, MESH_AXES, axis_types=types)


def one_device() -> Mesh:
    """The mesh of this process's first device alone."""
    return make_mesh(MeshConfig(data=1), jax.local_devices()[:1])


def slice_of(device: Any) -> int:
    """The slice of TPUs that a device is in; 0 where it is in none, or there is only one."""
    return getattr(device, "slice_index", 0) if device.platform == "tpu" else 0


def check_divides(mesh: Mesh, axis: str, **sizes: int) -> None:
    """Raises ConfigError, naming both, unless a mesh axis divides these sizes of a model."""
    for name, size in sizes.items():
        require(
            size % mesh.shape[axis] == 0,
            f"model.{name} {size} is not divisible by mesh.{axis} {mesh.shape[axis]}",
        )


def platform() -> str:
    """What the program that is traced now will run on: "cpu", "gpu" or "tpu".

    That of the mesh in use, whose devices may be absent; without one, of this process.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device else jax.default_backend()


def batch_ways(mesh: Mesh) -> int:
    """Number of parts that a batch is split in."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def parameter_spec(names: Sequence[str | None], shape: Sequence[int], mesh: Mesh) -> PartitionSpec:
    """How an array whose axes have these names is split; an axis that does not divide is whole."""
    split: list[list[str]] = [[] for _ in shape]
    used: set[str] = set()

    def claim(dimension: int, axis: str) -> None:
        parts = math.prod(mesh.shape[other] for other in split[dimension])
        size = mesh.shape[axis]
        if axis not in used and size > 1 and shape[dimension] % (parts * size) == 0:
            split[dimension].append(axis)
            used.add(axis)

    rules = [PARAMETER_RULES[name] if name else () for name in names]
    for dimension, rule in enumerate(rules):
        for axis in rule[:1]:
            claim(dimension, axis)
    for dimension, rule in enumerate(rules):
        for axis in rule[1:]:
            claim(dimension, axis)
    return PartitionSpec(*(tuple(part) if part else None for part in split))


def parameter_shardings(boxed: Any, mesh: Mesh) -> Any:
    """Shardings of a tree of arrays boxed with axis names (`nn.LogicallyPartitioned`).

    An array without names is whole on every device.
    """

    def sharding(leaf: Any) -> Any:
        if isinstance(leaf, nn.Partitioned):
            if not jax.tree.leaves(leaf.value):  # what an optimizer keeps nothing of
                return leaf.value
            return NamedSharding(mesh, parameter_spec(leaf.names, leaf.value.shape, mesh))
        return NamedSharding(mesh, PartitionSpec())

    return jax.tree.map(sharding, boxed, is_leaf=lambda leaf: isinstance(leaf, nn.Partitioned))


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """States how an activation is split, by the names of its axes; nothing outside a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, activation_spec(mesh, names, x.shape))


def gathered(x: jax.Array, whole: Sequence[str], split: Sequence[str]) -> jax.Array:
    """`x` split as `whole` says, and its gradient as `split` says: summed over fewer devices each.

    A plain constraint would have the gradient split as the value, and summed on every device.
    """

    @jax.custom_vjp
    def gather(x: jax.Array) -> jax.Array:
        return constrain(x, *whole)

    gather.defvjp(lambda x: (gather(x), None), lambda _, g: (constrain(g, *split),))
    return gather(x)


def ways(name: str) -> int:
    """Parts that an activation's axis is split in, where it divides; 1 outside a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return 1
    manual = set(mesh.manual_axes)
    return math.prod(mesh.shape[axis] for axis in ACTIVATION_RULES[name] if axis not in manual)


def activation_spec(
    mesh: jax.sharding.AbstractMesh, names: Sequence[str | None], shape: Sequence[int]
) -> PartitionSpec:
    """How an activation is split; an axis that does not divide is whole."""
    manual = set(mesh.manual_axes)
    if all(mesh.shape[axis] > 1 for axis in BATCH_AXES):
        # XLA's partitioner gets other numbers where the batch is over two axes and this over one
        whole = {axes.RESIDUAL: axes.WIDTH, axes.SPAN: axes.LENGTH}
        names = [whole.get(name or "", name) for name in names]
    spec = []
    for name, size in zip(names, shape, strict=True):
        rule = tuple(axis for axis in ACTIVATION_RULES[name] if axis not in manual) if name else ()
        ways = math.prod(mesh.shape[axis] for axis in rule)
        spec.append(rule if rule and size % ways == 0 else None)
    return PartitionSpec(*spec)


def on_each_device(compute: Callable[..., jax.Array], *names: str | None) -> Callable[..., Any]:
    """`compute` on each device's part of arrays whose axes have these names.

    For a kernel that the partitioner cannot split. An axis whose name is None is whole, and so is
    one that does not divide; outside a mesh, and inside another such call, nothing changes.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or mesh.manual_axes:
        return compute

    def split(*arrays: jax.Array) -> Any:
        spec = activation_spec(mesh, names, arrays[0].shape)
        return jax.shard_map(compute, in_specs=spec, out_specs=spec, check_vma=False)(*arrays)

    return split


def batch_sharding(mesh: Mesh, leading: int = 0) -> NamedSharding:
    """Sharding of a host batch: rows over the batch axes, after `leading` axes that are whole."""
    return NamedSharding(mesh, PartitionSpec(*[None] * leading, BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def place(batch: Any, mesh: Mesh, rows: slice, total: int, leading: int = 0) -> Any:
    """A global batch from the rows that this process holds.

    Args:
      batch: tree of numpy arrays; axis `leading` holds this process's rows.
      mesh: where to.
      rows: which of the global rows these are.
      total: number of global rows.
      leading: number of axes before the rows (the microbatches).

    Returns:
      The same tree of global arrays, rows split over the batch axes.
    """
    sharding = batch_sharding(mesh, leading)

    def global_array(local: np.ndarray) -> jax.Array:
        shape = (*local.shape[:leading], total, *local.shape[leading + 1 :])

        def shard(index: Any) -> np.ndarray:
            start, stop, _ = index[leading].indices(total)
            if start < rows.start or stop > rows.stop:
                raise ValueError(f"process holds rows {rows}, a device of it needs {start}:{stop}")
            part = slice(start - rows.start, stop - rows.start)
            return local[(slice(None),) * leading + (part,)]

        return jax.make_array_from_callback(shape, sharding, shard)

    return jax.tree.map(global_array, batch)


def place_whole(batch: Any, mesh: Mesh) -> Any:
    """A global batch from all its rows, which every process holds: each places its own."""
    total = len(jax.tree.leaves(batch)[0])
    mine = local_rows(mesh, total)
    return place(jax.tree.map(lambda leaf: leaf[mine], batch), mesh, mine, total)


def fetch(x: jax.Array | np.ndarray) -> np.ndarray:
    """The whole of an array, on every process; all of them ask for it."""
    if isinstance(x, np.ndarray) or x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def everywhere(flags: np.ndarray) -> np.ndarray:
    """Of each, whether it is so on every process; all must ask."""
    if jax.process_count() == 1:
        return flags
    from jax.experimental import multihost_utils

    return np.all(multihost_utils.process_allgather(flags), axis=0)


def local_rows(mesh: Mesh, total: int) -> slice:
    """The rows of a global batch of `total` that this process's devices hold, as one block."""
    placement: Any = batch_sharding(mesh).addressable_devices_indices_map((total,))
    bounds = [index[0].indices(total) for index in placement.values()]
    return slice(min(start for start, _, _ in bounds), max(stop for _, stop, _ in bounds))
