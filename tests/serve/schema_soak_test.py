"""Schemathesis reads our description of the interface and tries for ten minutes to break it."""

import re
import subprocess
import sys

import pytest

from lm.serve.engine import Engine
from lm.serve.model import Served
from lm.text.byte import ByteTokenizer
from tests.serve.seeing import drawn, model
from tests.serve.served import client, listening

SECONDS = 600
CHECKS = "not_a_server_error,status_code_conformance"


@pytest.mark.soak
def test_no_request_that_the_description_knows_of_gets_an_internal_error(toy, tmp_path):
    pytest.importorskip("schemathesis")
    engine = Engine(model(), drawn(model()), slots=2).start()
    with listening(toy, Served("seeing", engine, ByteTokenizer())) as address:
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "--no-color", "run",
             address + "/openapi.json", f"--checks={CHECKS}", f"--max-time={SECONDS}",
             "--max-examples=1000000", "--workers=1", "--continue-on-failure"],
            cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS + 300,
        )  # fmt: skip
        with client(address) as api:
            assert api.get("/health").json()["status"] == "ok"
    engine.close()
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) generated", done.stdout)[1]) > 1000
