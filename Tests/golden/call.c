/* Calls of the library: by tensors, by plain pointers, and row by row. */
#include <stdlib.h>
#include <string.h>

#include "golden.h"

void place_operands(operands *o, const inputs *in, const array *out, const layout *how,
                    int in_place) {
  const int *reduced = in->from->reduced;
  memset(o, 0, sizeof *o);
  place(&o->x, &in->x, how, reduced);
  if (in_place) {
    o->out = o->x;
    o->out.tensor.shape = o->out.shape;
    o->out.tensor.strides = o->out.strides;
  } else {
    place(&o->out, out, how, reduced);
  }
  if (in->mask.data) place(&o->mask, &in->mask, how, reduced);
  if (in->bias.data) place(&o->bias, &in->bias, how, reduced);
  if (in->weights.data) place(&o->weights, &in->weights, how, reduced);
  if (in->temperature.data) place(&o->temperature, &in->temperature, how, reduced);
}

void free_operands(operands *o) {
  if (o->out.memory != o->x.memory) free(o->out.memory);
  free(o->x.memory);
  free(o->mask.memory);
  free(o->bias.memory);
  free(o->weights.memory);
  free(o->temperature.memory);
}

static const smx_tensor *if_given(const placed *p) { return p->memory ? &p->tensor : NULL; }

smx_status call_tensor(const inputs *in, operands *o, const layout *how,
                       const smx_mask *structure) {
  const golden_case *c = in->from;
  int32_t axes[MAX_RANK], count = 0;
  for (int i = 0; i < c->rank; i++) {
    if (c->reduced[i]) {
      axes[count] = how && how->reduced_first ? count : i;
      count++;
    }
  }
  if (c->op == LOGSUMEXP) {
    smx_logsumexp_options options = {.size = sizeof options, .axes = axes, .axis_count = count};
    options.mask = if_given(&o->mask);
    options.bias = if_given(&o->bias);
    options.weights = if_given(&o->weights);
    options.structure = structure;
    return smx_logsumexp(&o->x.tensor, &o->out.tensor, &options);
  }
  smx_softmax_options options = {.size = sizeof options, .axes = axes, .axis_count = count};
  options.mask = if_given(&o->mask);
  options.bias = if_given(&o->bias);
  options.temperature = if_given(&o->temperature);
  options.structure = structure;
  return (c->op == SOFTMAX ? smx_softmax : smx_log_softmax)(&o->x.tensor, &o->out.tensor, &options);
}

/* -- typed calls ------------------------------------------------------------------------------- */

int is_typed(const inputs *in) {
  const golden_case *c = in->from;
  int reduced = 0;
  for (int i = 0; i < c->rank; i++) reduced += c->reduced[i];
  return reduced == 1 && c->reduced[c->rank - 1] && !in->mask.data && !in->bias.data &&
         !in->weights.data && !in->temperature.data && !in->conditions;
}

smx_status call_typed(const inputs *in, operands *o) {
  int64_t cols = in->x.shape[in->x.rank - 1], rows = in->x.count / cols;
  const void *x = o->x.tensor.data;
  void *out = o->out.tensor.data;
#define ONE(dtype, name)                                                              \
  case dtype:                                                                         \
    return in->from->op == SOFTMAX       ? smx_softmax_##name(x, out, rows, cols)     \
           : in->from->op == LOG_SOFTMAX ? smx_log_softmax_##name(x, out, rows, cols) \
                                         : smx_logsumexp_##name(x, out, rows, cols)
  switch (in->from->dtype) {
    ONE(SMX_FLOAT16, f16);
    ONE(SMX_BFLOAT16, bf16);
    ONE(SMX_FLOAT32, f32);
    default: ONE(SMX_FLOAT64, f64);
  }
#undef ONE
}

/* -- row by row -------------------------------------------------------------------------------- */

/* Narrows every kept axis to one index. */
static placed one_row(const placed *from, const golden_case *c, const int64_t *index) {
  placed p = *from;
  if (!p.memory) return p;
  p.tensor.shape = p.shape;
  p.tensor.strides = p.strides;
  for (int i = 0; i < c->rank; i++) {
    if (c->reduced[i]) continue;
    if (p.shape[i] > 1) p.tensor.data = (char *)p.tensor.data + index[i] * p.strides[i];
    p.shape[i] = 1;
  }
  return p;
}

static int32_t entry(const condition *k, int slot, const smx_tensor *t, const int64_t *index) {
  return k->data[slot][t->ndim ? index[0] : 0];
}

/* The same conditions as one query of one batch entry sees them: query number 0 of 1. */
static void narrow(const inputs *in, const int64_t *index, condition *to, int64_t numbers[][4],
                   int32_t *id) {
  const golden_case *c = in->from;
  int64_t queries = c->shape[c->rank - 2], keys = c->shape[c->rank - 1];
  int64_t query = index[c->rank - 2];
  static const int64_t stride = sizeof(int32_t);
  static const int64_t length = 1;
  for (int i = 0; i < in->conditions; i++) {
    const condition *k = &in->condition[i];
    condition *n = &to[i];
    *n = *k;
    n->mask.also = i + 1 < in->conditions ? &to[i + 1].mask : NULL;
    numbers[i][0] =
        query + (k->mask.query_offset ? entry(k, 0, &k->offset, index) : keys - queries);
    n->offset = (smx_tensor){&numbers[i][0], SMX_INT64, 0, NULL, NULL};
    if (k->mask.causal || k->mask.window) n->mask.query_offset = &n->offset;
    if (k->mask.key_lengths) {
      numbers[i][1] = entry(k, 1, &k->lengths, index);
      n->lengths = (smx_tensor){&numbers[i][1], SMX_INT64, 0, NULL, NULL};
      n->mask.key_lengths = &n->lengths;
    }
    if (k->mask.query_lengths) {
      numbers[i][2] = query < entry(k, 2, &k->query_lengths, index);
      n->query_lengths = (smx_tensor){&numbers[i][2], SMX_INT64, 0, NULL, NULL};
      n->mask.query_lengths = &n->query_lengths;
    }
    if (k->mask.query_segments) {
      *id = k->data[3][query];
      n->query_ids = (smx_tensor){id, SMX_INT32, 1, &length, &stride};
      n->mask.query_segments = &n->query_ids;
      n->mask.key_segments = &k->key_ids;
    }
  }
}

smx_status call_alone(inputs *in, operands *o, int64_t limit) {
  const golden_case *c = in->from;
  int64_t rows = 1;
  for (int i = 0; i < c->rank; i++)
    if (!c->reduced[i]) rows *= in->x.shape[i];
  for (int64_t row = 0; row < rows && row < limit; row++) {
    int64_t index[MAX_RANK] = {0}, rest = row;
    for (int i = c->rank - 1; i >= 0; i--) {
      if (c->reduced[i]) continue;
      index[i] = rest % in->x.shape[i];
      rest /= in->x.shape[i];
    }
    /* Copies hold their own shapes, so the pointers to them are set once each is in place. */
    operands one;
    const placed *from[] = {&o->x, &o->out, &o->mask, &o->bias, &o->weights, &o->temperature};
    placed *to[] = {&one.x, &one.out, &one.mask, &one.bias, &one.weights, &one.temperature};
    for (int i = 0; i < 6; i++) {
      *to[i] = one_row(from[i], c, index);
      to[i]->tensor.shape = to[i]->shape;
      to[i]->tensor.strides = to[i]->strides;
    }
    condition conditions[MAX_CONDITIONS];
    int64_t numbers[MAX_CONDITIONS][4];
    int32_t id;
    if (in->conditions) narrow(in, index, conditions, numbers, &id);
    smx_status status = call_tensor(in, &one, NULL, in->conditions ? &conditions[0].mask : NULL);
    if (status != SMX_OK) return status;
  }
  return SMX_OK;
}
