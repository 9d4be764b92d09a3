/* softmax, log_softmax and logsumexp of one row the slow and obvious way, in 113 bits, and the bounds that
 * the library's results are held to. */
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

/* The score of an element; -inf where it takes no part. */
static inline wide score_of(const element *e, const row_options *o) {
  if (!e->visible || (o->has_weights && e->weight == 0)) return -INFINITY;
  return (wide)e->x + (o->has_bias ? (wide)e->bias : 0);
}

static inline int is_nan(wide v) { return v != v; }

/* Results to result[0 ..< n], or to result[0] and *sign for logsumexp; *maximum is the largest score. */
static inline void reference_row(int operation, const element *row, int64_t n, const row_options *o,
                                 wide *result, double *sign, double *maximum) {
  wide top = -INFINITY, others = 0, weighted = 0;
  int64_t visible = 0, ties = 0, finite = 0;
  int hasNaN = 0;
  for (int64_t i = 0; i < n; i++) {
    wide s = score_of(&row[i], o);
    visible += row[i].visible;
    finite += s > -INFINITY;
    if (is_nan(s)) hasNaN = 1;
    if (s > top) top = s;
  }
  for (int64_t i = 0; i < n; i++) ties += score_of(&row[i], o) == top;
  *maximum = (double)top;

  /* Rows without arithmetic: contract S1 to S4 and S14. */
  wide masked = operation == SOFTMAX ? 0 : -INFINITY;
  int isClosed = visible == 0 || (top == -INFINITY && (o->has_bias || operation == LOGSUMEXP));
  if (hasNaN || isClosed || top == INFINITY || top == -INFINITY) {
    wide value = hasNaN ? NAN : isClosed ? masked : operation == LOGSUMEXP ? INFINITY : NAN;
    for (int64_t i = 0; i < (operation == LOGSUMEXP ? 1 : n); i++) result[i] = value;
    *sign = hasNaN ? NAN : isClosed ? 0 : 1;
    return;
  }

  wide t = o->temperature;
  int isLimit = o->temperature == 0 || isinf(o->temperature);
  int64_t winners = o->temperature == 0 ? ties : finite;
  /* The sum without one maximum, so that its logarithm keeps every digit. */
  int taken = 0;
  for (int64_t i = 0; i < n; i++) {
    wide s = score_of(&row[i], o);
    wide term = s == -INFINITY || isLimit ? 0 : expf128((s - top) / t);
    weighted += o->has_weights ? term * (wide)row[i].weight : 0;
    if (s == top && !taken++) continue;
    others += term;
  }
  if (operation == LOGSUMEXP) {
    wide size = weighted < 0 ? -weighted : weighted;
    result[0] = top + (o->has_weights ? logf128(size) : log1pf128(others));
    if (o->has_weights && weighted < 0 && !o->has_sign) result[0] = NAN;
    *sign = !o->has_weights ? 1 : weighted > 0 ? 1 : weighted < 0 ? -1 : 0;
    return;
  }
  for (int64_t i = 0; i < n; i++) {
    wide s = score_of(&row[i], o);
    if (s == -INFINITY) {
      result[i] = masked;
    } else if (isLimit) {
      int wins = o->temperature != 0 || s == top;
      result[i] = operation == SOFTMAX ? (wins ? (wide)1 / winners : 0)
                                       : (wins ? -logf128(winners) : -INFINITY);
    } else {
      wide shifted = (s - top) / t;
      result[i] = operation == SOFTMAX ? expf128(shifted) / (1 + others)
                                       : shifted - log1pf128(others);
    }
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
    return fabs(nearest) >= largest && fabs(got) >= largest && (nearest > 0) == (got > 0) ? 1 : INFINITY;
  }
  wide difference = (wide)got - exact;
  return (double)((difference < 0 ? -difference : difference) / ulp_of(dtype, scale));
}

/* The bound in ulp of the dtype. The narrow types are computed in float32 and rounded once: half an ulp,
 * and what the float32 bound is in theirs. */
static inline double bound_of(smx_dtype dtype, double ulp) {
  int digits = format_of(dtype).digits;
  return digits >= 24 ? ulp : 0.5 + ldexp(ulp, digits - 24);
}

#endif
