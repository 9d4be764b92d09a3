/* Calls of smx_attention: operands in their places, keys in one piece, in two, or in blocks. */
#include <stdlib.h>
#include <string.h>

#include "attention.h"
#include "mode.h"

const char *const result_names[RESULTS] = {"out", "lse", "weights"};

results new_results(const attention_inputs *in) {
  smx_dtype dtype = in->from.scores.dtype;
  int64_t shape[4];
  results r;
  memcpy(shape, in->over.x.shape, sizeof shape);
  r.of[WEIGHTS] = new_array(dtype, 4, shape);
  r.of[LSE] = new_array(single_of(dtype), 3, shape);
  shape[3] = in->value.shape[3];
  r.of[OUT] = new_array(dtype, 4, shape);
  return r;
}

void free_results(results *r) {
  for (int k = 0; k < RESULTS; k++) free(r->of[k].data);
}

/* Rows first..<first + count of each head. */
static array rows_of(const array *a, int64_t first, int64_t count) {
  int64_t shape[4] = {a->shape[0], a->shape[1], count, a->shape[3]};
  array b = new_array(a->dtype, 4, shape);
  int64_t row = a->shape[3] * item_size(a->dtype);
  for (int64_t head = 0; head < shape[0] * shape[1]; head++) {
    memcpy(b.data + head * count * row, a->data + (head * a->shape[2] + first) * row,
           (size_t)(count * row));
  }
  return b;
}

/* Heads and rows exchanged. */
static array turned(const array *a) {
  int64_t shape[4] = {a->shape[0], a->shape[2], a->shape[1], a->shape[3]};
  array b = new_array(a->dtype, 4, shape);
  int64_t row = a->shape[3] * item_size(a->dtype);
  for (int64_t i = 0; i < shape[0] * shape[1] * shape[2]; i++) {
    int64_t entry = i / (shape[1] * shape[2]), head = i % shape[2], at = i / shape[2] % shape[1];
    memcpy(b.data + i * row, a->data + ((entry * shape[2] + head) * shape[1] + at) * row,
           (size_t)row);
  }
  return b;
}

/* -- blocks ------------------------------------------------------------------------------------ */

/* Blocks that no key is in; they come first. */
enum { UNUSED = 3 };

static int64_t block_of(const array *a, int64_t size, int64_t entry, int64_t number) {
  int64_t count = a->shape[2] / size;
  return UNUSED + (a->shape[0] - 1 - entry) * count + (count - 1 - number);
}

/* A pool of blocks, the last one of each entry first. */
static array pool_of(const array *a, int64_t size) {
  int64_t count = a->shape[2] / size, heads = a->shape[1];
  int64_t shape[4] = {a->shape[0] * count + UNUSED, heads, size, a->shape[3]};
  array b = new_array(a->dtype, 4, shape);
  memset(b.data, 0xff, (size_t)bytes_of(&b)); /* NaN */
  int64_t bytes = size * a->shape[3] * item_size(a->dtype);
  for (int64_t i = 0; i < a->shape[0] * heads * count; i++) {
    int64_t entry = i / (heads * count), head = i / count % heads, number = i % count;
    memcpy(b.data + (block_of(a, size, entry, number) * heads + head) * bytes, a->data + i * bytes,
           (size_t)bytes);
  }
  return b;
}

/* Where the blocks of each entry are; -1 beyond its keys. */
static array table_of(const attention_inputs *in, int64_t size) {
  const array *a = &in->key;
  int64_t shape[2] = {a->shape[0], a->shape[2] / size};
  array table = new_array(SMX_INT32, 2, shape);
  for (int64_t i = 0; i < table.count; i++) {
    int64_t entry = i / shape[1], number = i % shape[1];
    int32_t block = (int32_t)block_of(a, size, entry, number);
    for (int k = 0; k < in->over.conditions; k++) {
      const condition *c = &in->over.condition[k];
      if (c->mask.key_lengths && number_of(c, 1, &c->lengths, entry) <= number * size) block = -1;
    }
    memcpy(table.data + i * 4, &block, 4);
  }
  return table;
}

/* -- a call ------------------------------------------------------------------------------------ */

enum { QUERY, KEY, VALUE, PAST_KEY, PAST_VALUE, MASK, BIAS, SLOPES, SINKS, TABLE, OUTPUT, OTHERS };

typedef struct {
  placed of[OTHERS + RESULTS]; /* the outputs from OUTPUT on */
} places;

static const int none[MAX_RANK];

/* An operand with heads and rows, exchanged if need be; lets go of `a` if it is `own`. */
static void put(placed *p, const array *a, const manner *m, int is_own) {
  array t = m->is_blhd ? turned(a) : *a;
  place(p, &t, &m->in, none);
  if (m->is_blhd) free(t.data);
  if (is_own) free(a->data);
}

static void drop_axis(smx_tensor *t) {
  t->ndim--;
  t->shape++;
  t->strides++;
}

/* The batch axis of everything goes. */
static void drop_batch(attention_inputs *in, places *at) {
  for (int k = 0; k < OTHERS + RESULTS; k++) {
    if (!at->of[k].memory || k == SINKS) continue;
    if (k != SLOPES || in->slopes.rank == 2) drop_axis(&at->of[k].tensor);
  }
  for (int k = 0; k < in->over.conditions; k++) {
    condition *c = &in->over.condition[k];
    c->offset.ndim = c->lengths.ndim = c->query_lengths.ndim = 0;
  }
}

static void put_all(const attention_inputs *in, const manner *m, results *r, places *at) {
  memset(at, 0, sizeof *at);
  put(&at->of[QUERY], &in->query, m, 0);
  int64_t keys = in->key.shape[2], past = (keys + 2) / 3;
  if (m->has_past) {
    array of[4] = {rows_of(&in->key, past, keys - past), rows_of(&in->value, past, keys - past),
                   rows_of(&in->key, 0, past), rows_of(&in->value, 0, past)};
    for (int k = 0; k < 4; k++) put(&at->of[KEY + k], &of[k], m, 1);
  } else if (m->block) {
    array of[2] = {pool_of(&in->key, m->block), pool_of(&in->value, m->block)};
    for (int k = 0; k < 2; k++) put(&at->of[KEY + k], &of[k], m, 1);
    array table = table_of(in, m->block);
    place(&at->of[TABLE], &table, &m->in, none);
    free(table.data);
  } else {
    put(&at->of[KEY], &in->key, m, 0);
    put(&at->of[VALUE], &in->value, m, 0);
  }
  const array *others[4] = {&in->over.mask, &in->over.bias, &in->slopes, &in->sinks};
  for (int k = 0; k < 4; k++) {
    if (others[k]->data) place(&at->of[MASK + k], others[k], &m->in, none);
  }
  for (int k = 0; k < RESULTS; k++) {
    array t = k == OUT && m->is_blhd ? turned(&r->of[k]) : r->of[k];
    place(&at->of[OUTPUT + k], &t, &m->out, none);
    if (t.data != r->of[k].data) free(t.data);
  }
}

static void take_results(const places *at, const manner *m, results *r) {
  for (int k = 0; k < RESULTS; k++) {
    if (k == OUT && m->is_blhd) {
      array t = turned(&r->of[k]);
      collect(&at->of[OUTPUT + k], &t, &m->out, none);
      array back = turned(&t);
      memcpy(r->of[k].data, back.data, (size_t)bytes_of(&back));
      free(t.data);
      free(back.data);
    } else {
      collect(&at->of[OUTPUT + k], &r->of[k], &m->out, none);
    }
  }
}

static const smx_tensor *given(const places *at, int k) {
  return at->of[k].memory ? &at->of[k].tensor : NULL;
}

static smx_status call_tensors(attention_inputs *in, const manner *m, const places *at) {
  smx_attention_options options = {.size = sizeof options};
  options.layout = m->is_blhd ? SMX_BLHD : SMX_BHLD;
  options.has_scale = *in->from.scale != 0;
  options.scale = strtod(in->from.scale, NULL);
  options.softcap = strtod(in->from.softcap, NULL);
  options.mask = given(at, MASK);
  options.bias = given(at, BIAS);
  options.structure = structure_of(&in->over);
  options.alibi_slopes = given(at, SLOPES);
  options.sinks = given(at, SINKS);
  options.past_key = given(at, PAST_KEY);
  options.past_value = given(at, PAST_VALUE);
  options.block_table = given(at, TABLE);
  if (!m->only_out) {
    options.lse = given(at, OUTPUT + LSE);
    options.weights = given(at, OUTPUT + WEIGHTS);
  }
  const smx_tensor *query = given(at, QUERY), *key = given(at, KEY), *value = given(at, VALUE);
  const smx_tensor *out = given(at, OUTPUT + OUT);
  if (!m->has_workspace) return smx_attention(query, key, value, out, &options);
  size_t size;
  smx_status status = smx_attention_workspace_size(query, key, value, out, &options, &size);
  if (status != SMX_OK) return status;
  options.workspace = aligned_alloc(64, (size + 127) / 64 * 64);
  options.workspace_size = size;
  if (!options.workspace) return SMX_ERROR_MEMORY;
  memset(options.workspace, 0xff, size);
  status = smx_attention(query, key, value, out, &options);
  free(options.workspace);
  return status;
}

int is_typed_attention(const attention_inputs *in) {
  const attention_case *c = &in->from;
  const char *structure = c->scores.structure;
  return c->scores.dtype == SMX_FLOAT32 && (!*structure || strcmp(structure, "causal") == 0) &&
         !in->over.mask.data && !in->over.bias.data && !in->slopes.data && !in->sinks.data &&
         !*c->scale && !*c->softcap;
}

static smx_status call_typed_attention(const attention_inputs *in, const places *at) {
  const int64_t *scores = in->over.x.shape;
  return smx_attention_f32(at->of[QUERY].tensor.data, at->of[KEY].tensor.data,
                           at->of[VALUE].tensor.data, at->of[OUTPUT].tensor.data, scores[0],
                           scores[1], in->key.shape[1], scores[2], scores[3], in->key.shape[3],
                           in->value.shape[3], in->over.conditions > 0);
}

smx_status call_attention(attention_inputs *in, const manner *m, results *r) {
  places at;
  put_all(in, m, r, &at);
  if (m->has_no_batch) drop_batch(in, &at);
  if (m->threads) smx_set_num_threads(m->threads);
  uint64_t before = enter_odd_mode(m->mode);
  smx_status status = m->is_typed ? call_typed_attention(in, &at) : call_tensors(in, m, &at);
  if (leave_odd_mode(before, m->mode)) status = -1;
  take_results(&at, m, r);
  for (int k = 0; k < OTHERS + RESULTS; k++) free(at.of[k].memory);
  return status;
}
