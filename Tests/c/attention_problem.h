/* The numbers of an attention call: for each operand an array over four axes, 1 long where the
 * numbers do not change along it, so that any part of the problem can be asked alone. */
#ifndef ATTENTION_PROBLEM_H
#define ATTENTION_PROBLEM_H

#include "view.h"

/* The operands. A part is one smx_mask; its five follow those of the first part. The last six have
 * no numbers of their own: a call makes them (attention.h). */
enum { QUERY, KEY, VALUE, MASK, BIAS, SLOPES, SINKS, OFFSET, KEYS, QUERIES, QUERY_IDS, KEY_IDS };
enum { PARTS = 2, PART = 5, GRIDS = OFFSET + PARTS * PART };
enum { PAST_KEY = GRIDS, PAST_VALUE, TABLE, OUT, LSE, WEIGHTS, VIEWS };
/* Axes of the scores; of key and value ROWS are keys. */
enum { BATCHES, HEADS, ROWS, COLUMNS, AXES };

typedef struct grid {
  double *numbers; /* NULL: there is none */
  int64_t shape[AXES];
  int rank; /* how many axes its tensor has */
} grid;

typedef struct problem {
  uint64_t seed;
  smx_dtype dtype, bias_dtype;
  int rank, part_count, has_scale;
  int64_t batch, heads, key_heads, queries, keys, size, value_size;
  double scale, softcap;
  smx_mask parts[PARTS]; /* causal and window alone count */
  grid grids[GRIDS];
} problem;

/* -- grids ----------------------------------------------------------------------------------------
 */

static inline double *grid_place(const grid *g, const int64_t *index) {
  int64_t place = 0;
  for (int a = 0; a < AXES; a++) place = place * g->shape[a] + (g->shape[a] == 1 ? 0 : index[a]);
  return g->numbers + place;
}

static inline double grid_at(const grid *g, int64_t b, int64_t h, int64_t i, int64_t j) {
  return *grid_place(g, (int64_t[]){b, h, i, j});
}

static inline void grid_make(grid *g, int rank, int64_t b, int64_t h, int64_t i, int64_t j) {
  *g = (grid){NULL, {b, h, i, j}, rank};
  g->numbers = calloc((size_t)(count_of(AXES, g->shape) + 1), sizeof *g->numbers);
  if (!g->numbers) abort();
}

/* `count` places of an axis from `start` on; those before it and beyond its end are `filling`. */
static inline grid grid_take(const grid *from, int axis, int64_t start, int64_t count,
                             double filling) {
  grid to = {.rank = from->rank};
  int64_t index[AXES], s[AXES];
  if (!from->numbers) return to;
  memcpy(s, from->shape, sizeof s);
  s[axis] = count;
  grid_make(&to, from->rank, s[0], s[1], s[2], s[3]);
  for (int64_t n = 0; n < count_of(AXES, s); n++) {
    unravel(n, AXES, s, index);
    index[axis] += start;
    int isThere = index[axis] >= 0 && index[axis] < from->shape[axis];
    to.numbers[n] = isThere ? *grid_place(from, index) : filling;
  }
  return to;
}

/* -- parts of problems ----------------------------------------------------------------------------
 */

static inline void problem_free(problem *p) {
  for (int g = 0; g < GRIDS; g++) free(p->grids[g].numbers), p->grids[g].numbers = NULL;
}

/* Which axis of operand g runs along BATCHES ... COLUMNS of the scores, COLUMNS being keys; -1. */
static inline int axis_along(int g, int axis) {
  if (axis == ROWS && (g == KEY || g == VALUE)) return -1;
  if (axis == COLUMNS) return g == KEY || g == VALUE ? ROWS : g == QUERY ? -1 : COLUMNS;
  return axis;
}

/* Writes the offset that holds into every part, so that it stays when lengths change. ALiBi takes
 * the first that is given: that part comes first. */
static inline void pin_offsets(problem *p) {
  grid *g = p->grids;
  if (p->part_count == 2 && !g[OFFSET].numbers && g[OFFSET + PART].numbers) {
    smx_mask first = p->parts[0];
    p->parts[0] = p->parts[1], p->parts[1] = first;
    for (int k = OFFSET; k < OFFSET + PART; k++) {
      grid moved = g[k];
      g[k] = g[k + PART], g[k + PART] = moved;
    }
  }
  if (p->part_count == 0) p->parts[p->part_count++] = (smx_mask){.size = sizeof(smx_mask)};
  for (int k = OFFSET; k < OFFSET + p->part_count * PART; k += PART) {
    if (g[k].numbers) continue;
    grid_make(&g[k], 0, 1, 1, 1, 1);
    g[k].numbers[0] = (double)(p->keys - p->queries);
  }
}

/* The problem of `count` batch entries, key heads, queries or keys from `start` on. Keys may go
 * beyond the end: those are `filling` and hidden by key lengths. */
static inline void problem_take(problem *to, const problem *from, int axis, int64_t start,
                                int64_t count, double filling) {
  problem whole = *from;
  for (int g = 0; g < GRIDS; g++)
    whole.grids[g] = grid_take(&from->grids[g], 0, 0, from->grids[g].shape[0], 0);
  pin_offsets(&whole);
  if (axis == COLUMNS && !whole.grids[KEYS].numbers) {
    grid_make(&whole.grids[KEYS], 0, 1, 1, 1, 1);
    whole.grids[KEYS].numbers[0] = (double)from->keys;
  }
  int64_t group = from->key_heads ? from->heads / from->key_heads : 1;
  int64_t lengths[] = {from->batch, from->heads, from->queries, from->keys};
  *to = whole;
  for (int g = 0; g < GRIDS; g++) {
    const grid *old = &whole.grids[g];
    int own = axis_along(g, axis), isKey = g == KEY || g == VALUE;
    int isOfKeyHeads = isKey && axis == HEADS;
    int isIds = g >= OFFSET && (g - OFFSET) % PART + OFFSET >= QUERY_IDS;
    int64_t full = isOfKeyHeads ? from->key_heads : lengths[axis];
    int64_t times = axis == HEADS && !isOfKeyHeads ? group : 1;
    if (!old->numbers || own < 0 || old->shape[own] != full) continue;
    /* One place for all stays one. */
    if (full == 1 && axis == COLUMNS && !isKey && !isIds) continue;
    to->grids[g] = grid_take(old, own, start * times, count * times, g < OFFSET ? filling : 0);
    free(old->numbers);
  }
  for (int k = OFFSET; axis == ROWS && k < OFFSET + to->part_count * PART; k += PART) {
    grid *offset = &to->grids[k], *lengthsOf = &to->grids[k + QUERIES - OFFSET];
    for (int64_t n = 0; n < count_of(AXES, offset->shape); n++) offset->numbers[n] += (double)start;
    for (int64_t n = 0; lengthsOf->numbers && n < count_of(AXES, lengthsOf->shape); n++) {
      double length = lengthsOf->numbers[n] - (double)start;
      lengthsOf->numbers[n] = fmax(0, fmin(length, (double)count));
    }
  }
  if (axis == BATCHES) to->batch = count;
  if (axis == HEADS) to->key_heads = count, to->heads = count * group;
  if (axis == ROWS) to->queries = count;
  if (axis == COLUMNS) to->keys = count;
}

#endif
