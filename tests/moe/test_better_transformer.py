"""BetterTransformer's gain: if this fails, two different computations are compared."""

from moe.better_transformer import measure


def test_fast_and_eager_layers_compute_the_same() -> None:
    found = {
        speedup.layer: speedup for speedup in measure(hidden=64, heads=4, sequence=16, sequences=2, repeats=3)
    }
    assert set(found) == {"attention", "encoder"}
    for speedup in found.values():
        assert speedup.largest_difference < 1e-5
        assert speedup.factor > 0
