"""What a run tells: `metrics.jsonl`, a line on the terminal, model FLOPs utilisation.

    mfu = tokens_per_second x flops_per_token / (devices x peak)

`flops_per_token` counts the model's own products once (no recomputation), attention as causal.
`peak` is the chip's published bfloat16 rate; where it is not listed, that of a product measured at
start, on a CPU of float32.
"""

import json
import sys
import time
from io import FileIO
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lm.core.chips import published_peak
from lm.core.paths import is_remote, write_whole


def peak_flops(mesh_size: int) -> float:
    """Peak FLOP/s of all the devices of a mesh."""
    device = jax.devices()[0]
    if device.platform == "cpu":  # whose devices are one processor in each process
        return measured_peak(1024, jnp.float32) * jax.process_count()
    one = published_peak(device.device_kind) or measured_peak(8192, jnp.bfloat16)
    return one * mesh_size


def measured_peak(size: int, dtype: Any, repeats: int = 5) -> float:
    """FLOP/s of the best of a few square products on the first device."""
    device = jax.local_devices()[:1]
    times = []
    with jax.set_mesh(jax.make_mesh((1,), ("one",), devices=device)):  # not that of the whole run
        a = jax.device_put(np.ones((size, size), dtype), device[0])
        product = jax.jit(jnp.dot)
        product(a, a).block_until_ready()
        for _ in range(repeats):
            start = time.perf_counter()
            product(a, a).block_until_ready()
            times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


REWRITE = 30.0  # seconds between two copies of a metrics file to an object store


class MetricsFile:
    """`metrics.jsonl`: appended by one process, one object a line.

    An object store cannot append: there the file is written whole now and then, and at the end.
    """

    def __init__(self, path: Path, resumed_step: int | None, *, events: bool = False):
        """Rows after `resumed_step` are dropped: those steps are done again.

        Args:
          events: write every number into `events.*` beside it, for TensorBoard.
        """
        self.path, self.warned = path, False
        self.events = event_writer(path.parent, resumed_step) if events else None
        rows = []
        if path.exists() and resumed_step is not None:
            rows = [row for row in read_metrics(path) if row["step"] <= resumed_step]
        self.lines = [json.dumps(row) + "\n" for row in rows]
        last = (row["step"] == resumed_step for row in rows)
        self.told = {line for line, told in zip(self.lines, last, strict=True) if told}
        self.rewrite()
        self.file: FileIO | None = None if is_remote(path) else FileIO(path, "a")
        self.late = b""  # rows, or the rest of one, that the disk had no room for as yet

    def write(self, row: dict[str, Any]) -> None:
        """Adds a row, but for one that an earlier process has told of the step it ended with."""
        line = json.dumps(row) + "\n"
        if line in self.told:
            return
        if self.events is not None:
            for name in row.keys() - {"step"}:
                if isinstance(row[name], int | float):
                    self.events.add_scalar(name, row[name], row["step"])
        if self.file is not None:
            self.late += line.encode()
            self.append()
            return
        self.lines.append(line)
        if time.monotonic() - self.written > REWRITE:
            self.rewrite()

    def append(self) -> None:
        """Writes what is late; a full disk ends a run by its checkpoints, and not by this."""
        assert self.file is not None
        try:
            while self.late:
                self.late = self.late[self.file.write(self.late) :]
        except OSError as error:
            if not self.warned:
                print(f"warning: {self.path}: {error.strerror or error}; its rows are written once "
                      "they can be", file=sys.stderr)  # fmt: skip
            self.warned = True

    def rewrite(self) -> None:
        """Writes all the lines, whole."""
        write_whole(self.path, "".join(self.lines))
        self.written = time.monotonic()

    def flush(self) -> None:
        if self.file is None:
            self.rewrite()

    def close(self) -> None:
        if self.events is not None:
            self.events.close()
        if self.file is not None:
            self.append()
            self.file.close()
        else:
            self.rewrite()


def event_writer(folder: Path, resumed_step: int | None) -> Any:
    """TensorBoard's file. Of files before it the steps after `resumed_step`, or all, are hidden. It
    imports PyTorch where that is installed, which takes seconds."""
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(folder), purge_step=0 if resumed_step is None else resumed_step + 1)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file; a line that was cut short or damaged is left out."""
    rows = []
    for line in path.read_bytes().decode(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # a line of brackets alone, say
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


class Console:
    """Progress: one line that is rewritten on a terminal, a line now and then in a log."""

    def __init__(self, every_seconds: float = 10.0):
        self.live = sys.stdout.isatty()
        self.every = 0.0 if self.live else every_seconds
        self.last = -1e9
        self.open = False

    def progress(self, line: str, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self.last < self.every:
            return
        self.last = now
        if self.live:
            print(f"\r\x1b[K{line}", end="", flush=True)
            self.open = True
        else:
            print(line, flush=True)

    def say(self, text: str) -> None:
        """Something that stays."""
        print("\n" * self.open + text, flush=True)
        self.open = False


def duration(seconds: float) -> str:
    """`3:05` or `2:10:00`."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def rate(tokens_per_second: float) -> str:
    return f"{tokens_per_second / 1e3:.1f}k tok/s" if tokens_per_second >= 1e3 else (
        f"{tokens_per_second:.0f} tok/s"
    )  # fmt: skip
