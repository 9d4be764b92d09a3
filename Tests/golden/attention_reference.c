/* Attention from its definition, in long double, row by row: to see whether different bits are
 * wrong bits. How far a result may be off is what python/tests/attention_reference.py explains. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attention.h"

typedef struct {
  const attention_inputs *in;
  int64_t heads, group, queries, keys;
  long double scale, softcap, limit, u, tiny, least; /* weights that count, of the largest */
  /* Of one row: */
  long double *score, *size, *weight, *error;
  long double maximum, sink, sum, spread, sums;
  int is_seen, has_nan;
} work;

static long double offset_of(const attention_inputs *in, int64_t entry) {
  const int64_t *shape = in->over.x.shape;
  for (int i = 0; i < in->over.conditions; i++) {
    const condition *k = &in->over.condition[i];
    if (k->mask.query_offset) return number_of(k, 0, &k->offset, entry);
  }
  return shape[3] - shape[2];
}

static void find_scores(work *w, int64_t entry, int64_t head, int64_t i) {
  const attention_inputs *in = w->in;
  int64_t size = in->query.shape[3], row = (entry * w->heads + head) * w->queries + i;
  int64_t keys = (entry * w->heads + head) / w->group * w->keys;
  long double slope = 0, place = i + offset_of(in, entry);
  if (in->slopes.data) {
    slope = get(&in->slopes, in->slopes.rank == 2 ? entry * w->heads + head : head);
  }
  w->sink = in->sinks.data ? get(&in->sinks, head) : -INFINITY;
  w->maximum = w->sink;
  w->is_seen = w->has_nan = 0;
  for (int64_t j = 0; j < w->keys; j++) {
    int64_t at = row * w->keys + j;
    w->score[j] = NAN;
    w->size[j] = -1; /* hidden */
    if (!is_visible(&in->over, at)) continue;
    long double s = 0, all = 0;
    for (int64_t d = 0; d < size; d++) {
      long double term =
          (long double)get(&in->query, row * size + d) * get(&in->key, (keys + j) * size + d);
      s += term;
      all += fabsl(term);
    }
    s *= w->scale;
    w->size[j] = fabsl(w->scale) * all;
    if (w->softcap > 0) s = w->softcap * tanhl(s / w->softcap);
    if (in->over.bias.data) {
      long double bias = get(&in->over.bias, broadcast(&in->over.bias, &in->over.x, at));
      s += bias;
      w->size[j] += fabsl(bias);
    }
    s -= slope * fabsl(place - j);
    w->size[j] += slope * fabsl(place - j);
    if (isfinite(s)) s = s > w->limit ? w->limit : s < -w->limit ? -w->limit : s;
    w->score[j] = s;
    if (isnan(s) || s == INFINITY) w->has_nan = 1;
    else if (s > w->maximum) w->maximum = s;
    if (s > -INFINITY || isnan(s)) w->is_seen = 1;
  }
  if (w->sink > -INFINITY) w->is_seen = 1;
}

/* Weights, their relative errors, and the sum's. */
static void find_weights(work *w) {
  long double relative = (4 + sqrtl(w->in->query.shape[3]) + (w->softcap > 0 ? 6 : 0)) * w->u;
  long double n = (w->keys < 64 ? w->keys : 64) + w->keys / 64.0L + 1;
  w->sum = w->sink > -INFINITY ? expl(w->sink - w->maximum) : 0;
  w->sums = (2 + 2 * sqrtl(n)) * w->u;
  w->spread = 0;
  for (int64_t j = 0; j < w->keys; j++) {
    w->weight[j] = w->size[j] < 0 || w->score[j] == -INFINITY ? 0 : expl(w->score[j] - w->maximum);
    w->sum += w->weight[j];
  }
  for (int64_t j = 0; j < w->keys; j++) {
    w->weight[j] /= w->sum;
    w->error[j] = 0;
    if (w->weight[j] == 0) continue;
    w->error[j] = relative * w->size[j] + 2 * w->u * (1 + fabsl(logl(w->weight[j])));
    w->spread += w->weight[j] * w->error[j];
  }
}

static void close_row(work *w, bounds *b, int64_t entry, int64_t head, int64_t i) {
  const array *value = &w->in->value;
  int64_t row = (entry * w->heads + head) * w->queries + i, size = value->shape[3];
  int64_t keys = (entry * w->heads + head) / w->group * w->keys;
  long double tiny = w->tiny;
  bounded *weights = b->of[WEIGHTS] + row * w->keys, *out = b->of[OUT] + row * size;
  if (!w->is_seen) {
    b->of[LSE][row] = (bounded){-INFINITY, 0};
    for (int64_t j = 0; j < w->keys; j++) weights[j] = (bounded){0, 0};
    for (int64_t c = 0; c < size; c++) out[c] = (bounded){0, 0};
    return;
  }
  if (w->has_nan) {
    b->of[LSE][row] = (bounded){NAN, 0};
    for (int64_t j = 0; j < w->keys; j++) {
      /* What an excluded key has in a row of NaN is not said. */
      int is_closed = w->score[j] == -INFINITY;
      weights[j] = (bounded){w->size[j] < 0 ? 0 : NAN, is_closed ? INFINITY : 0};
    }
    for (int64_t c = 0; c < size; c++) out[c] = (bounded){NAN, 0};
    return;
  }
  long double lse = w->maximum + logl(w->sum);
  long double larger = fabsl(lse) > fabsl(w->maximum) ? fabsl(lse) : fabsl(w->maximum);
  b->of[LSE][row] =
      (bounded){lse, w->spread + w->sums + unit(single_of(w->in->from.scores.dtype), larger)};
  for (int64_t j = 0; j < w->keys; j++) {
    int is_hidden = w->size[j] < 0;
    weights[j] = (bounded){
        w->weight[j], is_hidden ? 0 : w->weight[j] * (w->error[j] + w->spread + w->sums) + tiny};
  }
  for (int64_t c = 0; c < size; c++) {
    long double o = 0, all = 0, spread = 0, magnitudes = 0;
    for (int64_t j = 0; j < w->keys; j++) {
      if (w->size[j] < 0) continue;
      long double v = get(value, (keys + j) * size + c);
      o += w->weight[j] * v;
      all += w->weight[j] * fabsl(v);
      magnitudes += fabsl(v);
    }
    for (int64_t j = 0; j < w->keys; j++) {
      if (w->weight[j] == 0) continue;
      spread += w->weight[j] * w->error[j] * fabsl(get(value, (keys + j) * size + c) - o);
    }
    out[c] = (bounded){o, spread + w->sums * (all + fabsl(o)) + tiny + w->least * magnitudes};
  }
}

bounds attention_bounds(const attention_inputs *in) {
  const int64_t *shape = in->over.x.shape;
  const attention_case *c = &in->from;
  int is_wide = c->scores.dtype == SMX_FLOAT64;
  work w = {.in = in, .heads = shape[1], .queries = shape[2], .keys = shape[3]};
  w.group = shape[1] / in->key.shape[1];
  w.scale = *c->scale ? strtod(c->scale, NULL) : 1 / sqrtl(in->query.shape[3]);
  w.softcap = strtod(c->softcap, NULL);
  w.limit = ldexpl(1, is_wide ? 1022 : 126);
  w.u = ldexpl(1, is_wide ? -53 : -24);
  w.tiny = ldexpl(1, is_wide ? -1022 : -126);
  w.least = ldexpl(1, is_wide ? -960 : -100);
  int64_t rows = shape[0] * shape[1] * shape[2];
  bounds b = {{allocate((size_t)(rows * in->value.shape[3]) * sizeof(bounded)),
               allocate((size_t)rows * sizeof(bounded)),
               allocate((size_t)(rows * shape[3]) * sizeof(bounded))}};
  long double *room = allocate((size_t)(4 * shape[3]) * sizeof *room);
  w.score = room;
  w.size = room + shape[3];
  w.weight = room + 2 * shape[3];
  w.error = room + 3 * shape[3];
  for (int64_t row = 0; row < rows; row++) {
    int64_t entry = row / (shape[1] * shape[2]), head = row / shape[2] % shape[1];
    find_scores(&w, entry, head, row % shape[2]);
    if (w.is_seen && !w.has_nan) find_weights(&w);
    close_row(&w, &b, entry, head, row % shape[2]);
  }
  free(room);
  return b;
}

void free_bounds(bounds *b) {
  for (int k = 0; k < RESULTS; k++) free(b->of[k]);
}

double worst_excess(const array *out, const bounded *exact, int64_t *at) {
  double worst = 0;
  *at = 0;
  for (int64_t i = 0; i < out->count; i++) {
    long double value = get(out, i), expected = exact[i].value;
    if (isinf(exact[i].error)) continue;
    double excess = 0;
    if (isnan(expected)) {
      excess = isnan(value) ? 0 : INFINITY;
    } else if (!(value == expected)) {
      /* Half a unit for the rounding of a narrow result, which is all that a wide one has left. */
      long double bound = exact[i].error + unit(out->dtype, expected) / 2;
      excess = isfinite(value - expected) ? (double)(fabsl(value - expected) / bound) : INFINITY;
    }
    if (excess > worst) {
      worst = excess;
      *at = i;
    }
  }
  return worst;
}
