/* Ways to call attention that must not show in the bits. */
#include <stdlib.h>
#include <string.h>

#include "attention.h"

typedef enum {
  WHOLE,   /* as it is */
  CHUNKS,  /* so many queries at a time */
  ENTRIES, /* each entry of the batch in a call of its own */
  PADDED,  /* so many keys more, which a length hides */
  CLOSED,  /* which the boolean mask hides */
  BLOCKS,  /* keys in blocks of this size, the last one padded */
  POISON,  /* NaN in masked places */
  REPEATED /* key heads repeated for each query head */
} kind;

typedef struct {
  const char *name;
  kind what;
  int64_t size;
  int brief; /* where time is short, under an emulator: 0 left out, 1 for small cases */
  manner how;
} variation;

static const variation variations[] = {
    {"threads 1 again", WHOLE, 0, 0, {.threads = 1}},
    {"threads 2", WHOLE, 0, 0, {.threads = 2}},
    {"threads 3", WHOLE, 0, 0, {.threads = 3}},
    {"threads 7", WHOLE, 0, 0, {.threads = 7}},
    {"out alone", WHOLE, 0, 0, {.threads = 1, .only_out = 1}},
    {"out alone, threads 3", WHOLE, 0, 0, {.threads = 3, .only_out = 1}},
    {"typed call", WHOLE, 0, 0, {.threads = 1, .is_typed = 1}},
    {"workspace of the caller's, threads 2", WHOLE, 0, 0, {.threads = 2, .has_workspace = 1}},
    {"each query alone", CHUNKS, 1, 0, {.threads = 1}},
    {"each query alone, out alone, threads 7", CHUNKS, 1, 0, {.threads = 7, .only_out = 1}},
    {"5 queries at a time", CHUNKS, 5, 1, {.threads = 1}},
    {"16 queries at a time, threads 3", CHUNKS, 16, 0, {.threads = 3}},
    {"50 queries at a time", CHUNKS, 50, 0, {.threads = 1}},
    {"batch entries alone", ENTRIES, 0, 0, {.threads = 1}},
    {"batch entries alone, 3 axes, threads 7", ENTRIES, 0, 0, {.threads = 7, .has_no_batch = 1}},
    {"BLHD", WHOLE, 0, 0, {.threads = 1, .is_blhd = 1}},
    {"BLHD, first axis fastest",
     WHOLE,
     0,
     0,
     {.threads = 2, .is_blhd = 1, .in = {.memory_order = 1}, .out = {.memory_order = 1}}},
    {"last axis slowest", WHOLE, 0, 0, {.threads = 1, .in = {.memory_order = 2}}},
    {"every second element", WHOLE, 0, 0, {.threads = 1, .in = {.step = 2}}},
    {"backwards", WHOLE, 0, 0, {.threads = 1, .in = {.backwards = 1}, .out = {.backwards = 1}}},
    {"byte offset 1", WHOLE, 0, 0, {.threads = 3, .in = {.offset = 1}, .out = {.offset = 1}}},
    {"every third element of out",
     WHOLE,
     0,
     0,
     {.threads = 1, .out = {.step = 3, .memory_order = 2}}},
    {"past keys", WHOLE, 0, 0, {.threads = 1, .has_past = 1}},
    {"past keys, BLHD, every second element, threads 3",
     WHOLE,
     0,
     0,
     {.threads = 3, .has_past = 1, .is_blhd = 1, .in = {.step = 2}}},
    {"blocks of 16", BLOCKS, 16, 0, {.threads = 1}},
    {"blocks of 5, BLHD, threads 2", BLOCKS, 5, 0, {.threads = 2, .is_blhd = 1}},
    {"mode: subnormals as zero, round up", WHOLE, 0, 1, {.threads = 1, .mode = 1}},
    {"mode: round toward zero, threads 3", WHOLE, 0, 0, {.threads = 3, .mode = 2}},
    {"values in masked places", POISON, 0, 0, {.threads = 1}},
    {"values in masked places, threads 7, out alone", POISON, 0, 0, {.threads = 7, .only_out = 1}},
    {"21 masked keys appended", PADDED, 21, 0, {.threads = 1}},
    {"1100 masked keys appended, threads 2", PADDED, 1100, 0, {.threads = 2}},
    {"64 keys appended, closed by a mask", CLOSED, 64, 0, {.threads = 1}},
    {"heads repeated", REPEATED, 0, 0, {.threads = 1}},
    {"everything at once",
     CHUNKS,
     7,
     1,
     {.threads = 7,
      .mode = 2,
      .is_blhd = 1,
      .has_past = 1,
      .has_workspace = 1,
      .in = {.step = 2, .backwards = 1, .memory_order = 2, .offset = 1},
      .out = {.step = 3, .offset = 3}}},
};

/* Scores times the numbers that each takes, of a small case. */
enum { BRIEF_WORK = 1 << 17 };

static int64_t work_of(const attention_inputs *in) {
  return in->over.x.count * (in->query.shape[3] + in->value.shape[3]);
}

static int applies(const variation *v, const attention_inputs *in, int brief) {
  if (brief && (!v->brief || work_of(in) > BRIEF_WORK)) return 0;
  switch (v->what) {
    case WHOLE: return !v->how.is_typed || is_typed_attention(in);
    case CHUNKS: return v->size < in->over.x.shape[2] || v->size == 7;
    case ENTRIES: return in->over.x.shape[0] > 1 || v->how.has_no_batch;
    case POISON: return in->over.mask.data || in->over.conditions;
    case REPEATED: return in->key.shape[1] < in->over.x.shape[1];
    default: return 1;
  }
}

/* Copies a part's results to where they belong; false if a further key has a weight. */
static int paste(results *whole, const results *from, const part *p) {
  int is_clean = 1;
  for (int k = 0; k < RESULTS; k++) {
    array *a = &whole->of[k];
    const array *b = &from->of[k];
    int64_t size = item_size(a->dtype);
    int64_t cols = k == LSE ? 1 : a->shape[3], given = k == LSE ? 1 : b->shape[3];
    for (int64_t row = 0; row < b->count / given; row++) {
      int64_t head = row / p->queries + p->entry * a->shape[1];
      int64_t to = head * a->shape[2] + p->query + row % p->queries;
      memcpy(a->data + to * cols * size, b->data + row * given * size, (size_t)(cols * size));
      for (int64_t i = cols * size; i < given * size; i++) {
        is_clean = is_clean && b->data[row * given * size + i] == 0;
      }
    }
  }
  return is_clean;
}

static smx_status run_part(const attention_inputs *in, const variation *v, const part *p,
                           results *r) {
  attention_inputs own;
  make_part(&own, in, p);
  if (v->what == POISON) poison(&own);
  if (v->what == REPEATED) repeat_heads(&own);
  results found = new_results(&own);
  for (int k = 0; k < RESULTS; k++) {
    memset(found.of[k].data, 0xa5, (size_t)bytes_of(&found.of[k]));
  }
  manner how = v->how;
  if (v->what == BLOCKS) how.block = v->size;
  smx_status status = call_attention(&own, &how, &found);
  if (!paste(r, &found, p) && !how.only_out && status == SMX_OK) {
    printf("FAILED %s, %s: a masked key has a weight\n", in->from.scores.name, v->name);
    status = -1;
  }
  free_results(&found);
  free_attention(&own);
  return status;
}

static smx_status run(const attention_inputs *in, const variation *v, results *r) {
  const int64_t *shape = in->over.x.shape;
  part p = {0, shape[0], 0, shape[2], shape[3], 0};
  smx_status status = SMX_OK;
  switch (v->what) {
    case CHUNKS:
      for (; p.query < shape[2] && status == SMX_OK; p.query += v->size) {
        p.queries = shape[2] - p.query < v->size ? shape[2] - p.query : v->size;
        status = run_part(in, v, &p, r);
      }
      return status;
    case ENTRIES:
      for (p.entries = 1; p.entry < shape[0] && status == SMX_OK; p.entry++) {
        status = run_part(in, v, &p, r);
      }
      return status;
    case PADDED:
    case CLOSED:
      p.keys += v->size;
      p.by_mask = v->what == CLOSED;
      break;
    case BLOCKS: p.keys = (p.keys + v->size - 1) / v->size * v->size; break;
    default: break;
  }
  return run_part(in, v, &p, r);
}

void check_attention_variations(attention_inputs *in, const results *plain, int brief, tally *t) {
  const golden_case *c = &in->from.scores;
  for (size_t i = 0; i < sizeof variations / sizeof variations[0]; i++) {
    const variation *v = &variations[i];
    if (!applies(v, in, brief)) continue;
    results r = new_results(in);
    smx_status status = run(in, v, &r);
    if (status != SMX_OK) {
      t->failed++;
      printf("FAILED %s, %s: status %d: %s\n", c->name, v->name, (int)status, smx_last_error());
    }
    for (int k = 0; k < RESULTS && status == SMX_OK; k++) {
      if (k != OUT && (v->how.only_out || v->how.is_typed)) continue;
      char what[160];
      snprintf(what, sizeof what, "%s of %s", result_names[k], v->name);
      int64_t at;
      int is_same = meets_plain(c->name, what, c->seed, &plain->of[k], &r.of[k], &at);
      t->passed += is_same;
      t->failed += !is_same;
      if (!is_same) judge(in, k, &r.of[k]);
    }
    free_results(&r);
  }
}
