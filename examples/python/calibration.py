"""Temperature scaling and the expected calibration error, by swiftmax.

A classifier is calibrated when of all its answers given with confidence 0.8, 80 % are right. One
number, a temperature fitted on held-out logits, repairs most of what training leaves:

    T = argmin over T of  mean over i of  -log softmax(logits_i / T)[label_i]
"""

import numpy as np
import swiftmax as smx


def main():
    """Logits that are right but three times too sure: the temperature found is 3."""
    generator = np.random.default_rng(7)
    honest = generator.standard_normal((20_000, 5)) * 2
    # Labels drawn from softmax(honest) by the Gumbel trick, so these logits are calibrated.
    labels = (honest + generator.gumbel(size=honest.shape)).argmax(axis=1)
    sure = 3 * honest
    fit = smx.fit_temperature(sure, labels, bins=10)
    print(f"temperature {fit.temperature:.3f} (logits were multiplied by 3)")
    for name, error, loss in (
        ("before", fit.calibration_error_before, fit.nll_before),
        ("after", fit.calibration_error_after, fit.nll_after),
    ):
        print(f"{name:<7} expected calibration error {error:.4f}, log-loss {loss:.4f}")


if __name__ == "__main__":
    main()
