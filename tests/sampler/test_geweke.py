"""Joint-distribution tests of every sampler and of lifting: a kernel that leaves the posterior given y alone keeps the
prior when y is drawn anew between its transitions (the machinery and its statistics are in conftest.py)."""

import numpy as np
import pytest

import gibbsformer as gf


def _slow(case):
    return pytest.param(case, marks=pytest.mark.slow)


cases = pytest.mark.parametrize("case", ["singular", "two layers", *map(_slow, ("one layer", "three layers"))])
# several outputs and skip connections; "skip, outputs" has both, these are slow
GENERAL = (
    "outputs", "outputs, singular", "skip below", "skip above", "skips", "skip, three layers", "skip, N - r = 0",
    "skip, N - r = 1",
)  # fmt: skip
general = pytest.mark.parametrize("case", ["skip, outputs", *map(_slow, GENERAL)])
# Up to 10,000 pairs of weights: one in 1.7 million normal draws is farther out than 5, so about 1 % for all together.
PAIR_LIMIT = 5


@pytest.mark.parametrize("case", ["singular", *map(_slow, ("one layer", "two layers", "three layers"))])
def test_collapsed_keeps_the_joint_law(geweke, assert_within, case):
    assert_within(geweke.collapsed_z(geweke.problem(case), chains=3000, rounds=10), "statistic ")


@pytest.mark.parametrize(
    ("kicks", "turn", "surrogate"),
    [(0, 90, False), pytest.param(0, 110, False, marks=pytest.mark.slow), (2, 110, False), (3, 110, True)],
)
@pytest.mark.parametrize("case", ["one layer", *map(_slow, ("two layers", "singular"))])
def test_moves_around_the_mode_keep_the_joint_law(geweke, assert_within, case, kicks, turn, surrogate):
    """Kicks by a field that has nothing to do with the density too."""
    kernel = gf.SplitHMC(kicks=kicks, turn=turn, surrogate=surrogate)
    rounds = 30 if surrogate else 10  # which accepts less, and remembers its start for longer
    z = geweke.collapsed_z(geweke.problem(case), chains=3000, rounds=rounds, kernel=kernel)
    assert_within(z, "statistic ")


@cases
def test_gibbs_keeps_the_joint_law(geweke, assert_within, case):
    assert_within(geweke.weight_space_z(geweke.problem(case), gf.Gibbs(), chains=3000, rounds=20), "statistic ")


@cases
def test_lifted_weights_follow_the_joint_law(geweke, assert_within, case):
    z, z_pairs = geweke.lifting_z(geweke.problem(case), draws=20_000)
    assert_within(z, "statistic ")
    assert_within(z_pairs, "pair of weights ", PAIR_LIMIT)
    # the squares of m normal scores average to 1 within sqrt(2/m); scores that share weights are uncorrelated
    assert_within((np.mean(z_pairs**2) - 1) / np.sqrt(2 / len(z_pairs)), "spread over pairs of weights ")


@pytest.mark.parametrize(
    ("target", "kernel", "chains", "rounds"),
    [
        ("weights", gf.HMC(integration_steps=4, initial_step_size=0.2), 3000, 10),
        ("marginal", gf.HMC(integration_steps=4, initial_step_size=0.2), 3000, 8),
        pytest.param("marginal", gf.MALA(initial_step_size=0.3), 3000, 8, marks=pytest.mark.slow),
        pytest.param("marginal", gf.AdjustedMCLMC(length=0.5, initial_step_size=0.1), 3000, 8, marks=pytest.mark.slow),
        pytest.param("weights", gf.NUTS(max_doublings=4, initial_step_size=0.2), 6000, 4, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", value if isinstance(value, str) else ""),
)
def test_gradient_kernel_keeps_the_joint_law(geweke, assert_within, target, kernel, chains, rounds):
    z = geweke.weight_space_z(geweke.problem("two layers"), kernel, chains, rounds, target=target)
    assert_within(z, "statistic ")


# few enough chains for the factorisations of several outputs to run on one thread each (see ``in_batches``)


@general
def test_collapsed_keeps_the_joint_law_of_general_networks(geweke, assert_within, case):
    assert_within(geweke.collapsed_z(geweke.problem(case), chains=700, rounds=40), "statistic ")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["outputs", "skips", "skip, outputs"])
def test_moves_keep_the_joint_law_of_general_networks(geweke, assert_within, case):
    z = geweke.collapsed_z(geweke.problem(case), chains=700, rounds=40, kernel=gf.SplitHMC(kicks=2))
    assert_within(z, "statistic ")


@general
def test_gibbs_keeps_the_joint_law_of_general_networks(geweke, assert_within, case):
    assert_within(geweke.weight_space_z(geweke.problem(case), gf.Gibbs(), chains=3000, rounds=20), "statistic ")


@general
def test_lifted_weights_of_general_networks_follow_the_joint_law(geweke, assert_within, case):
    # at a readout width of 1 the moments of U_1 have too heavy tails for means of independent draws: those of 20,000
    # draws of theta itself were off by up to 7 standard errors; test_lifting.py has lifted weights with their very U
    z, z_pairs = geweke.lifting_z(geweke.problem(case), draws=20_000, with_U=case != "outputs, singular")
    assert_within(z, "statistic ")
    assert_within(z_pairs, "pair of weights ", PAIR_LIMIT)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["weights", "marginal"])
def test_hmc_keeps_the_joint_law_of_general_networks(geweke, assert_within, target):
    kernel = gf.HMC(integration_steps=4, initial_step_size=0.2)
    z = geweke.weight_space_z(geweke.problem("skip, outputs"), kernel, 3000, 8, target=target)
    assert_within(z, "statistic ")
