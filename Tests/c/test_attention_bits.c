/* The bits contract of attention: out, lse and weights are the same bits for every number of
 * threads, layout, chunk of queries, batch, share of the heads, past keys, pages, appended keys,
 * workspace, entry point and floating-point mode. What is compared with is always the whole problem
 * in plain memory on one thread. */
#include <pthread.h>

#include "attention_random.h"
#include "modes.h"

enum {
  THREADS,
  LAYOUT,
  PAST,
  PAGES,
  SPACE,
  CHUNK,
  BATCH,
  SHARE,
  PADDING,
  MODE,
  TYPED,
  CALLER,
  KINDS
};
static const char *const kinds[KINDS] = {
    "threads",          "strided or BLHD", "past keys",         "pages",   "own workspace",
    "chunk of queries", "part of a batch", "part of the heads", "padding", "mode",
    "typed call",       "many callers"};
static int64_t equal[KINDS];
static const int thread_counts[] = {1, 2, 3, 7};
static const choice plain = {.past = -1, .lse = 1, .weights = 1};

/* Results of a whole problem, in its order. */
typedef struct results {
  const problem *problem;
  unsigned char *values[3]; /* out, lse, weights */
} results;

static unsigned char *room_for(const call *c, int k) {
  unsigned char *p = malloc((size_t)c->views[k].count * 8 + 8);
  if (!p) abort();
  return p;
}

static void answer_plainly(const problem *p, results *r) {
  static call c;
  smx_set_num_threads(1);
  call_make(&c, p, plain);
  call_describe(&c, "plain");
  CHECK(call_run(&c) == SMX_OK, "%s", smx_last_error());
  r->problem = p;
  for (int k = 0; k < 3; k++) call_read(&c, OUT + k, r->values[k] = room_for(&c, OUT + k));
  call_free(&c);
}

static void results_free(results *r) {
  for (int k = 0; k < 3; k++) free(r->values[k]);
}

/* What a call wrote, against the same rows of the whole, which begin at entry b, head h and query
 * i. Keys beyond those of the whole must have weight 0. */
static void compare(int kind, const results *want, const call *c, int64_t b, int64_t h, int64_t i) {
  static const char *const names[] = {"out", "lse", "weights"};
  const problem *whole = want->problem, *part = c->problem;
  const int64_t lengths[] = {whole->value_size, 1, whole->keys};
  for (int k = 0; k < 3; k++) {
    if (!c->views[OUT + k].block) continue;
    unsigned char *got = room_for(c, OUT + k);
    int64_t count = call_read(c, OUT + k, got), rows = part->batch * part->heads * part->queries;
    int64_t length = rows ? count / rows : 0;
    size_t size = size_of(c->views[OUT + k].tensor.dtype);
    for (int64_t row = 0; row < rows; row++) {
      int64_t entry = row / part->queries / part->heads + b;
      int64_t head = row / part->queries % part->heads + h;
      int64_t place = (entry * whole->heads + head) * whole->queries + row % part->queries + i;
      const unsigned char *own = got + row * length * (int64_t)size;
      const unsigned char *whole_row = want->values[k] + place * lengths[k] * (int64_t)size;
      if (same_bits(names[k], size, own, whole_row, lengths[k])) equal[kind] += lengths[k];
      for (int64_t j = lengths[k]; j < length; j++)
        CHECK(load_as(c->views[OUT + k].tensor.dtype, own + j * (int64_t)size) == 0,
              "weight of padding %" PRId64, j);
    }
    free(got);
  }
}

static void ask(int kind, const results *want, const problem *p, choice o, int64_t b, int64_t h,
                int64_t i) {
  static call c;
  char how[80];
  int32_t threads = 0;
  smx_get_num_threads(&threads);
  snprintf(how, sizeof how, "%s, %d threads, at %d %d %d", kinds[kind], threads, (int)b, (int)h,
           (int)i);
  call_make(&c, p, o);
  call_describe(&c, how);
  smx_status status = call_run(&c);
  if (CHECK(status == SMX_OK, "status %d: %s", status, smx_last_error()))
    compare(kind, want, &c, b, h, i);
  call_free(&c);
}

/* -- the same problem otherwise -------------------------------------------------------------------
 */

static void check_memory(const problem *p, const results *want, uint64_t *r) {
  for (int t = 0; t < 4; t++) {
    choice o = plain;
    smx_set_num_threads(thread_counts[t]);
    ask(THREADS, want, p, o, 0, 0, 0);
    o.brings_workspace = 1;
    ask(SPACE, want, p, o, 0, 0, 0);
    o.strides = random_bits(r) | 1;
    o.layout = t % 2 ? SMX_BLHD : SMX_BHLD;
    /* lse and weights do not change out. */
    o.lse = t != 2, o.weights = t != 3;
    ask(LAYOUT, want, p, o, 0, 0, 0);
    o.past = t == 0 ? 0 : t == 1 ? p->keys : random_below(r, p->keys + 1);
    if (t == 2) o.strides = 0;
    ask(PAST, want, p, o, 0, 0, 0);
  }
}

static void check_parts(const problem *p, const results *want, uint64_t *r) {
  static problem part;
  choice o = plain;
  if (random_below(r, 2)) o.strides = random_bits(r) | 1, o.layout = SMX_BLHD;
  /* One query, two other sizes of chunk, from the first query on. */
  for (int n = 0; n < 3; n++) {
    int64_t size = n == 0 ? 1 : 1 + random_below(r, p->queries + 1);
    int64_t step = size * (1 + p->queries / size / 12);
    for (int64_t i = 0; i < p->queries; i += step) {
      int64_t count = i + size < p->queries ? size : p->queries - i;
      problem_take(&part, p, ROWS, i, count, 0);
      ask(CHUNK, want, &part, o, 0, 0, i);
      problem_free(&part);
    }
  }
  for (int64_t b = 0; b < p->batch; b++) {
    problem_take(&part, p, BATCHES, b, 1 + random_below(r, p->batch - b), 0);
    ask(BATCH, want, &part, o, b, 0, 0);
    problem_free(&part);
  }
  for (int64_t h = 0; h < p->key_heads; h++) {
    problem_take(&part, p, HEADS, h, 1 + random_below(r, p->key_heads - h), 0);
    ask(SHARE, want, &part, o, 0, h * (p->heads / p->key_heads), 0);
    problem_free(&part);
  }
}

/* Keys appended behind key lengths, NaN or infinite; then pages, whose last block is padded so. */
static void check_padding(const problem *p, const results *want, uint64_t *r) {
  static const int64_t more[] = {1, 7, 64, 1100}, pages[] = {1, 3, 16, 64, 100};
  static problem padded;
  for (int n = 0; n < 9; n++) {
    choice o = plain;
    int64_t keys = n < 4 ? p->keys + more[n] : (p->keys / pages[n - 4] + 1) * pages[n - 4];
    if (p->batch * p->heads * p->queries * keys > 200000) continue;
    if (random_below(r, 2)) o.strides = random_bits(r) | 1, o.layout = SMX_BLHD;
    if (n >= 4) o.page = pages[n - 4];
    problem_take(&padded, p, COLUMNS, 0, keys, n % 2 ? NAN : INFINITY);
    ask(n < 4 ? PADDING : PAGES, want, &padded, o, 0, 0, 0);
    problem_free(&padded);
  }
}

static void check_seed(uint64_t seed, double most, int64_t longest, int isOnlyMemory) {
  static problem p;
  results want;
  uint64_t random = seed + 99, *r = &random;
  problem_make(&p, seed, most, longest, FOUR_AXES);
  answer_plainly(&p, &want);
  check_memory(&p, &want, r);
  if (!isOnlyMemory) {
    smx_set_num_threads(thread_counts[seed % 4]);
    check_parts(&p, &want, r);
    check_padding(&p, &want, r);
  }
  results_free(&want);
  problem_free(&p);
}

/* -- floating-point modes -------------------------------------------------------------------------
 */

static void check_modes(uint64_t seed) {
  static problem p;
  static call c;
  results want;
  uint64_t standard = mode_now();
  problem_make(&p, seed, seed % 8 ? 1e4 : 3e5, 0, FOUR_AXES | WITHOUT_SPECIALS);
  /* Values among the subnormal numbers, and keys where products of theirs are. */
  static const double factors[] = {0x1p-16, 0x1p-128, 0x1p-128, 0x1p-1026};
  for (int k = KEY; k <= VALUE; k++) {
    if (seed % 3 == (uint64_t)k) continue;
    for (int64_t n = 0; n < count_of(AXES, p.grids[k].shape); n++)
      p.grids[k].numbers[n] *= factors[p.dtype - SMX_FLOAT16];
    round_numbers(&p.grids[k], p.dtype);
  }
  answer_plainly(&p, &want);
  call_make(&c, &p, plain);
  for (size_t n = 0; n < sizeof other_modes / sizeof *other_modes; n++) {
    smx_set_num_threads(1 + (int)(n & 1));
    set_mode(other_modes[n]);
    smx_status status = call_run(&c);
    uint64_t after = mode_now();
    set_mode(standard);
    call_describe(&c, "mode");
    CHECK(status == SMX_OK && after == other_modes[n], "mode 0x%" PRIx64 " became 0x%" PRIx64,
          other_modes[n], after);
    compare(MODE, &want, &c, 0, 0, 0);
  }
  call_free(&c);
  results_free(&want);
  problem_free(&p);
}

/* -- the typed call, and precision ----------------------------------------------------------------
 */

static void check_typed(uint64_t seed) {
  static problem p;
  static call c;
  results want;
  uint64_t random = seed, *r = &random;
  int64_t group = 1 + random_below(r, 3), keyHeads = 1 + random_below(r, 3);
  problem_plain(&p, SMX_FLOAT32, random_below(r, 3), group * keyHeads, keyHeads,
                random_length(r, 70), random_length(r, 140) - 1, random_length(r, 70),
                random_length(r, 70));
  p.parts[0] = (smx_mask){.size = sizeof(smx_mask), .causal = 1};
  p.part_count = (int)random_below(r, 2);
  answer_plainly(&p, &want);
  smx_set_num_threads(thread_counts[seed % 4]);
  call_make(&c, &p, (choice){.past = -1});
  call_describe(&c, "typed");
  const view *v = c.views;
  smx_status status = smx_attention_f32(
      v[QUERY].tensor.data, v[KEY].tensor.data, v[VALUE].tensor.data, v[OUT].tensor.data, p.batch,
      p.heads, p.key_heads, p.queries, p.keys, p.size, p.value_size, p.part_count);
  CHECK(status == SMX_OK, "status %d: %s", status, smx_last_error());
  compare(TYPED, &want, &c, 0, 0, 0);
  /* SMX_FAST concerns bfloat16 alone; a NULL of options is the default. */
  for (int n = 0; n < (p.part_count ? 1 : 2); n++) {
    c.options.precision = SMX_FAST;
    memset(v[OUT].block, CANARY, v[OUT].bytes);
    CHECK(call_with(&c, n ? NULL : &c.options) == SMX_OK, "%s", smx_last_error());
    compare(TYPED, &want, &c, 0, 0, 0);
  }
  call_free(&c);
  results_free(&want);
  problem_free(&p);
}

/* -- many callers at once -------------------------------------------------------------------------
 */

enum { CALLERS = 6, PROBLEMS = 4 };
static problem shared[PROBLEMS];
static results answers[PROBLEMS];

static void *call_often(void *argument) {
  intptr_t wrong = 0, self = (intptr_t)argument;
  for (int n = 0; n < (is_light() ? 4 : 60); n++) {
    int which = (n + (int)self) % PROBLEMS;
    call *c = malloc(sizeof *c);
    if (!c) abort();
    call_make(c, &shared[which], (choice){.past = -1, .strides = (uint64_t)n});
    unsigned char *got = room_for(c, OUT);
    wrong += call_run(c) != SMX_OK;
    int64_t count = call_read(c, OUT, got);
    wrong +=
        memcmp(got, answers[which].values[0], (size_t)count * size_of(shared[which].dtype)) != 0;
    call_free(c);
    free(got), free(c);
  }
  return (void *)wrong;
}

static void check_callers(void) {
  pthread_t callers[CALLERS];
  for (int n = 0; n < PROBLEMS; n++) {
    problem_plain(&shared[n], float_dtypes[n], 1, 2, 1, 40 + 30 * n, 150, 64, 64);
    answer_plainly(&shared[n], &answers[n]);
  }
  smx_set_num_threads(3);
  for (intptr_t n = 0; n < CALLERS; n++) pthread_create(&callers[n], NULL, call_often, (void *)n);
  DESCRIBE("%d threads call at once", CALLERS);
  for (int n = 0; n < CALLERS; n++) {
    void *wrong;
    pthread_join(callers[n], &wrong);
    CHECK(wrong == NULL, "thread %d had %ld wrong results", n, (long)(intptr_t)wrong);
    equal[CALLER] += wrong == NULL;
  }
  for (int n = 0; n < PROBLEMS; n++) results_free(&answers[n]), problem_free(&shared[n]);
}

int main(void) {
  int isLight = is_light();
  int64_t total = 0;
  for (uint64_t seed = 1; seed <= (isLight ? 6 : 300); seed++) check_seed(seed, 2e4, 0, 0);
  for (uint64_t seed = 1; seed <= (isLight ? 1 : 30); seed++)
    check_seed(30000 + seed, 1e5, 2500, 0);
  /* Enough work for every thread, and for several tasks each. */
  for (uint64_t seed = 1; seed <= (isLight ? 1 : 40); seed++)
    check_seed(40000 + seed, seed % 3 ? 5e5 : 5e6, 0, 1);
  for (uint64_t seed = 1; seed <= (isLight ? 3 : 200); seed++) check_typed(seed);
  for (uint64_t seed = 1; has_modes() && seed <= (isLight ? 20 : 200); seed++)
    check_modes(50000 + seed);
  check_callers();
  for (int k = 0; k < KINDS; k++) {
    printf("%10" PRId64 " equal by %s\n", equal[k], kinds[k]);
    total += equal[k];
  }
  printf("%10" PRId64 " equalities\n", total);
  return finish("test_attention_bits");
}
