/* Attention of one query the slow and obvious way, in 113 bits, and how near a result must be. */
#ifndef ATTENTION_REFERENCE_H
#define ATTENTION_REFERENCE_H

#include "attention.h"
#include "reference.h"

/* One query against all keys. Errors are the largest that the arithmetic accounts for. */
typedef struct answer {
  wide *out, *weights, lse;
  double *out_error, *weights_error, lse_error;
  int *visible;    /* 2: its score is -inf */
  int *may_be_nan; /* of out: a value is not finite, its weight nothing or next to it */
  int is_open;     /* see is_undecided */
} answer;

static inline int number_of(const grid *g, int64_t b, int64_t h, int64_t i, int64_t j,
                            int64_t absent) {
  return (int)(g->numbers ? (int64_t)grid_at(g, b, h, i, j) : absent);
}

/* Whether all masks together show key j to query i. */
static inline int shows(const problem *p, int64_t b, int64_t h, int64_t i, int64_t j) {
  if (p->grids[MASK].numbers && grid_at(&p->grids[MASK], b, h, i, j) == 0) return 0;
  for (int k = 0; k < p->part_count; k++) {
    const smx_mask *m = &p->parts[k];
    const grid *g = &p->grids[k * PART];
    int64_t place = i + number_of(&g[OFFSET], b, h, 0, 0, p->keys - p->queries);
    if (m->causal && j > place) return 0;
    if (m->window && m->window_left != -1 && j < place - m->window_left) return 0;
    if (m->window && m->window_right != -1 && j > place + m->window_right) return 0;
    if (j >= number_of(&g[KEYS], b, h, 0, 0, p->keys)) return 0;
    if (i >= number_of(&g[QUERIES], b, h, 0, 0, p->queries)) return 0;
    if (number_of(&g[QUERY_IDS], b, h, i, 0, 0) != number_of(&g[KEY_IDS], b, h, 0, j, 0)) return 0;
  }
  return 1;
}

/* What ALiBi counts from: the first offset that is given. */
static inline int64_t alibi_offset(const problem *p, int64_t b, int64_t h) {
  for (int k = OFFSET; k < GRIDS; k += PART) {
    if (p->grids[k].numbers) return (int64_t)grid_at(&p->grids[k], b, h, 0, 0);
  }
  return p->keys - p->queries;
}

static inline wide size_of_wide(wide v) { return v < 0 ? -v : v; }

/* A score, and in *size what its rounding is relative to. */
static inline wide attention_score(const problem *p, int64_t b, int64_t h, int64_t i, int64_t j,
                                   double *size) {
  const grid *g = p->grids;
  int64_t keyHead = h / (p->heads / p->key_heads);
  wide s = 0, magnitude = 0;
  wide scale = p->has_scale ? (wide)p->scale : p->size ? 1 / sqrtf128((wide)p->size) : 1;
  for (int64_t d = 0; d < p->size; d++) {
    wide product = (wide)grid_at(&g[QUERY], b, h, i, d) * grid_at(&g[KEY], b, keyHead, j, d);
    s += product;
    magnitude += size_of_wide(product);
  }
  s *= scale;
  magnitude *= size_of_wide(scale);
  if (p->softcap > 0) s = p->softcap * tanhf128(s / p->softcap);
  if (isinf((double)magnitude)) magnitude = size_of_wide(s);
  if (g[BIAS].numbers) {
    s += grid_at(&g[BIAS], b, h, i, j);
    magnitude += fabs(grid_at(&g[BIAS], b, h, i, j));
  }
  if (g[SLOPES].numbers) {
    int64_t distance = i + alibi_offset(p, b, h) - j;
    wide part = (wide)grid_at(&g[SLOPES], b, h, 0, 0) * (distance < 0 ? -distance : distance);
    s -= part;
    magnitude += size_of_wide(part);
  }
  *size = isfinite((double)s) ? (double)magnitude : 0;
  /* As swiftmax.h has it: what is finite stays within the limit. */
  wide limit = p->dtype == SMX_FLOAT64 ? 0x1p1022 : 0x1p126;
  return !isfinite((double)s) || size_of_wide(s) < limit ? s : s < 0 ? -limit : limit;
}

/* The largest errors that the arithmetic accounts for, as in python/tests/attention_reference.py,
 * which says why. u is the error of one rounding, half an ulp of 1 (float32 for narrow dtypes).
 *
 *   |d score| <= (4 + sqrt(D) + 6 with softcap) u size, size as above
 *   e         =  |d score| + 2u + 2u |log w|: of a weight before the division, relative
 *   sums      =  (2 + 2 sqrt(n)) u, n = min(Lk, 64) + Lk / 64 + 1: the two sums over keys,
 * relative; roundings that fall like coin tosses leave 0.4 sqrt(n) u, so this is five deviations |d
 * w_j|   <= w_j (e_j + sum w e + sums) |d out|   <= sum w e |v - out| + sums (sum w |v| + |out|) |d
 * lse|   <= sum w e + sums, and one ulp of the larger of |lse| and |max score|
 *
 * Below the normal range bits are lost: the smallest normal number is added. A weight below 2^-100
 * (2^-960) of the row's largest does not count in out. */
static inline void find_errors(const problem *p, int64_t b, int64_t h, answer *a,
                               const double *sizes, double top) {
  const grid *value = &p->grids[VALUE];
  int64_t keyHead = h / (p->heads / p->key_heads);
  int isWide = p->dtype == SMX_FLOAT64;
  double u = isWide ? 0x1p-53 : 0x1p-24, tiny = isWide ? 0x1p-1022 : 0x1p-126, total = 0;
  double least = isWide ? 0x1p-960 : 0x1p-100;
  double n = (double)(p->keys < 64 ? p->keys : 64) + (double)p->keys / 64 + 1;
  double sums = (2 + 2 * sqrt(n)) * u, *e = calloc((size_t)p->keys + 1, sizeof *e);
  if (!e) abort();
  for (int64_t j = 0; j < p->keys; j++) {
    double w = (double)a->weights[j];
    if (!(w > 0)) continue;
    e[j] = (4 + sqrt((double)p->size) + (p->softcap > 0 ? 6 : 0)) * u * sizes[j] +
           2 * u * (1 + fabs(log(w)));
    total += w * e[j];
  }
  for (int64_t j = 0; j < p->keys; j++)
    a->weights_error[j] = (double)a->weights[j] * (e[j] + total + sums) + tiny;
  for (int64_t k = 0; k < p->value_size; k++) {
    double out = (double)a->out[k], error = tiny + sums * fabs(out);
    for (int64_t j = 0; j < p->keys; j++) {
      double w = (double)a->weights[j], v = w > 0 ? grid_at(value, b, keyHead, j, k) : 0;
      error += w * e[j] * fabs(v - out) + sums * w * fabs(v) + least * fabs(v);
    }
    a->out_error[k] = error;
  }
  double scale = isfinite((double)a->lse) && fabs((double)a->lse) > top ? (double)a->lse : top;
  a->lse_error = total + sums + ulp_of(isWide ? SMX_FLOAT64 : SMX_FLOAT32, scale);
  free(e);
}

/* Scores so large that their own rounding decides between keys (a row that a bias of -1e9 hides
 * whole): results are only known to be a mean of what is visible, whatever the weights. */
static inline int is_undecided(const problem *p, const answer *a, const double *sizes, double top) {
  double u = p->dtype == SMX_FLOAT64 ? 0x1p-53 : 0x1p-24;
  for (int64_t j = 0; j < p->keys; j++) {
    double error = (10 + sqrt((double)p->size)) * u * sizes[j];
    if (a->visible[j] == 1 && error > 0.1 && (double)a->weights[j] + error > top - 100) return 1;
  }
  return 0;
}

static inline void allow_any_mean(const problem *p, int64_t keyHead, int64_t b, answer *a) {
  for (int64_t j = 0; j < p->keys; j++) a->weights_error[j] = a->visible[j] ? 1.01 : 0;
  for (int64_t k = 0; k < p->value_size; k++) {
    double most = 0;
    for (int64_t j = 0; j < p->keys; j++) {
      double v = fabs(grid_at(&p->grids[VALUE], b, keyHead, j, k));
      if (a->visible[j] && v > most) most = v;
    }
    a->out_error[k] = 2.01 * most;
  }
  a->lse_error += log((double)p->keys + 1);
}

static inline void fill_answer(const problem *p, answer *a, wide value) {
  for (int64_t k = 0; k < p->value_size; k++) a->out[k] = value;
  for (int64_t j = 0; j < p->keys; j++) a->weights[j] = a->visible[j] ? value : 0;
}

static inline void answer_query(const problem *p, int64_t b, int64_t h, int64_t i, answer *a) {
  const grid *g = p->grids;
  int64_t keyHead = h / (p->heads / p->key_heads);
  wide sink = g[SINKS].numbers ? grid_at(&g[SINKS], 0, h, 0, 0) : -INFINITY, top = sink, sum = 0;
  double *sizes = calloc((size_t)p->keys + 1, sizeof *sizes);
  int isUndefined = 0, hasScore = 0;
  a->is_open = 0;
  if (!sizes) abort();
  memset(a->may_be_nan, 0, sizeof(int) * (size_t)p->value_size);
  memset(a->out_error, 0, sizeof(double) * (size_t)p->value_size);
  memset(a->weights_error, 0, sizeof(double) * (size_t)p->keys);
  for (int64_t j = 0; j < p->keys; j++) {
    a->visible[j] = shows(p, b, h, i, j);
    a->weights[j] = a->visible[j] ? attention_score(p, b, h, i, j, &sizes[j]) : -INFINITY;
    isUndefined = isUndefined || is_nan(a->weights[j]) || a->weights[j] == INFINITY;
    hasScore = hasScore || a->weights[j] > -INFINITY;
    if (a->visible[j] && a->weights[j] == -INFINITY) a->visible[j] = 2;
    if (a->weights[j] > top) top = a->weights[j];
  }
  /* Contract S1, S3, S4, S6; a sink stays in lse. */
  a->lse = isUndefined ? (wide)NAN : sink;
  a->lse_error = 2 * ulp_of(p->dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32,
                            isfinite((double)sink) && fabs((double)sink) > 1 ? (double)sink : 1);
  if (isUndefined || !hasScore) fill_answer(p, a, isUndefined ? (wide)NAN : 0);
  else {
    a->is_open = is_undecided(p, a, sizes, (double)top);
    for (int64_t j = 0; j < p->keys; j++) {
      a->weights[j] = a->weights[j] == -INFINITY ? 0 : expf128(a->weights[j] - top);
      sum += a->weights[j];
    }
    sum += expf128(sink - top);
    a->lse = top + logf128(sum);
    for (int64_t j = 0; j < p->keys; j++) a->weights[j] /= sum;
    for (int64_t k = 0; k < p->value_size; k++) {
      a->out[k] = 0;
      for (int64_t j = 0; j < p->keys; j++) {
        double v = grid_at(&g[VALUE], b, keyHead, j, k);
        if (!a->visible[j]) continue;
        /* A weight may come to 0 before its value is looked at, and then 0 · inf is NaN. */
        if (!isfinite(v) && a->weights[j] < 0x1p-100) a->may_be_nan[k] = 1;
        else a->out[k] += a->weights[j] * v;
      }
    }
    find_errors(p, b, h, a, sizes, fabs((double)top));
    if (a->is_open) allow_any_mean(p, keyHead, b, a);
  }
  free(sizes);
}

#endif
