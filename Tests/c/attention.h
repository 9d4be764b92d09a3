/* An attention call: a problem in memory, with one of all layouts, strides, past keys, pages of
 * keys and workspaces. The same problem can be asked of different memory. */
#ifndef ATTENTION_H
#define ATTENTION_H

#include "attention_problem.h"

typedef struct choice {
  uint64_t strides; /* as in view_make */
  smx_layout layout;
  int64_t past, page;   /* keys that stand in the past tensors; size of a block, 0: no pages */
  int lse, weights;     /* whether they are asked for */
  int brings_workspace; /* whether the caller does */
} choice;

typedef struct call {
  const problem *problem;
  choice choice;
  view views[VIEWS];
  smx_mask masks[PARTS];
  smx_attention_options options;
} call;

/* -- operands in memory ---------------------------------------------------------------------------
 */

/* Axes of operand v's tensor, in its order, out of those of the problem. */
static inline int axes_of(const call *c, int v, int *axes) {
  const problem *p = c->problem;
  int part = v >= OFFSET && v < GRIDS ? (v - OFFSET) % PART + OFFSET : v;
  int first = AXES - p->rank, rank = p->rank, own = v < GRIDS ? p->grids[v].rank : rank;
  for (int a = 0; a < rank; a++) axes[a] = first + a;
  if (part == MASK || part == BIAS) {
    for (int a = 0; a < own; a++) axes[a] = AXES - own + a;
    return own;
  }
  if (part == SLOPES || part == SINKS) {
    axes[0] = own == 2 ? BATCHES : HEADS, axes[1] = HEADS;
    return own;
  }
  if (part >= OFFSET && part <= KEY_IDS) {
    if (part >= QUERY_IDS) axes[own - 1] = part == QUERY_IDS ? ROWS : COLUMNS;
    return own;
  }
  if (v == LSE) return rank - 1;
  if (v != WEIGHTS && c->choice.layout == SMX_BLHD && rank > 2)
    axes[rank - 3] = ROWS, axes[rank - 2] = HEADS;
  return rank;
}

/* Lays numbers out in the axes of operand v. Where `expands` is not 0 some axes 1 long become the
 * scores' with stride 0. */
static inline const smx_tensor *lay_as(const call *c, int v, view *to, const grid *g,
                                       smx_dtype dtype, int expands) {
  const problem *p = c->problem;
  int64_t shape[AXES] = {0}, index[AXES], from[AXES] = {0};
  const int64_t whole[] = {p->batch, p->heads, p->queries, p->keys};
  int axes[AXES], rank = axes_of(c, v, axes);
  uint64_t layout = c->choice.strides ? c->choice.strides + 2 * (uint64_t)v : 0, random = layout;
  for (int a = 0; a < rank; a++) shape[a] = g->shape[axes[a]];
  view_make(to, dtype, rank, shape, layout, 0);
  for (int64_t n = 0; g->numbers && n < to->count; n++) {
    unravel(n, rank, shape, index);
    for (int a = 0; a < rank; a++) from[axes[a]] = index[a];
    store_as(dtype, place_of(&to->tensor, index), *grid_place(g, from));
  }
  for (int a = 0; layout && expands && a < rank; a++) {
    if (shape[a] != 1 || axes[a] >= expands || random_below(&random, 2)) continue;
    to->shape[a] = whole[axes[a]], to->strides[a] = 0;
    to->count = count_of(rank, to->shape);
  }
  return &to->tensor;
}

static inline const smx_tensor *lay(call *c, int v, const grid *g, smx_dtype dtype, int expands) {
  return lay_as(c, v, &c->views[v], g, dtype, expands);
}

/* How many keys a batch entry has at most, by the key lengths of all parts. */
static inline int64_t longest_of(const problem *p, int64_t b) {
  int64_t longest = p->keys;
  for (int k = KEYS; k < GRIDS; k += PART) {
    const grid *g = &p->grids[k];
    double most = 0;
    if (!g->numbers) continue;
    for (int64_t h = 0; h < g->shape[HEADS]; h++) {
      double length = grid_at(g, b, h, 0, 0);
      if (length > most) most = length;
    }
    if (most < (double)longest) longest = (int64_t)most;
  }
  return longest;
}

/* Keys or values in blocks, shuffled, among others that hold `junk`. */
static inline void lay_pages(call *c, int v, uint64_t *r, double junk) {
  const problem *p = c->problem;
  const grid *g = &p->grids[v];
  int64_t page = c->choice.page, count = p->keys / page, spare = 2;
  grid pool, table;
  grid_make(&pool, 4, p->batch * count + spare, p->key_heads, page, g->shape[COLUMNS]);
  grid_make(&table, 2, p->batch, count, 1, 1);
  for (int64_t n = 0; n < count_of(AXES, pool.shape); n++) pool.numbers[n] = junk;
  /* The same order for both: of the seed alone. */
  int64_t blocks = p->batch * count + spare, *order = malloc(sizeof *order * (size_t)blocks);
  if (!order) abort();
  for (int64_t n = 0; n < blocks; n++) {
    int64_t m = random_below(r, n + 1);
    order[n] = order[m], order[m] = n;
  }
  for (int64_t b = 0; b < p->batch; b++) {
    for (int64_t j = 0; j < p->keys; j++) {
      int64_t block = order[b * count + j / page];
      table.numbers[b * count + j / page] = (double)block;
      for (int64_t h = 0; h < p->key_heads; h++) {
        for (int64_t k = 0; k < g->shape[COLUMNS]; k++)
          *grid_place(&pool, (int64_t[]){block, h, j % page, k}) = grid_at(g, b, h, j, k);
      }
    }
  }
  lay(c, v, &pool, p->dtype, 0);
  view *t = &c->views[TABLE];
  if (v == KEY) {
    smx_dtype dtype = c->choice.strides & 2 ? SMX_INT64 : SMX_INT32;
    view_make(t, dtype, 2, table.shape, c->choice.strides, 0);
    for (int64_t n = 0; n < t->count; n++) {
      int64_t index[] = {n / (count ? count : 1), n % (count ? count : 1)};
      int isBeyond = index[1] * page >= longest_of(p, index[0]);
      double entry = !isBeyond ? table.numbers[n] : n % 2 ? INT32_MAX : -7;
      store_as(dtype, place_of(&t->tensor, index), entry);
    }
    c->options.block_table = &t->tensor;
  }
  free(order), free(pool.numbers), free(table.numbers);
}

static inline void lay_keys(call *c, int v, const smx_tensor **past) {
  const problem *p = c->problem;
  uint64_t random = p->seed + 5;
  if (c->choice.page) {
    lay_pages(c, v, &random, v == KEY ? NAN : INFINITY);
    return;
  }
  if (c->choice.past < 0) {
    lay(c, v, &p->grids[v], p->dtype, HEADS);
    return;
  }
  grid before = grid_take(&p->grids[v], ROWS, 0, c->choice.past, 0);
  grid own = grid_take(&p->grids[v], ROWS, c->choice.past, p->keys - c->choice.past, 0);
  *past = lay(c, v == KEY ? PAST_KEY : PAST_VALUE, &before, p->dtype, HEADS);
  lay(c, v, &own, p->dtype, HEADS);
  free(before.numbers), free(own.numbers);
}

static inline const smx_tensor *lay_given(call *c, int v, smx_dtype dtype) {
  const grid *g = &c->problem->grids[v];
  return g->numbers ? lay(c, v, g, dtype, v == MASK || v == BIAS ? AXES : 0) : NULL;
}

/* -- calls ----------------------------------------------------------------------------------------
 */

static inline void call_make(call *c, const problem *p, choice o) {
  smx_dtype single = p->dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32;
  memset(c, 0, sizeof *c);
  c->problem = p;
  c->choice = o;
  smx_attention_options *options = &c->options;
  *options = (smx_attention_options){.size = sizeof *options, .layout = o.layout};
  options->has_scale = p->has_scale, options->scale = p->scale, options->softcap = p->softcap;
  lay_given(c, QUERY, p->dtype);
  lay_keys(c, KEY, &options->past_key);
  lay_keys(c, VALUE, &options->past_value);
  options->mask = lay_given(c, MASK, SMX_BOOL);
  options->bias = lay_given(c, BIAS, p->bias_dtype);
  options->alibi_slopes = lay_given(c, SLOPES, single);
  options->sinks = lay_given(c, SINKS, single);
  for (int k = 0; k < p->part_count; k++) {
    smx_mask *m = &c->masks[k];
    const smx_tensor **places[] = {&m->query_offset, &m->key_lengths, &m->query_lengths,
                                   &m->query_segments, &m->key_segments};
    *m = p->parts[k];
    m->size = sizeof *m;
    m->also = k + 1 < p->part_count ? &c->masks[k + 1] : NULL;
    for (int n = 0; n < PART; n++)
      *places[n] =
          lay_given(c, OFFSET + k * PART + n, (p->seed + (uint64_t)n) % 2 ? SMX_INT32 : SMX_INT64);
    options->structure = &c->masks[0];
  }
  grid out = {NULL, {p->batch, p->heads, p->queries, p->value_size}, p->rank}, all = out;
  all.shape[COLUMNS] = p->keys;
  lay(c, OUT, &out, p->dtype, 0);
  if (o.lse) options->lse = lay(c, LSE, &out, single, 0);
  if (o.weights) options->weights = lay(c, WEIGHTS, &all, p->dtype, 0);
}

static inline void call_describe(const call *c, const char *how) {
  static const char *const names[] = {"query",       "key",           "value",     "mask",
                                      "bias",        "slopes",        "sinks",     "offset",
                                      "key lengths", "query lengths", "query ids", "key ids"};
  const problem *p = c->problem;
  char text[1200];
  size_t n = 0;
  for (int v = 0; v < VIEWS && n < sizeof text; v++) {
    const view *w = &c->views[v];
    int part = v >= GRIDS ? v : v < OFFSET ? v : OFFSET + (v - OFFSET) % PART;
    const char *name = v < GRIDS      ? names[part]
                       : v == TABLE   ? "table"
                       : v == LSE     ? "lse"
                       : v == OUT     ? "out"
                       : v == WEIGHTS ? "weights"
                                      : "past";
    char shape[300];
    if (!w->block || (v >= MASK && v < GRIDS && !p->grids[v].numbers)) continue;
    n += (size_t)snprintf(text + n, sizeof text - n, ", %s %s", name,
                          view_text(w, shape, sizeof shape));
  }
  DESCRIBE("%s, seed %" PRIu64 ": %s, %s%s, scale %g%s, softcap %g, past %" PRId64 ", page %" PRId64
           ", parts %d (%s%s%s%s)%s",
           how, p->seed, name_of(p->dtype), c->choice.layout == SMX_BLHD ? "BLHD" : "BHLD",
           c->choice.brings_workspace ? ", workspace" : "", p->scale,
           p->has_scale ? "" : " (default)", p->softcap, c->choice.past, c->choice.page,
           p->part_count, p->parts[0].causal ? "causal " : "", p->parts[0].window ? "window " : "",
           p->parts[1].causal ? "causal " : "", p->parts[1].window ? "window" : "", text);
}

static inline void call_free(call *c) {
  for (int v = 0; v < VIEWS; v++) view_free(&c->views[v]);
}

static inline smx_status call_with(call *c, const smx_attention_options *options) {
  return smx_attention(&c->views[QUERY].tensor, &c->views[KEY].tensor, &c->views[VALUE].tensor,
                       &c->views[OUT].tensor, options);
}

static inline smx_status workspace_of(call *c, size_t *size) {
  return smx_attention_workspace_size(&c->views[QUERY].tensor, &c->views[KEY].tensor,
                                      &c->views[VALUE].tensor, &c->views[OUT].tensor, &c->options,
                                      size);
}

static inline smx_status call_run(call *c) {
  smx_attention_options options = c->options;
  if (!c->choice.brings_workspace) return call_with(c, &options);
  smx_status status = workspace_of(c, &options.workspace_size);
  if (status != SMX_OK) return status;
  options.workspace = aligned_alloc(64, (options.workspace_size + 127) / 64 * 64);
  if (!options.workspace) abort();
  memset(options.workspace, CANARY, options.workspace_size);
  status = call_with(c, &options);
  free(options.workspace);
  return status;
}

/* Elements of a view with the axes of operand v, in the order of the problem's axes; how many. */
static inline int64_t read_as(const call *c, int v, const view *from, void *to) {
  int axes[AXES], rank = axes_of(c, v, axes);
  int64_t shape[AXES] = {1, 1, 1, 1}, index[AXES], own[AXES];
  size_t size = size_of(from->tensor.dtype);
  for (int a = 0; a < rank; a++) shape[axes[a]] = from->shape[a];
  for (int64_t n = 0; n < from->count; n++) {
    unravel(n, AXES, shape, index);
    for (int a = 0; a < rank; a++) own[a] = index[axes[a]];
    memcpy((unsigned char *)to + n * (int64_t)size, place_of(&from->tensor, own), size);
  }
  return from->count;
}

static inline int64_t call_read(const call *c, int v, void *to) {
  return read_as(c, v, &c->views[v], to);
}

#endif
