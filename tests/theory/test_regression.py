"""The predictor averaged over draws."""

import numpy as np

from gibbsformer.theory import conditional_mean, conditional_predictor, regression


def test_draws_in_blocks_give_the_same_means(make_small, monkeypatch):
    posterior = make_small(heads=(2, 2), widths=(6, 6, 6)).posterior
    H = posterior.network.paths
    roots = np.random.default_rng(0).standard_normal((7, H, H))
    U_1 = roots @ roots.swapaxes(1, 2)
    problem = (U_1, posterior.data, posterior.y, 0.1, 0.7, posterior.data)
    whole = conditional_mean(*problem)
    np.testing.assert_allclose(whole, conditional_predictor(*problem)[0], rtol=1e-8)
    monkeypatch.setattr(regression, "_BLOCK_BYTES", 3 * 8 * posterior.data.flat[0].size)  # three, three, and one
    np.testing.assert_allclose(conditional_mean(*problem), whole, rtol=1e-12)
