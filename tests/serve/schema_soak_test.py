"""Schemathesis reads our description of the interface and tries for ten minutes to break it."""

import re
import subprocess
import sys
import time

import pytest

from lm.serve.engine import Engine
from lm.serve.labelling import Labelling
from lm.serve.labels import Labels
from lm.serve.model import Served
from lm.text.byte import ByteTokenizer
from tests.serve.labels_test import item, pool_of
from tests.serve.seeing import drawn, model
from tests.serve.served import client, listening

SECONDS, ROUND = 600, 150
CHECKS = "not_a_server_error,status_code_conformance"


def tried(address, folder, seconds, seed):
    """Requests of one round, in which every route has its share."""
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "--no-color", "run", f"{address}/openapi.json",
         f"--checks={CHECKS}", f"--max-time={seconds}", "--max-examples=100", f"--seed={seed}",
         "--continue-on-failure"],
        cwd=folder, capture_output=True, text=True, timeout=seconds + 300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    return int(re.search(r"(\d+) generated", done.stdout)[1])


@pytest.mark.soak
def test_no_request_that_the_description_knows_of_gets_an_internal_error(toy, tmp_path):
    pytest.importorskip("schemathesis")
    engine = Engine(model(), drawn(model()), slots=2).start()
    limit, seed, requests = time.monotonic() + SECONDS, time.time_ns() % 10**9, 0
    pool = pool_of(tmp_path, item("a"))
    routes = Labelling(Labels(tmp_path / "labels"), pool, 2).routes()
    with listening(toy, Served("seeing", engine, ByteTokenizer()), extra=routes) as address:
        while (left := limit - time.monotonic()) > 1:
            requests += tried(address, tmp_path, min(ROUND, int(left) + 1), seed)
            seed += 1
        with client(address) as api:
            assert api.get("/health").json()["status"] == "ok"
    engine.close()
    print(f"{requests} requests")
    assert requests > 100
