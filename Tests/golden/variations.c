/* Ways to call that must not show in the bits (the bits contract): threads, memory, batch, mode. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "mode.h"

enum { PLAIN, TYPED, ALONE, BATCH, POISON, PADDED };

typedef struct {
  const char *name;
  int kind;
  int threads;
  int brief; /* where time is short, under an emulator: 0 left out, 1 for small cases, 2 for all */
  layout how;
  int in_place;
  int mode; /* 0: as it is */
} variation;

static const variation variations[] = {
    {"threads 1 again", PLAIN, 1, 0, {0}, 0, 0},
    {"threads 2", PLAIN, 2, 0, {0}, 0, 0},
    {"threads 3", PLAIN, 3, 2, {0}, 0, 0},
    {"threads 7", PLAIN, 7, 0, {0}, 0, 0},
    {"typed call", TYPED, 1, 0, {0}, 0, 0},
    {"typed call, in place, threads 2", TYPED, 2, 0, {0}, 1, 0},
    {"each row alone", ALONE, 1, 1, {0}, 0, 0},
    {"each row alone, threads 7", ALONE, 7, 0, {0}, 0, 0},
    {"in a batch of 3", BATCH, 2, 0, {0}, 0, 0},
    {"reduced axes first", PLAIN, 1, 0, {.reduced_first = 1}, 0, 0},
    {"reduced axes first, threads 3", PLAIN, 3, 0, {.reduced_first = 1}, 0, 0},
    {"first axis fastest", PLAIN, 1, 0, {.memory_order = 1}, 0, 0},
    {"last axis slowest", PLAIN, 1, 0, {.memory_order = 2}, 0, 0},
    {"every second element", PLAIN, 1, 0, {.step = 2}, 0, 0},
    {"every second element, threads 7", PLAIN, 7, 0, {.step = 2}, 0, 0},
    {"backwards", PLAIN, 1, 0, {.backwards = 1}, 0, 0},
    {"backwards, first axis fastest", PLAIN, 2, 0, {.memory_order = 1, .backwards = 1}, 0, 0},
    {"byte offset 1", PLAIN, 1, 0, {.offset = 1}, 0, 0},
    {"byte offset 3, threads 2", PLAIN, 2, 0, {.offset = 3}, 0, 0},
    {"in place", PLAIN, 1, 0, {0}, 1, 0},
    {"in place, threads 7", PLAIN, 7, 0, {0}, 1, 0},
    {"in place, every third element, backwards", PLAIN, 1, 1, {.step = 3, .backwards = 1}, 1, 0},
    {"mode: subnormals as zero, round up", PLAIN, 1, 1, {0}, 0, 1},
    {"mode: round toward zero, threads 3", PLAIN, 3, 0, {0}, 0, 2},
    {"values in masked places", POISON, 1, 1, {0}, 0, 0},
    {"masked keys appended", PADDED, 1, 1, {0}, 0, 0},
    {"masked keys appended, threads 3", PADDED, 3, 0, {0}, 0, 0},
    {"everything at once",
     PLAIN,
     7,
     1,
     {.reduced_first = 1, .memory_order = 2, .step = 2, .backwards = 1, .offset = 1},
     1,
     2},
};

/* -- other inputs with the same results -------------------------------------------------------- */

static array duplicate(const array *a) {
  array b = new_array(a->dtype, a->rank, a->shape);
  memcpy(b.data, a->data, (size_t)bytes_of(a));
  return b;
}

/* NaN wherever nothing may be read. */
static array poisoned(const inputs *in) {
  array x = duplicate(&in->x);
  for (int64_t i = 0; i < x.count; i++)
    if (!is_visible(in, i)) set(&x, i, NAN);
  return x;
}

/* a with `extra` elements more along the last axis. */
static array extended(const array *a, int64_t extra, double value) {
  int64_t shape[MAX_RANK], cols = a->shape[a->rank - 1], wide = cols + extra;
  memcpy(shape, a->shape, sizeof shape);
  shape[a->rank - 1] = wide;
  array b = new_array(a->dtype, a->rank, shape);
  for (int64_t i = 0; i < b.count; i++) {
    int is_old = i % wide < cols;
    set(&b, i, is_old ? get(a, i / wide * cols + i % wide) : value);
  }
  return b;
}

static array shortened(const array *a, int64_t cols) {
  int64_t shape[MAX_RANK], wide = a->shape[a->rank - 1], size = item_size(a->dtype);
  memcpy(shape, a->shape, sizeof shape);
  shape[a->rank - 1] = cols;
  array b = new_array(a->dtype, a->rank, shape);
  for (int64_t i = 0; i < b.count; i++) {
    memcpy(b.data + i * size, a->data + (i / cols * wide + i % cols) * size, (size_t)size);
  }
  return b;
}

enum { EXTRA = 21 };

static void pad(inputs *in, const inputs *from) {
  int64_t shape[MAX_RANK];
  *in = *from;
  in->x = extended(&from->x, EXTRA, NAN);
  if (from->mask.data) {
    in->mask = extended(&from->mask, EXTRA, 0);
  } else {
    for (int i = 0; i < from->x.rank; i++) shape[i] = i < from->x.rank - 1 ? 1 : from->x.shape[i];
    array all = new_array(SMX_BOOL, from->x.rank, shape);
    memset(all.data, 1, (size_t)all.count);
    in->mask = extended(&all, EXTRA, 0);
    free(all.data);
  }
  if (from->bias.data) in->bias = extended(&from->bias, EXTRA, NAN);
  if (from->weights.data) in->weights = extended(&from->weights, EXTRA, NAN);
}

static void free_padded(inputs *in) {
  free(in->x.data);
  free(in->mask.data);
  free(in->bias.data);
  free(in->weights.data);
}

/* -- comparing --------------------------------------------------------------------------------- */

static void compare(inputs *in, const char *name, const array *plain, const array *out, tally *t) {
  int64_t at, worst_at;
  if (meets_plain(in->from->name, name, in->from->seed, plain, out, &at)) {
    t->passed++;
    return;
  }
  t->failed++;
  exact_value *exact = reference(in);
  double worst = worst_error(out, exact, &worst_at);
  printf("exact %.17Lg; worst error %.3g ulp at %lld: %s\n", exact[at].value, worst,
         (long long)worst_at, worst <= 2 ? "different, not wrong" : "WRONG");
  free(exact);
}

/* -- running ----------------------------------------------------------------------------------- */

/* Rows that get a call of their own; elements of a small case. */
enum { ALONE_LIMIT = 300, BRIEF_ELEMENTS = 8192 };

static int applies(const variation *v, const inputs *in) {
  const golden_case *c = in->from;
  int reduced = 0;
  for (int i = 0; i < c->rank; i++) reduced += c->reduced[i];
  int is_last_only = reduced == 1 && c->reduced[c->rank - 1];
  if (v->in_place && c->op == LOGSUMEXP && v->kind == TYPED) return 0;
  if (v->how.reduced_first && in->conditions) return v->brief; /* then without that part */
  switch (v->kind) {
    case TYPED: return is_typed(in);
    case ALONE: return !in->conditions || is_last_only;
    case BATCH: return !in->conditions;
    case POISON: return in->mask.data || in->conditions;
    case PADDED: return is_last_only && !in->conditions;
    default: return 1;
  }
}

static smx_status call(inputs *in, const variation *v, operands *o, const layout *how) {
  smx_set_num_threads(v->threads);
  uint64_t before = enter_odd_mode(v->mode), changed;
  smx_status status = v->kind == TYPED   ? call_typed(in, o)
                      : v->kind == ALONE ? call_alone(in, o, ALONE_LIMIT)
                                         : call_tensor(in, o, how, structure_of(in));
  changed = leave_odd_mode(before, v->mode);
  if (changed)
    printf("FAILED %s, %s: the caller's mode is not restored\n", in->from->name, v->name);
  return changed ? -1 : status;
}

/* A batch: x, mask and the others three times over along a new first axis; each is compared. */
static int run_batch(inputs *in, const variation *v, const array *plain, tally *t) {
  enum { COPIES = 3 };
  golden_case c = *in->from;
  inputs wide = {.from = &c};
  const array *from[] = {&in->x, &in->mask, &in->bias, &in->weights, &in->temperature};
  array *to[] = {&wide.x, &wide.mask, &wide.bias, &wide.weights, &wide.temperature};
  if (c.rank == MAX_RANK) return 0;
  memmove(c.reduced + 1, c.reduced, sizeof c.reduced - sizeof c.reduced[0]);
  c.reduced[0] = 0;
  c.rank++;
  for (int k = 0; k < 5; k++) {
    if (!from[k]->data) continue;
    int64_t shape[MAX_RANK] = {COPIES};
    memcpy(shape + 1, from[k]->shape, (size_t)from[k]->rank * sizeof shape[0]);
    *to[k] = new_array(from[k]->dtype, c.rank, shape);
    int64_t bytes = bytes_of(from[k]);
    for (int i = 0; i < COPIES; i++) memcpy(to[k]->data + i * bytes, from[k]->data, (size_t)bytes);
  }
  operands o;
  array out = new_out(&wide);
  place_operands(&o, &wide, &out, &v->how, 0);
  smx_status status = call(&wide, v, &o, &v->how);
  collect(&o.out, &out, &v->how, c.reduced);
  for (int i = 0; i < COPIES && status == SMX_OK; i++) {
    array part = *plain;
    part.data = out.data + i * bytes_of(plain);
    compare(in, v->name, plain, &part, t);
  }
  free_operands(&o);
  free(out.data);
  free_inputs(&wide);
  return status;
}

static int run(inputs *in, const variation *v, const array *plain, tally *t) {
  if (v->kind == BATCH) return run_batch(in, v, plain, t);
  inputs other = *in;
  layout how = v->how;
  int in_place = v->in_place && in->from->op != LOGSUMEXP;
  if (in->conditions) how.reduced_first = 0;
  if (v->kind == POISON) other.x = poisoned(in);
  if (v->kind == PADDED) pad(&other, in);
  operands o;
  array out = v->kind == ALONE ? duplicate(plain) : new_out(&other);
  if (v->kind != ALONE) memset(out.data, 0xa5, (size_t)bytes_of(&out));
  place_operands(&o, &other, &out, &how, in_place);
  smx_status status = call(&other, v, &o, &how);
  collect(&o.out, &out, &how, in->from->reduced);
  if (v->kind == PADDED && in->from->op != LOGSUMEXP) {
    array part = shortened(&out, in->x.shape[in->x.rank - 1]);
    free(out.data);
    out = part;
  }
  if (status == SMX_OK) compare(in, v->name, plain, &out, t);
  free_operands(&o);
  free(out.data);
  if (v->kind == POISON) free(other.x.data);
  if (v->kind == PADDED) free_padded(&other);
  return status;
}

array plain_call(inputs *in) {
  static const layout contiguous = {0};
  operands o;
  array out = new_out(in);
  smx_set_num_threads(1);
  place_operands(&o, in, &out, &contiguous, 0);
  smx_status status = call_tensor(in, &o, &contiguous, structure_of(in));
  collect(&o.out, &out, &contiguous, in->from->reduced);
  free_operands(&o);
  if (status != SMX_OK) {
    printf("FAILED %s: %s\n", in->from->name, smx_last_error());
    free(out.data);
    out.data = NULL;
  }
  return out;
}

void check_variations(inputs *in, const array *plain, int brief, tally *t) {
  for (size_t i = 0; i < sizeof variations / sizeof variations[0]; i++) {
    const variation *v = &variations[i];
    if (brief && v->brief < (in->x.count > BRIEF_ELEMENTS ? 2 : 1)) continue;
    if (!applies(v, in)) continue;
    smx_status status = run(in, v, plain, t);
    if (status != SMX_OK) {
      t->failed++;
      printf("FAILED %s, %s: status %d: %s\n", in->from->name, v->name, (int)status,
             smx_last_error());
    }
  }
}
