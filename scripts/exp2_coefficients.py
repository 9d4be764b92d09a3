#!/usr/bin/env python3
"""Minimax coefficients of 2^r on [-1/2, 1/2], as Sources/Kernels/TileLanes.swift uses them.

The form is 1 + r (ln2 + c2 r + ... ), so that 2^0 is exactly 1 and the last rounding is that of one
fused multiply-add. The largest relative error over a grid is minimised as a linear programme, in
units of the last place of each coefficient beside its Taylor coefficient, so that float64 is enough to
solve it; coefficients are rounded one by one from c2 upward, the rest fitted anew each time. The
error printed is that of the rounded ones, in 60 digits.

Usage: python3 scripts/exp2_coefficients.py
"""

import mpmath as mp
import numpy as np
from exp_coefficients import hexadecimal, round_to
from scipy.optimize import linprog

mp.mp.dps = 60
GRID = [-mp.cos(mp.pi * i / 600) / 2 for i in range(601)]


def errors(coefficients):
    """Relative errors of the polynomial over the grid."""
    return [mp.polyval(coefficients[::-1], r) / mp.mpf(2) ** r - 1 for r in GRID]


def taylor(k):
    return mp.log(2) ** k / mp.factorial(k)


def fit(fixed, degree):
    """The coefficients behind `fixed`, as corrections to those of Taylor's series."""
    start = list(fixed) + [taylor(k) for k in range(len(fixed), degree + 1)]
    scale = max(abs(e) for e in errors(start))
    left = np.array([-float(e / scale) for e in errors(start)])
    free = range(len(fixed), degree + 1)
    columns = [[float((2 * r) ** k / mp.mpf(2) ** r) for r in GRID] for k in free]
    matrix, ones = np.array(columns).T, -np.ones((len(GRID), 1))
    solution = linprog(
        [0] * len(free) + [1],
        A_ub=np.block([[matrix, ones], [-matrix, ones]]),
        b_ub=np.concatenate([left, -left]),
        bounds=[(None, None)] * len(free) + [(0, None)],
        method="highs",
    )
    corrections = [mp.mpf(x) * scale * mp.mpf(2) ** k for x, k in zip(solution.x, free)]
    return [c + x for c, x in zip(start[len(fixed) :], corrections)]


def main():
    for name, degree, bits in ("Float", 6, 24), ("Double", 11, 53):
        fixed = [mp.mpf(1), round_to(mp.log(2), bits)]
        while len(fixed) <= degree:
            fixed.append(round_to(fit(fixed, degree)[0], bits))
        worst, where = max((abs(e), r) for e, r in zip(errors(fixed), GRID))
        print(f"{name}: degree {degree}, |r| <= 1/2")
        for k, c in enumerate(fixed):
            print(f"  c{k} = {hexadecimal(c, bits)}")
        print(f"  relative error 2^{mp.nstr(mp.log(worst, 2), 5)} at r = {mp.nstr(where, 8)}")


if __name__ == "__main__":
    main()
