import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simtrain.errors import InputError
from simtrain.reliability.job import Checkpoint, FailureClass, Fleet, Job, Law, Recovery

LAWS = [
    Law("fixed", 7.0),
    Law("exponential", 3.0),
    Law("weibull", 3.0, 0.7),
    Law("lognormal", 2.0, 1.1),
    Law("hazard", table=(0.0, 1.0, 3.0), rates_per_s=(2.0, 0.1, 0.5)),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.kind)
def test_the_mean_of_the_quantiles_is_the_mean(law):
    u = (np.arange(200_000) + 0.5) / 200_000
    assert law.quantile(u).mean() == pytest.approx(law.mean, rel=2e-3)


@pytest.mark.parametrize("law", LAWS[1:], ids=lambda law: law.kind)
@given(u=st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=9))
def test_quantiles_rise(law, u):
    assert (np.diff(law.quantile(np.sort(u))) >= 0).all()


def test_normal_quantiles():
    law = Law.of_median(1.0, 1.0)
    for p, z in ((0.5, 0.0), (0.841344746068543, 1.0), (0.975, 1.959963984540054), (1e-10, -6.361340902404056)):
        assert math.log(law.quantile(np.array([p]))[0]) == pytest.approx(z, abs=1e-9)


def test_weibull_of_shape_1_is_exponential():
    u = np.linspace(0, 0.999, 50)
    assert Law("weibull", 5.0, 1.0).quantile(u) == pytest.approx(Law("exponential", 5.0).quantile(u))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Law("exponential", -1.0), "Law.mean_s = -1.0"),
        (lambda: Law("hazard", table=(0.0,), rates_per_s=(0.0,)), "Law.rates_per_s"),
        (lambda: FailureClass(name="a", law=Law("exponential")), "FailureClass.law"),
        (lambda: FailureClass(name="a", law=Law("instants", table=(1.0,)), components=2), "FailureClass.components"),
        (lambda: Recovery(failure_probability=1.0), "Recovery.failure_probability"),
        (lambda: Checkpoint(kind="blocking", interval_s=0.0), "Checkpoint.interval_s"),
        (lambda: Fleet(nodes=4, nodes_per_replica=3), "Fleet.nodes_per_replica = 3"),
        (lambda: Job(), "Job.work_s = inf"),
    ],
)
def test_the_impossible_is_refused_by_key_and_value(make, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        make()
