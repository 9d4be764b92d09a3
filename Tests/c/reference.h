/* softmax, log_softmax and logsumexp of one row the slow and obvious way, in 113 bits, and the
 * bounds that the library's results are held to. */
#ifndef REFERENCE_H
#define REFERENCE_H

#define __STDC_WANT_IEC_60559_TYPES_EXT__ 1
#include "values.h"

typedef _Float128 wide;

/* The bounds of swiftmax.h: units in the last place of softmax and log_softmax, and of logsumexp
 * relative to the larger of |result| and |maximum|. */
#define SOFTMAX_ULP 2.0
#define LOGSUMEXP_ULP 1.0

typedef struct element {
  double x, bias, weight;
  int visible;
} element;

typedef struct row_options {
  int has_bias, has_weights, has_sign;
  double temperature;
} row_options;

/* x + bias exactly, as a pair: of float64 operands far apart 113 bits would lose the smaller one.
 */
typedef struct score {
  wide high, low;
} score;

/* -inf where the element takes no part. */
static inline score score_of(const element *e, const row_options *o) {
  if (!e->visible || (o->has_weights && e->weight == 0)) return (score){-INFINITY, 0};
  if (!o->has_bias) return (score){e->x, 0};
  wide x = e->x, bias = e->bias, sum = x + bias, part = sum - x;
  wide lost = (x - (sum - part)) + (bias - part);
  return (score){sum, isfinite(e->x) && isfinite(e->bias) ? lost : 0};
}

static inline int is_nan(wide v) { return v != v; }

/* a - b of finite scores; exact but for one rounding. */
static inline wide difference(score a, score b) { return (a.high - b.high) + (a.low - b.low); }

static inline int exceeds(score a, score b) {
  return a.high > b.high || (a.high == b.high && a.low > b.low);
}

/* What a row comes to: results (one for logsumexp), sign of the sum, largest score, and for weights
 * of both signs the sum of magnitudes over the magnitude of the sum: what cancellation may cost. */
typedef struct row_result {
  wide *values;
  double sign, maximum, condition;
} row_result;

static inline void fill_row(int operation, int64_t n, wide value, row_result *result) {
  for (int64_t i = 0; i < (operation == LOGSUMEXP ? 1 : n); i++) result->values[i] = value;
  result->sign = is_nan(value) ? NAN : value == -INFINITY ? 0 : 1;
}

static inline void reference_row(int operation, const element *row, int64_t n, const row_options *o,
                                 row_result *result) {
  score top = {-INFINITY, 0};
  wide others = 0, sum = 0, magnitudes = 0, t = o->temperature;
  int64_t visible = 0, ties = 0, finite = 0;
  int hasNaN = 0, taken = 0, infinitelyPositive = 0, infinitelyNegative = 0;
  for (int64_t i = 0; i < n; i++) {
    score s = score_of(&row[i], o);
    visible += row[i].visible;
    finite += s.high > -INFINITY;
    hasNaN = hasNaN || is_nan(s.high) || (row[i].visible && isnan(row[i].weight));
    if (s.high == INFINITY) *(row[i].weight > 0 ? &infinitelyPositive : &infinitelyNegative) = 1;
    if (exceeds(s, top)) top = s;
  }
  result->maximum = (double)top.high;
  result->condition = 1;

  /* Rows without arithmetic: contract S1 to S4 and S14. */
  int isClosed = visible == 0 || (top.high == -INFINITY && (o->has_bias || operation == LOGSUMEXP));
  int isUndecided = infinitelyPositive && infinitelyNegative;
  if (hasNaN || isUndecided || (top.high == INFINITY && operation != LOGSUMEXP)) {
    fill_row(operation, n, NAN, result);
    return;
  }
  if (infinitelyNegative) {
    result->values[0] = o->has_sign ? INFINITY : NAN;
    result->sign = -1;
    return;
  }
  if (isClosed || isinf((double)top.high)) {
    wide closed = operation == SOFTMAX ? 0 : -INFINITY;
    fill_row(operation, n, isClosed ? closed : top.high > 0 ? INFINITY : NAN, result);
    return;
  }

  int isLimit = o->temperature == 0 || isinf(o->temperature);
  for (int64_t i = 0; i < n; i++) {
    score s = score_of(&row[i], o);
    if (s.high == -INFINITY) continue;
    wide term = isLimit ? 0 : expf128(difference(s, top) / t);
    int isTop = !exceeds(top, s);
    ties += isTop;
    sum += term * row[i].weight;
    magnitudes += term * fabs(row[i].weight);
    /* The sum without one maximum, so that its logarithm keeps every digit. */
    if (!isTop || taken++) others += term;
  }
  if (operation == LOGSUMEXP) {
    result->sign = !o->has_weights ? 1 : sum > 0 ? 1 : sum < 0 ? -1 : 0;
    wide size = sum < 0 ? -sum : sum;
    result->condition = size == 0 ? INFINITY : (double)(magnitudes / size);
    wide log = o->has_weights ? logf128(size) : log1pf128(others);
    result->values[0] = sum < 0 && !o->has_sign ? NAN : (top.high + log) + top.low;
    return;
  }
  int64_t winners = o->temperature == 0 ? ties : finite;
  for (int64_t i = 0; i < n; i++) {
    score s = score_of(&row[i], o);
    int wins = s.high > -INFINITY && (o->temperature != 0 || !exceeds(top, s));
    wide shifted = wins && !isLimit ? difference(s, top) / t : 0;
    if (!wins) result->values[i] = operation == SOFTMAX ? 0 : -INFINITY;
    else if (isLimit)
      result->values[i] = operation == SOFTMAX ? (wide)1 / winners : -logf128(winners);
    else if (operation == SOFTMAX) result->values[i] = expf128(shifted) / (1 + others);
    else result->values[i] = shifted - log1pf128(others);
  }
}

/* Distance of a result from the exact value in ulp of `scale` (the exact value itself, or what the
 * bound of logsumexp is relative to); 0 where both are the same special value. */
static inline double error_of(smx_dtype dtype, double got, wide exact, double scale) {
  double nearest = rounded_to(dtype, (double)exact);
  if (isnan(nearest) || isnan(got)) return isnan(nearest) && isnan(got) ? 0 : INFINITY;
  if (isinf(nearest) || isinf(got)) {
    double largest = format_of(dtype).largest;
    if (nearest == got) return 0;
    /* On either side of the largest number is next to it, not at the end of the world. */
    return fabs(nearest) >= largest && fabs(got) >= largest && (nearest > 0) == (got > 0)
               ? 1
               : INFINITY;
  }
  wide distance = (wide)got - exact;
  return (double)((distance < 0 ? -distance : distance) / ulp_of(dtype, scale));
}

/* The bound in ulp of the dtype. The narrow types are computed in float32 and rounded once: half an
 * ulp, and what the float32 bound is in theirs. */
static inline double bound_of(smx_dtype dtype, double ulp) {
  int digits = format_of(dtype).digits;
  return digits >= 24 ? ulp : 0.5 + ldexp(ulp, digits - 24);
}

#endif
