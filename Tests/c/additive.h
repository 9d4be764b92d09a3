/* A call of additive attention from random numbers, its operands laid out as view.h says. */
#ifndef ADDITIVE_H
#define ADDITIVE_H

#include "view.h"

enum { QUERY, KEY, VALUE, W_QUERY, W_KEY, VECTOR, MASK, BIAS, OUT, LSE, WEIGHTS, VIEWS };
static const char *const names[VIEWS] = {"query", "key",  "value", "w_query", "w_key",  "v",
                                         "mask",  "bias", "out",   "lse",     "weights"};

/* Sizes, and which of the parameters have a head axis, bit by bit from w_query on. */
typedef struct sizes {
  int64_t batch, heads, key_heads, queries, keys, query_size, key_size, value_size, width;
  int per_head, causal;
} sizes;

typedef struct call {
  view views[VIEWS];
  smx_mask structure;
  smx_additive_attention_options options;
} call;

/* The same numbers for every layout. Mask and bias broadcast over the batch. */
static inline void call_make(call *c, const sizes *s, smx_dtype dtype, uint64_t layout,
                             uint64_t seed) {
  int64_t shapes[VIEWS][4] = {
      {s->batch, s->heads, s->queries, s->query_size},
      {s->batch, s->key_heads, s->keys, s->key_size},
      {s->batch, s->key_heads, s->keys, s->value_size},
      {s->heads, s->width, s->query_size},
      {s->key_heads, s->width, s->key_size},
      {s->heads, s->width},
      {s->heads, s->queries, s->keys},
      {s->queries, s->keys},
      {s->batch, s->heads, s->queries, s->value_size},
      {s->batch, s->heads, s->queries},
      {s->batch, s->heads, s->queries, s->keys},
  };
  static const int ranks[VIEWS] = {4, 4, 4, 3, 3, 2, 3, 2, 4, 3, 4};
  smx_dtype single = dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32;
  memset(c, 0, sizeof *c);
  for (int v = 0; v < VIEWS; v++) {
    smx_dtype own = v == MASK ? SMX_BOOL : v == LSE ? single : dtype;
    int is_one = v >= W_QUERY && v <= VECTOR && !(s->per_head >> (v - W_QUERY) & 1);
    uint64_t random = seed * 16 + (uint64_t)v;
    int64_t index[RANK];
    view *to = &c->views[v];
    view_make(to, own, ranks[v] - is_one, shapes[v] + is_one,
              layout ? layout * 16 + (uint64_t)v : 0, 0);
    for (int64_t n = 0; v < OUT && n < to->count; n++) {
      unravel(n, to->tensor.ndim, to->shape, index);
      double number = random_between(&random, -1, 1);
      store_as(own, place_of(&to->tensor, index), v == MASK ? number > -0.5 : number);
    }
  }
  c->structure = (smx_mask){.size = sizeof c->structure, .causal = s->causal};
  c->options = (smx_additive_attention_options){.size = sizeof c->options,
                                                .mask = &c->views[MASK].tensor,
                                                .bias = &c->views[BIAS].tensor,
                                                .structure = &c->structure,
                                                .lse = &c->views[LSE].tensor,
                                                .weights = &c->views[WEIGHTS].tensor};
}

static inline void call_free(call *c) {
  for (int v = 0; v < VIEWS; v++) view_free(&c->views[v]);
}

static inline smx_status call_with(const call *c, const smx_additive_attention_options *options) {
  const view *v = c->views;
  return smx_additive_attention(&v[QUERY].tensor, &v[KEY].tensor, &v[VALUE].tensor,
                                &v[W_QUERY].tensor, &v[W_KEY].tensor, &v[VECTOR].tensor,
                                &v[OUT].tensor, options);
}

static inline smx_status workspace_of(const call *c, size_t *need) {
  const view *v = c->views;
  return smx_additive_attention_workspace_size(
      &v[QUERY].tensor, &v[KEY].tensor, &v[VALUE].tensor, &v[W_QUERY].tensor, &v[W_KEY].tensor,
      &v[VECTOR].tensor, &v[OUT].tensor, &c->options, need);
}

static inline void reset_outputs(call *c) {
  for (int v = OUT; v < VIEWS; v++) memset(c->views[v].block, CANARY, c->views[v].bytes);
}

static inline int outputs_untouched(const call *c) {
  for (int v = OUT; v < VIEWS; v++) {
    for (size_t n = 0; n < c->views[v].bytes; n++) {
      if (c->views[v].block[n] != CANARY) return 0;
    }
  }
  return 1;
}

static inline sizes random_sizes(uint64_t *r) {
  static const int64_t lengths[] = {1, 2, 15, 16, 17, 48, 49, 63, 64, 65, 130, 0};
  sizes s = {.batch = 1 + random_below(r, 2), .key_heads = 1 + random_below(r, 2)};
  s.heads = s.key_heads * (1 + random_below(r, 2));
  s.queries = lengths[random_below(r, 12)], s.keys = lengths[random_below(r, 12)];
  s.query_size = random_below(r, 40), s.key_size = random_below(r, 40);
  s.value_size = random_below(r, 40), s.width = random_below(r, 30);
  s.per_head = (int)random_below(r, 8), s.causal = (int)random_below(r, 2);
  return s;
}

static inline void call_describe(const sizes *s, smx_dtype dtype, uint64_t layout, uint64_t seed) {
  DESCRIBE("%s, batch %" PRId64 ", heads %" PRId64 " of %" PRId64 ", %" PRId64
           " queries of %" PRId64 ", %" PRId64 " keys of %" PRId64 ", values of %" PRId64
           ", width %" PRId64 ", per head %d, causal %d, layout %" PRIu64 ", seed %" PRIu64,
           name_of(dtype), s->batch, s->heads, s->key_heads, s->queries, s->query_size, s->keys,
           s->key_size, s->value_size, s->width, s->per_head, s->causal, layout, seed);
}

#endif
