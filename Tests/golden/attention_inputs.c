/* From a case of attention to its operands, and to those of other calls with the same results.
 * README.md is the specification; Python and Swift have the same few lines. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attention.h"

smx_dtype single_of(smx_dtype dtype) { return dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32; }

static array tensor_of(const attention_inputs *in, int64_t heads, int64_t rows, int64_t cols) {
  int64_t shape[4] = {in->over.x.shape[0], heads, rows, cols};
  return new_array(in->from.scores.dtype, 4, shape);
}

/* Query, key or value; `letter` is its own in the names of changes. `base` is an exponent, or one
 * behind `ties:`. */
static void fill(array *a, const golden_case *c, int which, const char *base, char letter) {
  int is_ties = strncmp(base, "ties:", 5) == 0, e = atoi(is_ties ? base + 5 : base);
  int64_t cols = a->shape[3];
  char nan[] = {'+', 'n', 'a', 'n', letter, 0}, inf[] = {'+', 'i', 'n', 'f', letter, 0};
  int has_nan = strstr(c->fill, nan) != NULL, has_inf = strstr(c->fill, inf) != NULL;
  /* Were it in many keys, hardly a query would be without. */
  int64_t every = which == OF_X ? 5 : 40, first = which == OF_X ? 1 : 21;
  for (int64_t i = 0; i < a->count; i++) {
    int64_t row = i / cols;
    int is_place = i % cols == (int64_t)(stream(c->seed, OF_PLACE, (uint64_t)row) % (uint64_t)cols);
    uint64_t z = stream(c->seed, which, (uint64_t)i);
    double value = is_ties ? ldexp((double)(z >> 62) - 1, e) : uniform(a->dtype, e, z);
    if (has_nan && row % every == first && is_place) value = NAN;
    if (has_inf && row % every == first + 1 && is_place) value = INFINITY;
    set(a, i, value);
  }
}

void make_attention(attention_inputs *in, const attention_case *c) {
  memset(in, 0, sizeof *in);
  in->from = *c;
  const golden_case *scores = &in->from.scores;
  make_inputs(&in->over, scores);
  int64_t heads = scores->shape[1], queries = scores->shape[2], keys = scores->shape[3];
  in->query = tensor_of(in, heads, queries, c->head_size);
  in->key = tensor_of(in, c->key_heads, keys, c->head_size);
  in->value = tensor_of(in, c->key_heads, keys, c->value_size);
  fill(&in->query, scores, OF_X, scores->fill + 1, 'q');
  fill(&in->key, scores, OF_KEY, scores->fill + 1, 'k');
  fill(&in->value, scores, OF_VALUE, *c->value ? c->value : "1", 'v');
  smx_dtype single = single_of(scores->dtype);
  if (*c->alibi) {
    int is_of_entries = strncmp(c->alibi, "batch:", 6) == 0;
    in->slopes = new_array(single, 1 + is_of_entries, scores->shape + !is_of_entries);
    int own = atoi(is_of_entries ? c->alibi + 6 : c->alibi);
    for (int64_t i = 0; i < in->slopes.count; i++) {
      set(&in->slopes, i,
          fabs(uniform(single, own, stream(c->scores.seed, OF_SLOPES, (uint64_t)i))));
    }
  }
  if (*c->sinks) {
    int is_closing = strcmp(c->sinks, "closed") == 0;
    in->sinks = new_array(single, 1, &heads);
    for (int64_t i = 0; i < heads; i++) {
      uint64_t z = stream(c->scores.seed, OF_SINKS, (uint64_t)i);
      set(&in->sinks, i,
          is_closing && i % 2 == 0 ? -INFINITY
                                   : uniform(single, is_closing ? 1 : atoi(c->sinks), z));
    }
  }
}

void free_attention(attention_inputs *in) {
  free_inputs(&in->over);
  free(in->query.data);
  free(in->key.data);
  free(in->value.data);
  free(in->slopes.data);
  free(in->sinks.data);
}

/* -- other inputs with the same results -------------------------------------------------------- */

/* The elements of `a` from `from` on, `filling` beyond its end; with `broadcasts` an axis that is 1
 * long stays so, but for the last. */
static array cut(const array *a, const int64_t *from, const int64_t *shape, double filling,
                 int broadcasts) {
  int64_t own[4], first[4];
  for (int i = 0; i < 4; i++) {
    int is_one = broadcasts && i < 3 && a->shape[i] == 1;
    own[i] = is_one ? 1 : shape[i];
    first[i] = is_one ? 0 : from[i];
  }
  array b = new_array(a->dtype, 4, own);
  int64_t cols = own[3], given = cols < a->shape[3] ? cols : a->shape[3];
  int64_t size = item_size(a->dtype);
  for (int64_t row = 0; row < own[0] * own[1] * own[2]; row++) {
    int64_t rest = row, place = 0, weight = 1;
    int is_within = 1;
    for (int axis = 2; axis >= 0; axis--) {
      int64_t at = first[axis] + rest % own[axis];
      rest /= own[axis];
      is_within = is_within && at < a->shape[axis];
      place += at * weight;
      weight *= a->shape[axis];
    }
    int64_t copied = is_within ? given : 0;
    memcpy(b.data + row * cols * size, a->data + (is_within ? place * a->shape[3] * size : 0),
           (size_t)(copied * size));
    for (int64_t c = copied; c < cols; c++) set(&b, row * cols + c, filling);
  }
  return b;
}

static condition *new_condition(inputs *in) {
  condition *k = &in->condition[in->conditions++];
  k->mask.size = sizeof k->mask;
  return k;
}

/* One number for each entry of the part: from the whole call's, more `extra`, within 0..most. */
static smx_tensor *numbers_of(condition *to, int slot, smx_tensor *t, const condition *from,
                              const smx_tensor *given, const part *p, int64_t otherwise,
                              int64_t extra, int64_t most) {
  integers(to, slot, t, 1, p->entries);
  for (int64_t i = 0; i < p->entries; i++) {
    int64_t n = (given ? number_of(from, slot, given, p->entry + i) : otherwise) + extra;
    to->data[slot][i] = (int32_t)(n < 0 && most >= 0 ? 0 : most >= 0 && n > most ? most : n);
  }
  return t;
}

static smx_tensor *ids_of(condition *to, int slot, smx_tensor *t, const condition *from,
                          int64_t first, int64_t count, int64_t given) {
  integers(to, slot, t, 1, count);
  for (int64_t i = 0; i < count; i++) {
    to->data[slot][i] = from->data[slot][first + i < given ? first + i : given - 1];
  }
  return t;
}

static void make_conditions(attention_inputs *to, const attention_inputs *from, const part *p) {
  const int64_t *whole = from->over.x.shape;
  int64_t queries = whole[2], keys = whole[3];
  int has_offset = 0;
  for (int i = 0; i < from->over.conditions; i++) {
    const condition *k = &from->over.condition[i];
    condition *n = new_condition(&to->over);
    n->mask.causal = k->mask.causal;
    n->mask.window = k->mask.window;
    n->mask.window_left = k->mask.window_left;
    n->mask.window_right = k->mask.window_right;
    if (k->mask.causal || k->mask.window || k->mask.query_offset) {
      n->mask.query_offset =
          numbers_of(n, 0, &n->offset, k, k->mask.query_offset, p, keys - queries, p->query, -1);
      has_offset = 1;
    }
    if (k->mask.key_lengths) {
      n->mask.key_lengths = numbers_of(n, 1, &n->lengths, k, k->mask.key_lengths, p, 0, 0, p->keys);
    }
    if (k->mask.query_lengths) {
      n->mask.query_lengths = numbers_of(n, 2, &n->query_lengths, k, k->mask.query_lengths, p, 0,
                                         -p->query, p->queries);
    }
    if (k->mask.query_segments) {
      n->mask.query_segments = ids_of(n, 3, &n->query_ids, k, p->query, p->queries, queries);
      n->mask.key_segments = ids_of(n, 4, &n->key_ids, k, 0, p->keys, keys);
    }
  }
  if (from->slopes.data && !has_offset) {
    condition *n = new_condition(&to->over);
    n->mask.query_offset =
        numbers_of(n, 0, &n->offset, NULL, NULL, p, keys - queries, p->query, -1);
  }
  if (p->keys > keys && !p->by_mask) {
    condition *n = new_condition(&to->over);
    n->mask.key_lengths = numbers_of(n, 1, &n->lengths, NULL, NULL, p, keys, 0, -1);
  }
}

void make_part(attention_inputs *to, const attention_inputs *from, const part *p) {
  const int64_t *whole = from->over.x.shape;
  int64_t heads = whole[1], shape[4] = {p->entries, heads, p->queries, p->keys};
  const int64_t start[4] = {p->entry, 0, p->query, 0};
  memset(to, 0, sizeof *to);
  to->from = from->from;
  golden_case *scores = &to->from.scores;
  memcpy(scores->shape, shape, sizeof shape);
  to->over.from = scores;
  to->over.x = (array){scores->dtype, 4, {0}, 1, NULL};
  for (int i = 0; i < 4; i++) to->over.x.count *= to->over.x.shape[i] = shape[i];
  if (from->over.mask.data) {
    to->over.mask = cut(&from->over.mask, start, shape, 0, 1);
  } else if (p->by_mask) {
    int64_t row[4] = {1, 1, 1, p->keys};
    to->over.mask = new_array(SMX_BOOL, 4, row);
    memset(to->over.mask.data, 1, (size_t)(p->keys < whole[3] ? p->keys : whole[3]));
  }
  if (from->over.bias.data) to->over.bias = cut(&from->over.bias, start, shape, NAN, 1);
  make_conditions(to, from, p);
  const int64_t entry[4] = {p->entry, 0, 0, 0};
  int64_t query[4] = {p->entries, heads, p->queries, from->query.shape[3]};
  int64_t key[4] = {p->entries, from->key.shape[1], p->keys, from->key.shape[3]};
  int64_t value[4] = {p->entries, from->value.shape[1], p->keys, from->value.shape[3]};
  to->query = cut(&from->query, start, query, 0, 0);
  to->key = cut(&from->key, entry, key, NAN, 0);
  to->value = cut(&from->value, entry, value, NAN, 0);
  if (from->slopes.data) {
    int64_t own[2] = {p->entries, heads};
    int is_of_entries = from->slopes.rank == 2;
    to->slopes = new_array(from->slopes.dtype, 1 + is_of_entries, own + !is_of_entries);
    memcpy(to->slopes.data,
           from->slopes.data + is_of_entries * p->entry * heads * item_size(to->slopes.dtype),
           (size_t)bytes_of(&to->slopes));
  }
  if (from->sinks.data) {
    to->sinks = new_array(from->sinks.dtype, 1, &heads);
    memcpy(to->sinks.data, from->sinks.data, (size_t)bytes_of(&to->sinks));
  }
}

void poison(attention_inputs *in) {
  const int64_t *shape = in->over.x.shape;
  int64_t group = shape[1] / in->key.shape[1], keys = shape[3];
  array *of[3] = {&in->query, &in->key, &in->value};
  unsigned char *is_used[3];
  for (int k = 0; k < 3; k++) {
    int64_t rows = of[k]->count / of[k]->shape[3];
    is_used[k] = allocate((size_t)rows);
    memset(is_used[k], 0, (size_t)rows);
  }
  int is_full = in->over.bias.data && in->over.bias.count == in->over.x.count;
  for (int64_t i = 0; i < in->over.x.count; i++) {
    int64_t row = i / keys, head = row / shape[2];
    if (is_visible(&in->over, i)) {
      is_used[0][row] = is_used[1][head / group * keys + i % keys] = 1;
    } else if (is_full) {
      set(&in->over.bias, i, NAN);
    }
  }
  int64_t rows = in->key.count / in->key.shape[3];
  memcpy(is_used[2], is_used[1], (size_t)rows);
  for (int k = 0; k < 3; k++) {
    for (int64_t i = 0; i < of[k]->count; i++) {
      if (!is_used[k][i / of[k]->shape[3]]) set(of[k], i, NAN);
    }
    free(is_used[k]);
  }
}

static void repeat(array *a, int64_t group) {
  int64_t shape[4], bytes = bytes_of(a) / (a->shape[0] * a->shape[1]);
  memcpy(shape, a->shape, sizeof shape);
  shape[1] *= group;
  array b = new_array(a->dtype, 4, shape);
  for (int64_t i = 0; i < shape[0] * shape[1]; i++) {
    memcpy(b.data + i * bytes, a->data + i / group * bytes, (size_t)bytes);
  }
  free(a->data);
  *a = b;
}

void repeat_heads(attention_inputs *in) {
  int64_t group = in->over.x.shape[1] / in->key.shape[1];
  repeat(&in->key, group);
  repeat(&in->value, group);
}
