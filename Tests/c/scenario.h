/* A random call of the softmax family: any dtype, axes, strides, mask, bias, weights, temperature
 * and structure, all from one seed. Its values depend on the seed alone, its layout on another
 * number, so that the same question can be asked of different memory. */
#ifndef SCENARIO_H
#define SCENARIO_H

#include "view.h"

enum { CONDITIONS = 2, MOST_ELEMENTS = 700 };

/* One struct smx_mask and the tensors behind it. */
typedef struct condition {
  smx_mask mask;
  view offset, keys, queries, query_ids, key_ids;
} condition;

typedef struct scenario {
  uint64_t seed;
  int operation, rank, reduced[RANK], keeps_axes, condition_count;
  smx_dtype dtype;
  int32_t axes[RANK];
  view x, out, mask, bias, weights, temperature, sign;
  condition conditions[CONDITIONS];
  arguments arguments;
  int64_t rows, cols;
} scenario;

/* Scores of one of several spreads, sometimes with special values among them. */
static inline double random_score(uint64_t *r, double spread, int special) {
  if (special && random_below(r, 24) == 0) {
    static const double values[] = {INFINITY, -INFINITY, -INFINITY, NAN,  0,
                                    -0.0,     1e-40,     3e38,      -3e38};
    return values[random_below(r, special == 1 ? 3 : 9)];
  }
  return random_between(r, -spread, spread);
}

static inline void fill_scores(view *v, uint64_t *r, double spread, int special) {
  int64_t index[RANK];
  for (int64_t i = 0; i < v->count; i++) {
    unravel(i, v->tensor.ndim, v->shape, index);
    store_as(v->tensor.dtype, place_of(&v->tensor, index), random_score(r, spread, special));
  }
}

static inline void fill_integers(view *v, uint64_t *r, int64_t least, int64_t most) {
  int64_t index[RANK];
  for (int64_t i = 0; i < v->count; i++) {
    unravel(i, v->tensor.ndim, v->shape, index);
    int64_t value = least + random_below(r, most - least + 1);
    store_as(v->tensor.dtype, place_of(&v->tensor, index), (double)value);
  }
}

/* A shape that broadcasts to x: leading axes dropped, others 1 long. */
static inline int random_broadcast(uint64_t *r, const scenario *s, int64_t *shape) {
  int rank = random_below(r, 3) ? s->rank : (int)random_below(r, s->rank + 1);
  for (int i = 0; i < rank; i++) {
    shape[i] = random_below(r, 4) ? s->x.shape[s->rank - rank + i] : 1;
  }
  return rank;
}

/* Integers over some leading axes of x, with `last` more unless that is 0. */
static inline const smx_tensor *random_integers(view *v, scenario *s, uint64_t *r, int64_t last,
                                                int64_t least, int64_t most) {
  int64_t shape[RANK];
  int rank = (int)random_below(r, s->rank - 1);
  for (int i = 0; i < rank; i++) shape[i] = s->x.shape[i];
  if (last >= 0) shape[rank++] = last;
  view_make(v, random_below(r, 2) ? SMX_INT32 : SMX_INT64, rank, shape, random_bits(r) | 1, 0);
  fill_integers(v, r, least, most);
  return &v->tensor;
}

static inline void make_conditions(scenario *s, uint64_t *r) {
  int64_t queries = s->x.shape[s->rank - 2], keys = s->x.shape[s->rank - 1];
  s->condition_count = 1 + (int)random_below(r, CONDITIONS);
  for (int i = 0; i < s->condition_count; i++) {
    condition *c = &s->conditions[i];
    smx_mask *m = &c->mask;
    m->size = sizeof *m;
    m->also = i + 1 < s->condition_count ? &s->conditions[i + 1].mask : NULL;
    m->causal = random_below(r, 3) == 0;
    m->window = random_below(r, 3) == 0;
    m->window_left = random_below(r, keys + 2) - 1;
    m->window_right = random_below(r, keys + 2) - 1;
    if (random_below(r, 3) == 0) {
      m->query_offset = random_integers(&c->offset, s, r, -1, -keys - 2, keys + 2);
    }
    if (random_below(r, 3) == 0) m->key_lengths = random_integers(&c->keys, s, r, -1, 0, keys);
    if (random_below(r, 4) == 0)
      m->query_lengths = random_integers(&c->queries, s, r, -1, 0, queries);
    if (random_below(r, 4) == 0) {
      m->query_segments = random_integers(&c->query_ids, s, r, queries, 0, 2);
      m->key_segments = random_integers(&c->key_ids, s, r, keys, 0, 2);
    }
  }
  s->arguments.structure = &s->conditions[0].mask;
}

/* One temperature for each row, fewer, or one for all. */
static inline void make_temperature(scenario *s, uint64_t *r) {
  static const double values[] = {0, INFINITY, 1, 0.5, 2, 0.1, 3, 1e-4, 1e-300, 1e38, -0.0, 0.7};
  int64_t shape[RANK];
  int rank = 0, isWhole = (int)random_below(r, 2);
  for (int i = 0; i < s->rank; i++) {
    if (isWhole || !s->reduced[i]) {
      shape[rank++] = s->reduced[i] || random_below(r, 4) == 0 ? 1 : s->x.shape[i];
    }
  }
  if (random_below(r, 3) == 0) rank = 0;
  view_make(&s->temperature, float_dtypes[random_below(r, 4)], rank, shape, random_bits(r) | 1, 1);
  for (int64_t i = 0; i < s->temperature.count; i++) {
    int64_t index[RANK];
    unravel(i, rank, shape, index);
    store_as(s->temperature.tensor.dtype, place_of(&s->temperature.tensor, index),
             values[random_below(r, 12)]);
  }
  s->arguments.temperature = &s->temperature.tensor;
}

/* Output tensors of x's dtype, contents canary; `layout` as in view_make. */
static inline void make_outputs(scenario *s, uint64_t layout) {
  int64_t shape[RANK];
  int rank = 0;
  for (int i = 0; i < s->rank; i++) {
    if (s->operation != LOGSUMEXP || !s->reduced[i]) shape[rank++] = s->x.shape[i];
    else if (s->keeps_axes) shape[rank++] = 1;
  }
  view_make(&s->out, s->dtype, rank, shape, layout, 0);
  if (s->arguments.sign) {
    view_make(&s->sign, s->dtype, rank, shape, layout ? layout + 1 : 0, 0);
    s->arguments.sign = &s->sign.tensor;
  }
}

/* The scenario of a seed; `longest` bounds the last axis (0: short ones). */
static inline void scenario_make(scenario *s, uint64_t seed, int64_t longest) {
  static const double spreads[] = {1, 5, 20, 80, 1000, 3e6};
  uint64_t random = seed * 0x2545f4914f6cdd1du + 1, *r = &random;
  int64_t shape[RANK], count = 1, reducedCount = 0;
  memset(s, 0, sizeof *s);
  s->seed = seed;
  s->operation = (int)random_below(r, OPERATIONS);
  s->dtype = float_dtypes[random_below(r, 4)];
  s->rank = longest ? 1 + (int)random_below(r, 3) : (int)random_below(r, 6);
  for (int i = s->rank - 1; i >= 0; i--) {
    int64_t most = MOST_ELEMENTS / count < 20 ? MOST_ELEMENTS / count : 20;
    shape[i] = 1 + random_below(r, most < 1 ? 1 : most);
    if (random_below(r, 40) == 0) shape[i] = 0;
    count *= shape[i] ? shape[i] : 1;
  }
  if (longest) {
    for (int i = 0; i < s->rank; i++) shape[i] = 1 + random_below(r, 3);
    shape[random_below(r, s->rank)] = 1 + random_below(r, longest);
  }
  double spread = spreads[random_below(r, s->dtype == SMX_FLOAT16 ? 5 : 6)];
  int special = (int)random_below(r, 3);
  uint64_t layout = random_below(r, 4) ? random_bits(r) | 1 : 0;
  view_make(&s->x, s->dtype, s->rank, shape, layout, 1);
  fill_scores(&s->x, r, spread, longest && random_below(r, 3) ? 0 : special);

  /* Axes: the default, all, a random list, or a list of none. */
  int choice = (int)random_below(r, 5);
  for (int i = 0; i < s->rank; i++) {
    s->reduced[i] = choice == 0   ? i == s->rank - 1
                    : choice == 1 ? 1
                    : choice == 2 ? 0
                                  : (int)random_below(r, 2);
    if (longest && shape[i] > 3) s->reduced[i] = 1;
    if (s->reduced[i]) s->axes[reducedCount++] = random_below(r, 2) ? i : i - s->rank;
  }
  s->arguments.all_axes = choice == 1;
  int isDefault =
      choice == 0 && (!longest || reducedCount == 1) && (s->rank == 0 || s->reduced[s->rank - 1]);
  s->arguments.axes = choice == 1 || (isDefault && reducedCount <= 1) ? NULL : s->axes;
  s->arguments.axis_count = (int32_t)reducedCount;
  s->keeps_axes = (int)random_below(r, 2);
  s->rows = s->cols = 1;
  for (int i = 0; i < s->rank; i++) *(s->reduced[i] ? &s->cols : &s->rows) *= shape[i];

  int64_t other[RANK];
  if (random_below(r, 3) == 0) {
    int rank = random_broadcast(r, s, other);
    view_make(&s->mask, SMX_BOOL, rank, other, random_bits(r) | 1, 1);
    fill_integers(&s->mask, r, 0, 1);
    s->arguments.mask = &s->mask.tensor;
  }
  if (random_below(r, 3) == 0) {
    int isWide = s->dtype < SMX_FLOAT32 && random_below(r, 2);
    int rank = random_broadcast(r, s, other);
    view_make(&s->bias, isWide ? SMX_FLOAT32 : s->dtype, rank, other, random_bits(r) | 1, 1);
    fill_scores(&s->bias, r, spread, special == 1);
    s->arguments.bias = &s->bias.tensor;
  }
  if (s->operation == LOGSUMEXP) {
    if (random_below(r, 3) == 0) {
      int rank = random_broadcast(r, s, other), isSigned = (int)random_below(r, 2);
      view_make(&s->weights, s->dtype, rank, other, random_bits(r) | 1, 1);
      fill_integers(&s->weights, r, isSigned ? -3 : 0, 3);
      s->arguments.weights = &s->weights.tensor;
    }
    s->arguments.sign = random_below(r, 2) ? &s->sign.tensor : NULL;
  } else if (random_below(r, 3) == 0) {
    make_temperature(s, r);
  }
  if (s->rank >= 2 && random_below(r, 3) == 0) make_conditions(s, r);
  make_outputs(s, random_below(r, 4) ? random_bits(r) | 1 : 0);
}

static inline void scenario_free(scenario *s) {
  view *views[] = {&s->x, &s->out, &s->mask, &s->bias, &s->weights, &s->temperature, &s->sign};
  for (size_t i = 0; i < sizeof views / sizeof *views; i++) view_free(views[i]);
  for (int i = 0; i < CONDITIONS; i++) {
    condition *c = &s->conditions[i];
    view *more[] = {&c->offset, &c->keys, &c->queries, &c->query_ids, &c->key_ids};
    for (size_t j = 0; j < sizeof more / sizeof *more; j++) view_free(more[j]);
  }
}

static inline smx_status scenario_run(const scenario *s) {
  return call_tensor(s->operation, &s->x.tensor, &s->out.tensor, &s->arguments);
}

static inline void scenario_describe(const scenario *s) {
  char x[300], out[300], axes[64] = "";
  for (int i = 0, n = 0; i < s->rank; i++) {
    if (s->reduced[i]) n += snprintf(axes + n, sizeof axes - (size_t)n, " %d", i);
  }
  DESCRIBE("seed %" PRIu64 ": %s of %s, x %s, out %s, axes%s%s%s%s%s%s%s", s->seed,
           operation_names[s->operation], name_of(s->dtype), view_text(&s->x, x, sizeof x),
           view_text(&s->out, out, sizeof out), axes, s->arguments.mask ? ", mask" : "",
           s->arguments.bias ? ", bias" : "", s->arguments.weights ? ", weights" : "",
           s->arguments.temperature ? ", temperature" : "", s->arguments.sign ? ", sign" : "",
           s->arguments.structure ? ", structure" : "");
}

#endif
