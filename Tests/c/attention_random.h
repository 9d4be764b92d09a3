/* Random problems of attention: any shapes, dtype and options, all from one seed. */
#ifndef ATTENTION_RANDOM_H
#define ATTENTION_RANDOM_H

#include "attention.h"

/* What a seed may draw; 0 for all of it. */
enum { WITHOUT_SPECIALS = 1, FOUR_AXES = 2 };

/* Around the widths of tiles (16 to 48 queries) and of blocks of keys (64), or small. */
static inline int64_t random_length(uint64_t *r, int64_t longest) {
  static const int64_t edges[] = {1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 127, 128, 130};
  int64_t n = random_below(r, 4) ? 1 + random_below(r, 20) : edges[random_below(r, 16)];
  return n < longest ? n : longest;
}

/* A grid whose tensor has the last `rank` axes of the scores, or fewer, some of them 1 long. */
static inline void random_broadcast(grid *g, const problem *p, uint64_t *r) {
  int64_t s[] = {p->batch, p->heads, p->queries, p->keys};
  int rank = random_below(r, 3) ? p->rank : (int)random_below(r, p->rank + 1);
  for (int a = 0; a < AXES; a++) {
    if (a < AXES - rank || random_below(r, 4) == 0) s[a] = 1;
  }
  grid_make(g, rank, s[0], s[1], s[2], s[3]);
}

/* Whole numbers over some of the leading axes of the scores, and over axis `more` unless that is
 * -1.
 */
static inline void random_integers(grid *g, const problem *p, uint64_t *r, int more, int64_t least,
                                   int64_t most) {
  int64_t s[] = {p->batch, p->heads, p->queries, p->keys};
  int leading = (int)random_below(r, p->rank - 1), first = AXES - p->rank;
  for (int a = 0; a < AXES; a++) {
    int isNamed = a == more || (a >= first && a < first + leading);
    if (!isNamed) s[a] = 1;
  }
  grid_make(g, leading + (more >= 0), s[0], s[1], s[2], s[3]);
  for (int64_t n = 0; n < count_of(AXES, s); n++)
    g->numbers[n] = (double)(least + random_below(r, most - least + 1));
}

static inline void random_part(problem *p, int k, uint64_t *r) {
  grid *g = &p->grids[OFFSET + k * PART];
  smx_mask *m = &p->parts[k];
  int64_t keys = p->keys;
  *m = (smx_mask){.size = sizeof *m};
  m->causal = random_below(r, 3) == 0;
  m->window = random_below(r, 3) == 0;
  m->window_left = random_below(r, keys + 2) - 1;
  m->window_right = random_below(r, keys + 2) - 1;
  if (random_below(r, 3) == 0) random_integers(&g[0], p, r, -1, -keys / 2 - 2, keys + 2);
  /* Mostly long, so that something is left to see. */
  if (random_below(r, 3) == 0) random_integers(&g[1], p, r, -1, random_below(r, keys + 1), keys);
  if (random_below(r, 4) == 0) random_integers(&g[2], p, r, -1, 0, p->queries);
  if (random_below(r, 4) == 0) {
    random_integers(&g[3], p, r, ROWS, 0, 2);
    random_integers(&g[4], p, r, COLUMNS, 0, 2);
  }
}

/* `special` of the numbers in a thousand are NaN or infinite. */
static inline void random_numbers(grid *g, uint64_t *r, double spread, int special, int leastKind) {
  static const double kinds[] = {INFINITY, -INFINITY, -NAN, -INFINITY};
  for (int64_t n = 0; n < count_of(AXES, g->shape); n++) {
    int isSpecial = special && random_below(r, 1000) < special;
    g->numbers[n] = isSpecial ? kinds[leastKind + random_below(r, leastKind == 3 ? 1 : 3)]
                              : random_between(r, -spread, spread);
  }
}

/* A mask by large numbers in place of -inf, as many models have it. */
static inline void hide_by_size(grid *bias, smx_dtype dtype, uint64_t *r) {
  static const double sizes[] = {-1e4, -1e9, -1e10, -1e30, -3.4028234663852886e38};
  double size = sizes[dtype == SMX_FLOAT16 ? 0 : random_below(r, 5)];
  for (int64_t n = 0; n < count_of(AXES, bias->shape); n++)
    bias->numbers[n] = random_below(r, 3) ? size : bias->numbers[n];
}

/* What its tensor will hold: numbers of the dtype. */
static inline void round_numbers(grid *g, smx_dtype dtype) {
  for (int64_t n = 0; n < count_of(AXES, g->shape); n++) {
    unsigned char bytes[8];
    store_as(dtype, bytes, g->numbers[n]);
    g->numbers[n] = load_as(dtype, bytes);
  }
}

static inline void random_shape(problem *p, uint64_t *r, double most, int64_t longest) {
  p->rank = 2 + (int)random_below(r, 3);
  p->batch = p->rank == 4 ? 1 + random_below(r, 3) : 1;
  p->key_heads = p->rank > 2 ? 1 + random_below(r, 3) : 1;
  int64_t group = p->rank > 2 && random_below(r, 2) ? 1 + random_below(r, 8) : 1;
  p->queries = random_length(r, 200);
  p->keys = longest ? 1 + random_below(r, longest) : random_length(r, 200);
  p->size = random_length(r, 100);
  p->value_size = random_below(r, 2) ? p->size : random_length(r, 100);
  int64_t *lengths[] = {&group, &p->queries, &p->size, &p->value_size, &p->key_heads, &p->batch};
  for (int n = 0;; n++) {
    p->heads = group * p->key_heads;
    double work = (double)(p->batch * p->heads * p->queries) * (double)p->keys;
    if (work * (double)(p->size + p->value_size) <= most) break;
    int64_t *length = lengths[n % 6];
    *length = (*length + 1) / 2;
    if (n > 100) p->keys = (p->keys + 1) / 2;
  }
  /* Nothing at all is valid, too. */
  int64_t *empty[] = {&p->batch, &p->queries, &p->keys, &p->size, &p->value_size};
  if (random_below(r, 30) == 0) *empty[random_below(r, p->rank == 4 ? 5 : 4) + (p->rank < 4)] = 0;
}

/* Every option but lse and weights, each now and then. `special` as in problem_make. */
static inline void random_options(problem *p, uint64_t *r, double spread, int special) {
  grid *g = p->grids;
  p->has_scale = random_below(r, 3) == 0;
  p->scale = random_below(r, 8) ? random_between(r, -1, 1) : 0;
  p->softcap = random_below(r, 5) ? 0 : random_between(r, 0.5, 30);
  p->bias_dtype = p->dtype < SMX_FLOAT32 && random_below(r, 2) ? SMX_FLOAT32 : p->dtype;
  if (random_below(r, 3) == 0) {
    random_broadcast(&g[MASK], p, r);
    int64_t hidden = 1 + random_below(r, 9);
    for (int64_t n = 0; n < count_of(AXES, g[MASK].shape); n++)
      g[MASK].numbers[n] = random_below(r, 10) >= hidden;
  }
  if ((special >= 3 && special <= 5) || random_below(r, 4) == 0) {
    random_broadcast(&g[BIAS], p, r);
    random_numbers(&g[BIAS], r, spread,
                   special == 3   ? 300
                   : special == 4 ? 20
                                  : 0,
                   special == 3 ? 3 : 0);
    if (special == 5) hide_by_size(&g[BIAS], p->bias_dtype, r);
  }
  if (random_below(r, 5) == 0) {
    int isOfBatch = p->rank == 4 && random_below(r, 2);
    grid_make(&g[SLOPES], 1 + isOfBatch, isOfBatch ? p->batch : 1, p->heads, 1, 1);
    random_numbers(&g[SLOPES], r, 0.5, 0, 0);
  }
  if (random_below(r, 5) == 0) {
    grid_make(&g[SINKS], 1, 1, p->heads, 1, 1);
    random_numbers(&g[SINKS], r, spread, 50, 3);
  }
  p->part_count = random_below(r, 2) ? 1 + (int)random_below(r, PARTS) : 0;
  for (int k = 0; k < p->part_count; k++) random_part(p, k, r);
  smx_dtype single = p->dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32;
  for (int k = QUERY; k <= SINKS; k++) {
    if (k == MASK || !g[k].numbers) continue;
    round_numbers(&g[k], k >= SLOPES ? single : k == BIAS ? p->bias_dtype : p->dtype);
  }
}

/* The problem of a seed with at most about `most` products, and keys up to `longest` unless 0. */
static inline void problem_make(problem *p, uint64_t seed, double most, int64_t longest,
                                int without) {
  static const double spreads[] = {1, 4, 4, 16, 64, 400};
  uint64_t random = seed * 0x2545f4914f6cdd1du + 7, *r = &random;
  memset(p, 0, sizeof *p);
  p->seed = seed;
  p->dtype = float_dtypes[random_below(r, 4)];
  do random_shape(p, r, most, longest);
  while (without & FOUR_AXES && p->rank < 4);
  grid *g = p->grids;
  /* 1, 2: in queries, keys and values; 3, 4, 5: in the bias. */
  int special = without & WITHOUT_SPECIALS ? 0 : (int)random_below(r, 10);
  int isPlanted = special == 1 || special == 2;
  double spread = spreads[random_below(r, 6)];
  grid_make(&g[QUERY], p->rank, p->batch, p->heads, p->queries, p->size);
  random_numbers(&g[QUERY], r, spread, special == 2 ? 3 : 0, 0);
  for (int k = KEY; k <= VALUE; k++) {
    int64_t batch = random_below(r, 4) ? p->batch : 1;
    grid_make(&g[k], p->rank, batch, p->key_heads, p->keys, k == KEY ? p->size : p->value_size);
    random_numbers(&g[k], r, k == KEY ? 1 : 3, isPlanted ? 8 : 0, 0);
  }
  random_options(p, r, spread, special);
}

/* A problem without options, of random numbers. */
static inline void problem_plain(problem *p, smx_dtype dtype, int64_t batch, int64_t heads,
                                 int64_t key_heads, int64_t queries, int64_t keys, int64_t size,
                                 int64_t value_size) {
  memset(p, 0, sizeof *p);
  p->seed = (uint64_t)(queries * 1000003 + keys * 10007 + size * 101 + value_size);
  p->dtype = p->bias_dtype = dtype;
  p->rank = 4;
  p->batch = batch, p->heads = heads, p->key_heads = key_heads;
  p->queries = queries, p->keys = keys, p->size = size, p->value_size = value_size;
  grid *g = p->grids;
  uint64_t random = p->seed;
  grid_make(&g[QUERY], 4, batch, heads, queries, size);
  grid_make(&g[KEY], 4, batch, key_heads, keys, size);
  grid_make(&g[VALUE], 4, batch, key_heads, keys, value_size);
  for (int k = QUERY; k <= VALUE; k++) {
    random_numbers(&g[k], &random, 2, 0, 0);
    round_numbers(&g[k], dtype);
  }
}

/* Memory for a problem: any layout, past keys or pages. */
static inline choice random_choice(const problem *p, uint64_t seed) {
  uint64_t random = seed * 0x9e3779b97f4a7c15u + 3, *r = &random;
  choice c = {.past = -1};
  c.strides = random_below(r, 4) ? random_bits(r) | 1 : 0;
  c.layout = random_below(r, 2) ? SMX_BLHD : SMX_BHLD;
  c.lse = (int)random_below(r, 2);
  c.weights = (int)random_below(r, 2);
  c.brings_workspace = (int)random_below(r, 2);
  int kind = (int)random_below(r, 4);
  if (kind == 0) c.past = random_below(r, p->keys + 1);
  if (kind == 1 && p->rank == 4 && p->keys > 0) {
    c.page = 1 + random_below(r, p->keys < 70 ? p->keys : 70);
    while (p->keys % c.page) c.page--;
  }
  return c;
}

#endif
