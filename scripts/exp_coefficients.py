#!/usr/bin/env python3
"""Minimax coefficients of exp on the reduced interval, as Sources/Kernels/Exp.swift uses them.

The form is 1 + r + r^2 (c2 + c3 r + ... ) with the first two coefficients fixed at 1, so that
exp(0) is exactly 1 and the last rounding is that of one fused multiply-add. The exchange algorithm
of Remez minimises the relative error; then the coefficients are rounded one by one from c2
upward, the rest fitted anew after each rounding. Prints hexadecimal floats and the error bound.

Usage: python3 scripts/exp_coefficients.py
"""

import mpmath as mp

mp.mp.dps = 60


def round_to(value, bits):
    """The nearest number with a mantissa of that many bits."""
    mantissa, exponent = mp.frexp(value)
    return mp.ldexp(mp.nint(mp.ldexp(mantissa, bits)), int(exponent) - bits)


def relative_error(coefficients, r):
    tail = mp.fsum(c * r ** (k + 2) for k, c in enumerate(coefficients))
    return (1 + r + tail) / mp.exp(r) - 1


def extrema(coefficients, bound, samples=1200):
    """The interval's alternating extrema of the error, the largest of each sign run."""
    points = [bound * (2 * mp.mpf(i) / samples - 1) for i in range(samples + 1)]
    runs, last = [], 0
    for r in points:
        error = relative_error(coefficients, r)
        sign = mp.sign(error)
        if sign == 0:
            continue
        if sign != last:
            runs.append((abs(error), r))
            last = sign
        elif abs(error) > runs[-1][0]:
            runs[-1] = (abs(error), r)
    return runs


def fit(fixed, count, bound):
    """Remez exchange for `count` coefficients in all, the first ones held at `fixed`."""
    free = count - len(fixed)
    nodes = [bound * mp.cos(mp.pi * (2 * i + 1) / (2 * (free + 1))) for i in range(free + 1)][::-1]
    coefficients = list(fixed)
    for _ in range(12):
        matrix, right = mp.matrix(free + 1, free + 1), mp.matrix(free + 1, 1)
        for row, r in enumerate(nodes):
            for column in range(free):
                matrix[row, column] = r ** (len(fixed) + column + 2) / mp.exp(r)
            matrix[row, free] = (-1) ** row
            known = 1 + r + mp.fsum(c * r ** (k + 2) for k, c in enumerate(fixed))
            right[row] = 1 - known / mp.exp(r)
        solution = mp.lu_solve(matrix, right)
        coefficients = list(fixed) + [solution[i] for i in range(free)]
        runs = extrema(coefficients, bound)
        if len(runs) < free + 1:
            break
        while len(runs) > free + 1:
            runs.pop(0 if runs[0][0] < runs[-1][0] else -1)
        nodes = [r for _, r in runs]
    return coefficients


def rounded_fit(degree, bits, bound):
    fixed = []
    count = degree - 1
    while len(fixed) < count:
        coefficients = fit(fixed, count, bound) if len(fixed) < count else fixed
        fixed.append(round_to(coefficients[len(fixed)], bits))
    return fixed


def hexadecimal(value, bits):
    mantissa, exponent = mp.frexp(value)
    digits = -(-(bits - 1) // 4)
    integer = int(mp.ldexp(abs(mantissa), bits)) - (1 << (bits - 1))
    integer <<= digits * 4 - (bits - 1)
    sign = "-" if value < 0 else ""
    return f"{sign}0x1.{integer:0{digits}x}p{int(exponent) - 1}"


def main():
    for name, degree, bits, bound in (
        ("Float", 6, 24, mp.mpf("0.3495")),
        ("Double", 11, 53, mp.mpf("0.3495")),
    ):
        coefficients = rounded_fit(degree, bits, bound)
        worst, where = max(extrema(coefficients, bound, 4000))
        print(f"{name}: degree {degree}, |r| <= {mp.nstr(bound, 5)}")
        for k, c in enumerate(coefficients):
            print(f"  c{k + 2} = {hexadecimal(c, bits)}")
        print(f"  relative error 2^{mp.nstr(mp.log(worst, 2), 5)} at r = {mp.nstr(where, 8)}")
        high = round_to(mp.log(2), bits)
        print(f"  ln2 = {hexadecimal(high, bits)} + {hexadecimal(round_to(mp.log(2) - high, bits), bits)}")
        print(f"  1/ln2 = {hexadecimal(round_to(1 / mp.log(2), bits), bits)}")


if __name__ == "__main__":
    main()
