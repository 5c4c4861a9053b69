"""RFC 6455, as the cases of the Autobahn suite have it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from running_server import Server

CASES = Path(__file__).with_name("autobahn_cases.py")


@pytest.mark.timeout(300)
def test_autobahn_cases_pass(fake: Server) -> None:
    done = subprocess.run(
        [sys.executable, str(CASES), str(fake.port)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    verdicts: dict[str, tuple[str, str, bool]] = json.loads(done.stdout)
    assert len(verdicts) > 240
    failed = {case: verdict for case, (*verdict, passed) in verdicts.items() if not passed}
    assert not failed
