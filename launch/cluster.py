"""The processes of one run: each is the same command, and they find one another at start.

python -m launch.train ... --coordinator_address=host0:8476 --process_count=2 --process_id=0
python -m launch.train ... --coordinator_address=host0:8476 --process_count=2 --process_id=1

On a TPU pod, under SLURM and under Open MPI 4 none of these flags is needed: jax finds the others.
Open MPI 5 it does not know: --process_id='$OMPI_COMM_WORLD_RANK' in a shell of each process.
"""

import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from lm.core.config import bindings
from lm.core.errors import ConfigError, PeerError

if TYPE_CHECKING:
    from lm.train.process import Process

COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0, where the cluster does not tell it."
)
PROCESS_COUNT = flags.DEFINE_integer(
    "process_count", None, "Processes of this run; 1: alone, whatever the cluster."
)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
HEARTBEAT = flags.DEFINE_integer(
    "heartbeat_timeout_seconds", 100, "Silence after which a process is taken for dead.",
    lower_bound=1,
)  # fmt: skip
START = flags.DEFINE_integer(
    "start_timeout_seconds", 120, "How long the processes wait for one another at start.",
    lower_bound=1,
)  # fmt: skip


def join() -> None:
    """Starts jax.distributed where there are several processes. Call it before any device is used.

    Flags come first, then the environment (JAX_COORDINATOR_ADDRESS, JAX_PROCESS_COUNT,
    JAX_PROCESS_ID), then what jax detects of a TPU pod, SLURM, Open MPI or Kubernetes.

    Raises:
      ConfigError: addresses, counts and ids that do not fit together, or an MPI whose other
        processes jax does not find.
      PeerError: process 0 does not answer.
    """
    address, count, number = given()
    if count == 1:
        return
    import jax

    if address is not None and number:
        await_coordinator(address, START.value)
    # what fails inside is a C++ abort that nobody can catch: this says why before it does
    late = threading.Timer(START.value, give_up, (address, count))
    late.daemon = True
    late.start()
    try:
        jax.distributed.initialize(
            coordinator_address=address,
            num_processes=count,
            process_id=number,
            local_device_ids=own_devices(),
            initialization_timeout=START.value + 30,
            heartbeat_timeout_seconds=HEARTBEAT.value,
            shutdown_timeout_seconds=HEARTBEAT.value,
        )
    except ValueError as error:
        if address is not None:
            raise ConfigError(f"cannot start the processes: {error}") from None
        if count is not None:
            raise ConfigError(
                f"--process_count={count}, and no cluster was found here: give "
                "--coordinator_address=HOST:PORT of process 0 and --process_id"
            ) from None
        check_alone()  # no cluster: one process
    finally:
        late.cancel()


def check_same_command(config: Any, workdir: Path, process: "Process") -> None:
    """Raises ConfigError, on every process, where one has other bindings than process 0, another
    directory, other flags of what to go on from, or another commit. Caches are each host's own."""
    import jax

    if jax.process_count() == 1:
        return
    from lm.train.journal import commit
    from lm.train.process import check_same

    mine: dict[str, str | None] = {
        name: repr(value) for name, value in bindings(config).items() if not name.endswith(".cache")
    }
    mine["--workdir"] = str(workdir if "://" in str(workdir) else workdir.absolute())
    for name in ("restore_step", "restore_fallback", "allow_data_change"):
        mine[f"--{name}"] = repr(getattr(process, name))
    known = commit()
    mine["the commit of lm"] = None if known == "-" else known[:9]
    check_same(mine, "start every process by the same command")


def own_devices() -> list[int] | None:
    """[], which is all of the node's, for a process that SLURM or Open MPI started there alone;
    None is for jax to say: JAX_LOCAL_DEVICE_IDS, or of several processes one device each."""
    if os.environ.get("JAX_LOCAL_DEVICE_IDS"):
        return None
    here = number("OMPI_COMM_WORLD_LOCAL_SIZE")
    if here is None and (tasks := number("SLURM_NTASKS")) is not None:
        here = 1 if tasks == number("SLURM_STEP_NUM_NODES") else tasks
    return [] if here == 1 else None


def check_alone() -> None:
    """Raises ConfigError where an MPI started several processes: each would run by itself."""
    for variable in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        if (number(variable) or 1) > 1:
            raise ConfigError(
                f"{variable}={os.environ[variable]}, and jax does not find the others: give "
                "--coordinator_address=HOST:PORT of process 0, --process_count and --process_id, "
                "or --process_count=1 to run alone"
            )


def given() -> tuple[str | None, int | None, int | None]:
    """Address, count and id as flags or environment say; None is for jax to detect."""
    address = COORDINATOR.value or os.environ.get("JAX_COORDINATOR_ADDRESS") or None
    count = PROCESS_COUNT.value if PROCESS_COUNT.value is not None else number("JAX_PROCESS_COUNT")
    mine = PROCESS_ID.value if PROCESS_ID.value is not None else number("JAX_PROCESS_ID")
    if count is not None and count < 1:
        raise ConfigError(f"--process_count={count}: there is at least one process")
    if mine is not None and (count is None or not 0 <= mine < count):
        raise ConfigError(f"--process_id={mine} is not below --process_count={count}")
    if address is None and mine is not None and count != 1:
        raise ConfigError("--process_id without --coordinator_address=HOST:PORT of process 0")
    if address is not None:
        host, colon, port = address.rpartition(":")
        if not (host and colon and port.isdecimal() and 0 < int(port) < 65536):
            raise ConfigError(f"--coordinator_address={address}: write HOST:PORT")
    return address, count, mine


def number(variable: str) -> int | None:
    text = os.environ.get(variable)
    if not text:
        return None
    if not text.isdecimal():
        raise ConfigError(f"{variable}={text} is not a number")
    return int(text)


def await_coordinator(address: str, seconds: float) -> None:
    """Waits until something listens at the address of process 0.

    Raises:
      ConfigError: there is no such host. PeerError: nothing listens there.
    """
    host, _, port = address.rpartition(":")
    limit = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=5):
                return
        except socket.gaierror as error:
            raise ConfigError(
                f"--coordinator_address={address}: {error.strerror}; name the host of process 0"
            ) from None
        except OSError as error:
            why = error.strerror or str(error)
        if time.monotonic() > limit:
            raise PeerError(
                f"process 0 does not answer at {address} after {seconds:.0f} s ({why}); start it, "
                "or check --coordinator_address"
            )
        time.sleep(0.2)


def give_up(address: str | None, count: int | None) -> None:
    at = f" at {address}" if address else ""
    all_of = f"all {count} processes" if count else "the processes of this cluster"
    line = (
        f"error: not {all_of} met{at} in {START.value} s (--start_timeout_seconds); start the "
        "others, or --process_count=1 to run alone\n"
    )
    os.write(2, line.encode())
    os._exit(PeerError.exit_code)
