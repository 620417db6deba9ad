"""The bounds of a failover's times, by the same code as `tools/bench failover` but with few runs.

The machine is shared: the median has to keep the bound, the worst run one and a half times of it.
"""
import random
import statistics

import pytest

from conftest import lab_name
from benchrun.failover import TARGETS_MS, Bench, make_lab, summary

RUNS = 3


@pytest.fixture(scope="module")
def bench():
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    with make_lab(lab_name("times")) as lab:
        yield Bench(lab, seed)


@pytest.mark.parametrize("kind", TARGETS_MS)
def test_from_the_cut_to_the_switch_and_to_clients_that_are_well(bench, kind):
    bench.prepare(kind)
    runs = [bench.run(kind) for _ in range(RUNS)]
    print(runs)
    found = summary(runs)
    for figure, bound in TARGETS_MS[kind].items():
        values = [getattr(run, figure) for run in runs]
        assert statistics.median(values) < bound, (figure, values)
        assert max(values) < 1.5 * bound, (figure, values)
    assert found["all_ok_ms"][2] < 5000
