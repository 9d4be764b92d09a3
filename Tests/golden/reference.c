/* The three operations from their definitions, in long double: to see whether different bits are
 * wrong bits. Contract S1 to S8 decides the special rows. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "golden.h"

int64_t number_of(const condition *k, int slot, const smx_tensor *t, int64_t entry) {
  return k->data[slot][t->ndim ? entry : 0];
}

static int meets(const condition *k, const golden_case *c, int64_t first, int64_t i, int64_t j) {
  int64_t offset = k->mask.query_offset ? number_of(k, 0, &k->offset, first)
                                        : c->shape[c->rank - 1] - c->shape[c->rank - 2];
  if (k->mask.causal && j > i + offset) return 0;
  if (k->mask.window) {
    if (k->mask.window_left >= 0 && j < i + offset - k->mask.window_left) return 0;
    if (k->mask.window_right >= 0 && j > i + offset + k->mask.window_right) return 0;
  }
  if (k->mask.key_lengths && j >= number_of(k, 1, &k->lengths, first)) return 0;
  if (k->mask.query_lengths && i >= number_of(k, 2, &k->query_lengths, first)) return 0;
  if (k->mask.query_segments && k->data[3][i] != k->data[4][j]) return 0;
  return 1;
}

int64_t broadcast(const array *a, const array *x, int64_t index) {
  int64_t place = 0, weight = 1;
  for (int i = x->rank - 1; i >= 0; i--) {
    if (a->shape[i] > 1) place += index % x->shape[i] * weight;
    weight *= a->shape[i];
    index /= x->shape[i];
  }
  return place;
}

int is_visible(const inputs *in, int64_t index) {
  const golden_case *c = in->from;
  if (in->mask.data && !get(&in->mask, broadcast(&in->mask, &in->x, index))) return 0;
  for (int k = 0; k < in->conditions; k++) {
    int64_t keys = in->x.shape[c->rank - 1], queries = in->x.shape[c->rank - 2];
    int64_t first = index / (in->x.count / in->x.shape[0]);
    if (!meets(&in->condition[k], c, first, index / keys % queries, index % keys)) return 0;
  }
  return 1;
}

typedef struct {
  long double maximum, sum, second, ties;
  int64_t visible;
  int has_nan;
} row_state;

/* Row number of each element of x: its place with the reduced axes left out. */
static int64_t row_of(const inputs *in, int64_t index) {
  int64_t row = 0, weight = 1;
  for (int i = in->x.rank - 1; i >= 0; i--) {
    if (!in->from->reduced[i]) {
      row += index % in->x.shape[i] * weight;
      weight *= in->x.shape[i];
    }
    index /= in->x.shape[i];
  }
  return row;
}

static long double score(const inputs *in, int64_t index) {
  long double value = get(&in->x, index);
  return in->bias.data ? value + get(&in->bias, broadcast(&in->bias, &in->x, index)) : value;
}

static long double temperature(const inputs *in, int64_t index) {
  return in->temperature.data ? get(&in->temperature, broadcast(&in->temperature, &in->x, index))
                              : 1;
}

/* The logarithm of a visible element's term, the largest one of a row being 0. */
static long double exponent(long double difference, long double t) {
  if (t == 0) return difference == 0 ? 0 : -INFINITY;
  if (isinf(t)) return difference == -INFINITY ? -INFINITY : 0;
  return difference / t;
}

static long double result(const inputs *in, const row_state *r, int64_t index) {
  operation op = in->from->op;
  long double closed = op == SOFTMAX ? 0 : -INFINITY;
  if (r->visible == 0) return closed;
  if (r->has_nan) return NAN;
  if (r->maximum == INFINITY) return op == LOGSUMEXP ? INFINITY : NAN;
  if (r->maximum == -INFINITY) return op == LOGSUMEXP || in->bias.data ? closed : NAN;
  if (op == LOGSUMEXP) {
    if (in->weights.data) return r->sum < 0 ? NAN : r->maximum + logl(r->sum);
    return r->maximum + log1pl(r->sum + (r->ties - 1));
  }
  if (!is_visible(in, index)) return closed;
  long double y = exponent(score(in, index) - r->maximum, temperature(in, index));
  return op == SOFTMAX ? expl(y) / (r->sum + r->ties) : y - log1pl(r->sum + (r->ties - 1));
}

exact_value *reference(const inputs *in) {
  int64_t rows = 1, count = in->x.count;
  for (int i = 0; i < in->x.rank; i++)
    if (!in->from->reduced[i]) rows *= in->x.shape[i];
  row_state *state = allocate((size_t)rows * sizeof *state);
  for (int64_t r = 0; r < rows; r++) state[r] = (row_state){.maximum = -INFINITY};
  for (int64_t i = 0; i < count; i++) {
    if (!is_visible(in, i)) continue;
    row_state *r = state + row_of(in, i);
    long double s = score(in, i);
    r->visible++;
    if (isnan(s)) r->has_nan = 1;
    else if (s > r->maximum) r->maximum = s;
  }
  for (int64_t i = 0; i < count; i++) {
    row_state *r = state + row_of(in, i);
    if (!is_visible(in, i) || isinf(r->maximum)) continue;
    long double y = exponent(score(in, i) - r->maximum, temperature(in, i));
    /* Terms equal to the largest one are counted, so that a small sum beside
     * them keeps its digits. */
    if (in->weights.data) r->sum += expl(y) * get(&in->weights, i);
    else if (y == 0) r->ties++;
    else r->sum += expl(y);
  }
  exact_value *exact = allocate((size_t)count * sizeof *exact);
  for (int64_t i = 0; i < count; i++) {
    int64_t row = row_of(in, i);
    long double value = result(in, state + row, i), maximum = fabsl(state[row].maximum);
    if (in->from->op == LOGSUMEXP) {
      exact[row] = (exact_value){value, fabsl(value) < maximum ? maximum : value};
    } else {
      exact[i] = (exact_value){value, value};
    }
  }
  free(state);
  return exact;
}

long double unit(smx_dtype dtype, long double value) {
  int bits = dtype == SMX_FLOAT16 ? 11 : dtype == SMX_BFLOAT16 ? 8 : dtype == SMX_FLOAT32 ? 24 : 53;
  int least = dtype == SMX_FLOAT16    ? -24
              : dtype == SMX_BFLOAT16 ? -133
              : dtype == SMX_FLOAT32  ? -149
                                      : -1074;
  int e;
  frexpl(value, &e);
  return ldexpl(1, e - bits > least ? e - bits : least);
}

double worst_error(const array *out, const exact_value *exact, int64_t *at) {
  double worst = 0;
  *at = 0;
  for (int64_t i = 0; i < out->count; i++) {
    long double value = get(out, i), expected = exact[i].value;
    double error;
    /* What is beyond the range of the dtype rounds to infinity. */
    if (isnan(expected)) error = isnan(value) ? 0 : INFINITY;
    else if (isinf(expected)) error = value == expected ? 0 : INFINITY;
    else if (isnan(value)) error = INFINITY;
    else if (isinf(value))
      error = out->dtype == SMX_FLOAT16 && fabsl(expected) > 65519 ? 0 : INFINITY;
    else error = (double)(fabsl(value - expected) / unit(out->dtype, exact[i].scale));
    if (error > worst) {
      worst = error;
      *at = i;
    }
  }
  return worst;
}
