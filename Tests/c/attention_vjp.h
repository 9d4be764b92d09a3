/* A call of attention's gradient: the operands and results of the forward call of a problem, and
 * gradients to be written, in any layout and strides. */
#ifndef ATTENTION_VJP_H
#define ATTENTION_VJP_H

#include "attention_random.h"

enum { GRADIENTS = 5, ALL = (1 << GRADIENTS) - 1 };
static const int operand_of[GRADIENTS] = {QUERY, KEY, VALUE, BIAS, SINKS};
static const char *const gradient_names[GRADIENTS] = {"d_query", "d_key", "d_value", "d_bias",
                                                      "d_sinks"};

typedef struct manner {
  smx_layout layout;
  uint64_t strides; /* as in view_make */
  int wanted;       /* bit for each gradient */
  int brings_workspace;
} manner;

typedef struct backward {
  call forward;
  manner manner;
  view d_out, gradients[GRADIENTS];
  smx_attention_gradients list;
  smx_attention_options options;
} backward;

/* The same values in other places. */
static inline void lay_anew(view *v, uint64_t strides) {
  view old = *v;
  view_copy(v, &old, strides);
  free(old.block);
}

static inline void backward_make(backward *b, const problem *p, manner m) {
  memset(b, 0, sizeof *b);
  call *c = &b->forward;
  b->manner = m;
  call_make(c, p, (choice){.past = -1, .lse = 1, .layout = m.layout});
  CHECK(call_run(c) == SMX_OK, "forward: %s", smx_last_error());
  b->options = c->options;
  b->options.lse = NULL;
  grid g;
  uint64_t random = p->seed + 11;
  grid_make(&g, p->rank, p->batch, p->heads, p->queries, p->value_size);
  random_numbers(&g, &random, 1, 0, 0);
  lay_as(c, OUT, &b->d_out, &g, p->dtype, 0);
  free(g.numbers);
  for (int v = 0; m.strides && v < OFFSET; v++) {
    if (c->views[v].block) lay_anew(&c->views[v], m.strides + 2 * (uint64_t)v);
  }
  if (m.strides) {
    lay_anew(&c->views[OUT], m.strides + 101);
    lay_anew(&c->views[LSE], m.strides + 103);
    lay_anew(&b->d_out, m.strides + 105);
  }
  const smx_tensor **list[GRADIENTS] = {&b->list.d_query, &b->list.d_key, &b->list.d_value,
                                        &b->list.d_bias, &b->list.d_sinks};
  smx_dtype single = p->dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32;
  b->list.size = sizeof b->list;
  for (int k = 0; k < GRADIENTS; k++) {
    const view *of = &c->views[operand_of[k]];
    if (!(m.wanted >> k & 1) || !of->block) continue;
    view_make(&b->gradients[k], k < 3 ? p->dtype : single, of->tensor.ndim, of->shape,
              m.strides ? m.strides + 107 + 2 * (uint64_t)k : 0, 0);
    *list[k] = &b->gradients[k].tensor;
  }
}

static inline void backward_free(backward *b) {
  call_free(&b->forward);
  view_free(&b->d_out);
  for (int k = 0; k < GRADIENTS; k++) view_free(&b->gradients[k]);
}

static inline void backward_describe(const backward *b, const char *how) {
  char text[160];
  int32_t threads = 0;
  smx_get_num_threads(&threads);
  snprintf(text, sizeof text, "%s, gradient, %d threads, strides %" PRIu64 ", wanted %d", how,
           threads, b->manner.strides, b->manner.wanted);
  call_describe(&b->forward, text);
}

static inline smx_status backward_with(backward *b, const smx_attention_options *options) {
  const view *v = b->forward.views;
  return smx_attention_vjp(&b->d_out.tensor, &v[QUERY].tensor, &v[KEY].tensor, &v[VALUE].tensor,
                           &v[OUT].tensor, &v[LSE].tensor, &b->list, options);
}

static inline smx_status backward_workspace(backward *b, size_t *size) {
  const view *v = b->forward.views;
  return smx_attention_vjp_workspace_size(&b->d_out.tensor, &v[QUERY].tensor, &v[KEY].tensor,
                                          &v[VALUE].tensor, &v[OUT].tensor, &v[LSE].tensor,
                                          &b->list, &b->options, size);
}

static inline smx_status backward_run(backward *b) {
  smx_attention_options options = b->options;
  if (!b->manner.brings_workspace) return backward_with(b, &options);
  smx_status status = backward_workspace(b, &options.workspace_size);
  if (status != SMX_OK) return status;
  options.workspace = aligned_alloc(64, (options.workspace_size + 127) / 64 * 64);
  if (!options.workspace) abort();
  memset(options.workspace, CANARY, options.workspace_size);
  status = backward_with(b, &options);
  free(options.workspace);
  return status;
}

/* A gradient in the problem's order; its number of elements, 0 where it was not wanted. */
static inline int64_t backward_read(const backward *b, int k, void *to) {
  if (!b->gradients[k].block) return 0;
  return read_as(&b->forward, operand_of[k], &b->gradients[k], to);
}

#endif
