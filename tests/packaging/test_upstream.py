"""Upstream's own package loads and speaks beside the versions that were locked against its wish."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROGRAM = """
    import json, pathlib, sys, warnings
    warnings.simplefilter("ignore")
    import numpy, setuptools, torch
    from chatterbox_server.bench import random_weights, upstream_package

    # Random weights seldom say that they are done.
    sample, calls = torch.multinomial, [0]
    def short(probabilities, num_samples):
        calls[0] += 1
        if calls[0] % 6 == 0:
            return torch.full((probabilities.shape[0], 1), 6562)
        return probabilities[:, :6561].argmax(-1, keepdim=True)

    torch.multinomial = short
    made = {}
    for kind in ("standard", "multilingual", "turbo"):
        model = upstream_package.load(kind, random_weights.write(kind, pathlib.Path(sys.argv[1]) / kind))
        language = {"language_id": "fr"} if kind == "multilingual" else {}
        made[kind] = model.generate("Hello there.", **language).numpy()
    versions = {"torch": torch.__version__, "numpy": numpy.__version__, "setuptools": setuptools.__version__}
    outputs = {kind: [wav.shape[1], bool(numpy.isfinite(wav).all())] for kind, wav in made.items()}
    print(json.dumps({"versions": versions, "outputs": outputs}))
"""


@pytest.mark.timeout(240)
def test_upstream_speaks_beside_overrides(root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path)],
        env={"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=230,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    for line in (root / "requirements" / "overrides.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith(("torch=", "numpy", "setuptools")):
            override = Requirement(line)
            assert override.specifier.contains(answer["versions"][override.name].partition("+")[0])
    # Five tokens of 40 ms; Turbo adds three of silence.
    samples = {kind: count for kind, (count, _) in answer["outputs"].items()}
    assert all(finite for _, finite in answer["outputs"].values())
    assert all(0.1 < count / 24_000 < 0.5 for count in samples.values()), samples
