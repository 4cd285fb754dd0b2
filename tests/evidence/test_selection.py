"""The table of evidences: order, scores next to it, and what does not belong together."""

import jax
import pytest

import gibbsformer as gf
from gibbsformer.evidence.selection import evidence_findings
from gibbsformer.reports.text import render_evidence

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def candidates(make_small):
    """Evidences of a network and of its first head alone; test inputs of the whole network."""
    options = {"heads": (2,), "widths": (12, 9), "variances": (0.7, 1.3, 0.9), "N_0": 4, "P": 6, "temperature": 0.1}
    small = make_small(**options)
    posteriors = {"both": small.posterior, ("first", "alone"): small.posterior.select(["(1)"])}
    found = {name: gf.evidence(p, key=KEY, particles=64, repeats=2, method="smc") for name, p in posteriors.items()}
    return found, small.test


def test_table_has_the_best_first_and_scores_of_the_theory(candidates):
    evidences, test = candidates
    table = gf.select(evidences, test)
    assert set(table.index) == set(evidences)
    assert list(table.columns) == ["log_evidence", "error", "behind", "r_squared"]
    assert table["behind"].iloc[0] == 0
    assert table["log_evidence"].is_monotonic_decreasing
    for name, found in evidences.items():
        row = table.iloc[list(table.index).index(name)]
        assert row["log_evidence"] == found.log_evidence
        assert row["error"] == found.error
        inputs = test[0].select(found.posterior.data.path_names)
        prediction = gf.predict(gf.theory.solve(found.posterior), inputs)
        assert row["r_squared"] == gf.score(prediction, test[1]).value
    assert list(gf.select(evidences).columns) == ["log_evidence", "error", "behind"]


def test_findings_and_their_text(candidates):
    evidences, test = candidates
    found = evidence_findings(evidences["both"], test)
    text = render_evidence(found)
    assert f"{evidences['both'].log_evidence:.3f} +- {evidences['both'].error:.3f}" in text
    assert f"theory {found['r_squared']['theory']:.3f}" in text
    assert "!" not in text
    assert "! replicates gave" in render_evidence(evidence_findings(evidences["both"], None) | {"agrees": False})


def test_what_does_not_belong_is_refused(candidates):
    evidences, test = candidates
    with pytest.raises(ValueError, match=r"evidences=\[\] must be a dict: give"):
        gf.select([])
    with pytest.raises(ValueError, match=r"evidences\['a'\] is a float: give gf\.evidence"):
        gf.select({"a": 1.0})
    p = evidences["both"].posterior
    other = gf.evidence(gf.Posterior(p.network, p.data, -p.y, 0.1), key=KEY, particles=64, repeats=1)
    with pytest.raises(ValueError, match=r"evidences\['b'\] has other labels than the first: make them the same"):
        gf.select({"a": evidences["both"], "b": other})
    with pytest.raises(ValueError, match=r"path='\(1\)' is not known"):
        gf.select(evidences, (gf.PathInputs(test[0].xi, ("x", "y")), test[1]))
