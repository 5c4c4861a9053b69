"""Measure the installed server; see README.md beside this file for what is measured and how.

Prints tables and writes everything that was measured to results/ as JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from types import ModuleType

import engine_parts
import lite_latency
import overhead
import server_sweep
import soak
import streams
from harness import build_load, machine, raise_open_files

BENCHMARKS: dict[str, ModuleType] = {
    "overhead": overhead,
    "streams": streams,
    "lite": lite_latency,
    "engine": engine_parts,
    "server": server_sweep,
    "soak": soak,
}
UNASKED = ("overhead", "streams", "lite", "engine", "server")
"""The default benchmarks: without the soak, which takes half an hour."""
RESULTS = Path(__file__).with_name("results")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the installed server.")
    parser.add_argument("--quick", action="store_true", help="less of everything, with rougher figures")
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="run this one (may be given again)")
    parser.add_argument("--load", type=Path, help="a load generator that is built already")
    arguments = parser.parse_args()

    raise_open_files()
    generator = arguments.load or build_load()
    results: dict[str, object] = {"machine": machine(), "began": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    print(f"Machine: {results['machine']}")
    for name in arguments.only or UNASKED:
        result = BENCHMARKS[name].measure(generator, quick=arguments.quick)
        results[name] = result
        print(f"\n{BENCHMARKS[name].render(result)}", flush=True)

    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / time.strftime("%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"\nAll figures: {path}")


if __name__ == "__main__":
    main()
