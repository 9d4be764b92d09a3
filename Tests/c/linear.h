/* A good call of linear_cross_entropy: its operands in any layout. */
#ifndef LINEAR_H
#define LINEAR_H

#include "preload.h"
#include "view.h"

enum { HIDDEN, WEIGHT, TARGETS, BIAS, LOSS, LSE, D_HIDDEN, D_WEIGHT, D_BIAS, OPERANDS };
static const char *const names[OPERANDS] = {"hidden", "weight",   "targets",  "bias",  "loss",
                                            "lse",    "d_hidden", "d_weight", "d_bias"};
static const int of_all = (1 << OPERANDS) - 1;

typedef struct problem {
  smx_dtype dtype, index;
  int64_t tokens, columns, classes;
  int given; /* a bit for each operand */
  smx_linear_cross_entropy_options options;
  view views[OPERANDS];
} problem;

/* Every third token is ignored. */
static double element(const problem *p, int k, int64_t i, uint64_t *random) {
  double v = random_between(random, -1, 1);
  if (k == TARGETS)
    return i % 3 == 2 || p->classes == 0 ? -100 : (double)random_below(random, p->classes);
  return rounded_to(p->dtype, k == HIDDEN ? 2 * v : v);
}

static int64_t rank_and_shape(const problem *p, int k, int64_t shape[2]) {
  shape[0] = k == WEIGHT || k == BIAS || k == D_WEIGHT || k == D_BIAS ? p->classes : p->tokens;
  shape[1] = p->columns;
  if (k == LOSS && p->options.reduction != SMX_NONE) return 0;
  return k == HIDDEN || k == WEIGHT || k == D_HIDDEN || k == D_WEIGHT ? 2 : 1;
}

static smx_dtype dtype_of(const problem *p, int k) {
  if (k == TARGETS) return p->index;
  int is_single = k == LOSS || k == LSE || k == D_BIAS;
  return is_single && p->dtype != SMX_FLOAT64 ? SMX_FLOAT32 : p->dtype;
}

/* Of layout 0 all is in C order; of another number inputs and outputs lie anyhow. The values are
 * the same. */
static void make(problem *p, uint64_t layout) {
  uint64_t random = 7, places = layout;
  for (int k = 0; k < OPERANDS; k++) {
    int64_t shape[2];
    int rank = (int)rank_and_shape(p, k, shape);
    view *v = &p->views[k];
    view_make(v, dtype_of(p, k), rank, shape, layout ? random_bits(&places) | 1 : 0, 0);
    for (int64_t i = 0; k < LOSS && i < v->count; i++) {
      int64_t index[RANK];
      unravel(i, rank, shape, index);
      store_as(v->tensor.dtype, place_of(&v->tensor, index), element(p, k, i, &random));
    }
  }
}

static void release(problem *p) {
  for (int k = 0; k < OPERANDS; k++) view_free(&p->views[k]);
}

#endif
