"""Joint-distribution tests of every sampler and of lifting: a kernel that leaves the posterior given y alone keeps the
prior when y is drawn anew between its transitions (the machinery and its statistics are in conftest.py)."""

import pytest

import gibbsformer as gf

CASES = ("one layer", "two layers", "three layers", "singular")


@pytest.mark.parametrize("case", CASES)
def test_collapsed_keeps_the_joint_law(geweke, assert_within, case):
    assert_within(geweke.collapsed_z(geweke.problem(case), chains=2000, rounds=10), "statistic ")


@pytest.mark.parametrize("case", CASES)
def test_gibbs_keeps_the_joint_law(geweke, assert_within, case):
    assert_within(geweke.weight_space_z(geweke.problem(case), gf.Gibbs(), chains=2000, rounds=20), "statistic ")


@pytest.mark.parametrize("case", CASES)
def test_lifted_weights_follow_the_joint_law(geweke, assert_within, case):
    assert_within(geweke.lifting_z(geweke.problem(case), draws=20_000), "statistic ")


def test_hmc_keeps_the_joint_law(geweke, assert_within):
    kernel = gf.HMC(integration_steps=4, initial_step_size=0.2)
    assert_within(geweke.weight_space_z(geweke.problem("two layers"), kernel, chains=2000, rounds=10), "statistic ")


def test_nuts_keeps_the_joint_law(geweke, assert_within):
    kernel = gf.NUTS(max_doublings=4, initial_step_size=0.2)
    assert_within(geweke.weight_space_z(geweke.problem("two layers"), kernel, chains=2000, rounds=5), "statistic ")
