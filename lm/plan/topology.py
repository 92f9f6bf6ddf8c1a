"""Absent TPU pods, described by name for a compiler that runs on a CPU."""

import math
import os
import re
from typing import Any

import numpy as np

from lm.core.chips import CHIPS, Chip
from lm.core.errors import ConfigError
from lm.core.mesh import slice_of

NAME = re.compile(r"(?P<kind>\w+):(?P<dims>\d+(x\d+)*)")

# The published fit-or-refuse table: slices that are sold.
TABLE = (
    "v4:4x4x4", "v4:8x8x16", "v5e:4x4", "v5e:16x16", "v5p:4x4x4", "v5p:8x8x8", "v5p:8x8x16",
    "v6e:4x4", "v6e:16x16", "tpu7x:4x4x4", "tpu7x:8x8x8",
)  # fmt: skip


class Topology:
    """A slice of chips, or several of them, by a name such as `v5p:8x8x16`."""

    def __init__(self, name: str, slices: int = 1):
        """Reads the name; the compiler is asked for the devices only when they are wanted.

        Raises:
          ConfigError: an unknown kind of chip, or dimensions that it cannot have.
        """
        found = NAME.fullmatch(name)
        if found is None or found["kind"] not in CHIPS:
            raise ConfigError(
                f"--topology={name}: write KIND:AxB or KIND:AxBxC, with KIND one of "
                f"{', '.join(CHIPS)}; v5p:8x8x16 is 1024 chips"
            )
        self.name, self.kind, self.slices = name, found["kind"], slices
        self.dims = tuple(int(n) for n in found["dims"].split("x"))
        if len(self.dims) != self.chip.dimensions:
            raise ConfigError(
                f"--topology={name}: a {self.kind} slice has {self.chip.dimensions} dimensions, "
                f"this one has {len(self.dims)}"
            )
        if any(n % 2 for n in self.dims[:2]) or 0 in self.dims:
            raise ConfigError(
                f"--topology={name}: a host has 2 x 2 chips, so the first two dimensions are even"
            )

    @property
    def chip(self) -> Chip:
        return CHIPS[self.kind]

    @property
    def chips(self) -> int:
        return math.prod(self.dims) * self.slices

    def devices(self) -> list[Any]:
        """The devices, which can be compiled for and nothing else.

        Raises:
          ConfigError: no TPU compiler here, or it does not know the topology.
        """
        quiet()
        from jax.experimental import topologies

        options: dict[str, Any] = {"num_slices": self.slices} if self.slices > 1 else {}
        if self.kind == "v4":
            options["chip_config_name"] = "megacore"
        try:
            described = topologies.get_topology_desc(
                platform="tpu", topology_name=self.name, **options
            )
        except Exception as error:  # a missing library and an unknown name have many types
            if isinstance(error, ImportError) or re.search("not (installed|found)", str(error)):
                raise ConfigError(
                    "the TPU compiler is missing: pip install 'lm[tpu]' (x86-64 Linux; it needs "
                    f"no TPU); {str(error).splitlines()[0]}"
                ) from None
            raise ConfigError(f"--topology={self.name}: {str(error).splitlines()[0]}") from None
        return list(described.devices)

    def links(self, devices: np.ndarray, axis: int, inside: bool = False) -> float:
        """Bytes/s at which a ring along a mesh axis moves data: all the directions that it has.

        Args:
          devices: of the mesh, an axis of the array for each of its own.
          inside: only along the devices of one slice, where the axis leaves it.

        Each dimension of the torus along which the axis runs gives two links, one where the
        dimension does not close to a ring, and a part of them where it leaps over chips, whose own
        rings take the other parts. Between slices it is the data centre's network.
        """
        moved = list(np.moveaxis(devices, axis, 0).reshape(devices.shape[axis], -1)[:, 0])
        if inside:
            moved = [device for device in moved if slice_of(device) == slice_of(moved[0])]
        if len({slice_of(device) for device in moved}) > 1:
            return self.chip.outside
        places = np.array([tuple(device.coords)[: self.chip.dimensions] for device in moved])
        links = [self.links_along(dim, places[:, dim]) for dim in range(self.chip.dimensions)]
        return self.chip.link * (sum(links) or 1)

    def links_along(self, dim: int, places: np.ndarray) -> float:
        """Links that a ring with these coordinates in a dimension has there: 0 where it stays."""
        taken = np.unique(places)
        if len(taken) == 1:
            return 0.0
        step = int(np.diff(taken).min())
        closed = self.dims[dim] % self.chip.wraps == 0 and len(taken) * step == self.dims[dim]
        return (2 if closed else 1) / step


def quiet() -> None:
    """Settings that the TPU library reads when it is loaded: no TPU is looked for."""
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5e-4")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_STDERR_LOG_LEVEL", "3")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
