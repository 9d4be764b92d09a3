/* The gradient of attention in memory: the same bits for every number of threads, layout, stride,
 * workspace, floating-point mode and choice of gradients; then every operand, gradient and the
 * workspace against guard pages, before or behind, at odd alignments, inputs where they cannot be
 * written. What is compared with is the same problem in plain memory on one thread, all gradients
 * wanted. (Whether these are right the Python tests ask, against a reference.) */
#include "attention_vjp.h"
#include "guard.h"
#include "modes.h"

static const manner plain = {.wanted = ALL};
static int64_t calls, elements;

typedef struct results {
  unsigned char *values[GRADIENTS];
} results;

static void answer_plainly(const problem *p, results *r) {
  static backward b;
  smx_set_num_threads(1);
  backward_make(&b, p, plain);
  backward_describe(&b, "plain");
  smx_status status = backward_run(&b);
  CHECK(status == SMX_OK, "status %d: %s", status, smx_last_error());
  for (int k = 0; k < GRADIENTS; k++) {
    r->values[k] = malloc((size_t)b.gradients[k].count * 8 + 8);
    if (!r->values[k]) abort();
    backward_read(&b, k, r->values[k]);
  }
  backward_free(&b);
}

static void results_free(results *r) {
  for (int k = 0; k < GRADIENTS; k++) free(r->values[k]);
}

static void compare(const results *want, const backward *b, int k) {
  int64_t count = b->gradients[k].count;
  unsigned char *got = malloc((size_t)count * 8 + 8);
  if (!got) abort();
  backward_read(b, k, got);
  same_bits(gradient_names[k], size_of(b->gradients[k].tensor.dtype), got, want->values[k], count);
  elements += count;
  free(got);
}

static void ask(const char *how, const results *want, const problem *p, manner m) {
  static backward b;
  backward_make(&b, p, m);
  backward_describe(&b, how);
  smx_status status = backward_run(&b);
  calls++;
  if (CHECK(status == SMX_OK, "status %d: %s", status, smx_last_error())) {
    for (int k = 0; k < GRADIENTS; k++) {
      if (!b.gradients[k].block) continue;
      compare(want, &b, k);
      int64_t spoilt = bytes_spoilt(&b.gradients[k]);
      CHECK(spoilt == 0, "%" PRId64 " bytes beside %s were written", spoilt, gradient_names[k]);
    }
  }
  backward_free(&b);
}

static void check_mode(const results *want, const problem *p, uint64_t mode) {
  static backward b;
  backward_make(&b, p, plain);
  backward_describe(&b, "mode");
  uint64_t before = mode_now();
  set_mode(mode);
  smx_status status = backward_run(&b);
  uint64_t after = mode_now();
  set_mode(before);
  CHECK(status == SMX_OK && after == mode, "status %d, mode %" PRIx64 " for %" PRIx64, status,
        after, mode);
  for (int k = 0; k < GRADIENTS; k++) {
    if (b.gradients[k].block) compare(want, &b, k);
  }
  backward_free(&b);
}

static void check_bits(uint64_t seed) {
  static const int threads[] = {1, 2, 3, 7};
  static problem p;
  results want;
  uint64_t random = seed * 31 + 5, *r = &random;
  /* Often enough work for several threads. */
  problem_make(&p, seed, seed % 3 && !is_light() ? 4e6 : 1e5, 0, 0);
  answer_plainly(&p, &want);
  for (int t = 0; t < 4; t++) {
    smx_set_num_threads(threads[t]);
    manner m = plain;
    ask("threads", &want, &p, m);
    m.brings_workspace = 1;
    m.wanted = 1 << random_below(r, GRADIENTS);
    ask("one gradient", &want, &p, m);
    m.wanted = (int)random_below(r, ALL + 1);
    m.layout = t % 2 ? SMX_BLHD : SMX_BHLD;
    ask("some gradients", &want, &p, m);
    m.strides = random_bits(r) | 1;
    m.wanted = ALL;
    m.brings_workspace = t > 1;
    ask("strided", &want, &p, m);
  }
  smx_set_num_threads(1 + (int)(seed % 2));
  if (has_modes())
    check_mode(&want, &p, other_modes[seed % (sizeof other_modes / sizeof *other_modes)]);
  results_free(&want);
  problem_free(&p);
}

/* -- guard pages ----------------------------------------------------------------------------------
 */

enum { OF_D_OUT = VIEWS, OF_GRADIENTS, WORKSPACE = OF_GRADIENTS + GRADIENTS, BUFFERS };
static guarded buffers[BUFFERS];

static void move(view *v, int k, int atEnd, int64_t shift) {
  int64_t own = shift ? (shift + k) % 16 * (int64_t)size_of(v->tensor.dtype) + k % 2 : 0;
  guard_move(&buffers[k], v, k >= OF_GRADIENTS, atEnd, own);
}

static void answer_guarded(const problem *p, const results *want, manner m, int atEnd,
                           int64_t shift) {
  static backward b;
  char how[64];
  size_t need = 0;
  backward_make(&b, p, m);
  snprintf(how, sizeof how, "%d bytes from the %s", (int)shift, atEnd ? "end" : "start");
  backward_describe(&b, how);
  for (int k = 0; k < VIEWS; k++) {
    if (b.forward.views[k].block) move(&b.forward.views[k], k, atEnd, shift);
  }
  move(&b.d_out, OF_D_OUT, atEnd, shift);
  for (int k = 0; k < GRADIENTS; k++) {
    if (b.gradients[k].block) move(&b.gradients[k], OF_GRADIENTS + k, atEnd, shift);
  }
  smx_status status = backward_workspace(&b, &need);
  if (CHECK(status == SMX_OK && need <= SPACE && need % 64 == 0, "workspace of %zu bytes: %s", need,
            smx_last_error())) {
    smx_attention_options options = b.options;
    options.workspace = buffers[WORKSPACE].given + (atEnd ? SPACE - need : 0);
    options.workspace_size = need;
    status = backward_with(&b, &options);
    calls++;
    CHECK(status == SMX_OK, "status %d: %s", status, smx_last_error());
  }
  for (int k = 0; k < GRADIENTS && status == SMX_OK; k++) {
    if (!b.gradients[k].block) continue;
    guard_turn(&buffers[OF_GRADIENTS + k], &b.gradients[k]);
    compare(want, &b, k);
    int64_t spoilt = guard_spoilt(&buffers[OF_GRADIENTS + k], &b.gradients[k]);
    CHECK(spoilt == 0, "%" PRId64 " bytes beside %s were written", spoilt, gradient_names[k]);
  }
  backward_free(&b);
}

static void check_guarded(int64_t number, int64_t queries, int64_t keys, int64_t size,
                          int64_t value_size) {
  static const int64_t heads[][2] = {{1, 1}, {2, 1}, {3, 3}, {4, 2}};
  static problem p;
  results want;
  uint64_t random = (uint64_t)number + 177, *r = &random;
  const int64_t *h = heads[random_below(r, 4)];
  problem_plain(&p, float_dtypes[random_below(r, 4)], 1 + number % 2, h[0], h[1], queries, keys,
                size, value_size);
  p.seed = (uint64_t)number;
  if (random_below(r, 3)) random_options(&p, r, 3, 0);
  answer_plainly(&p, &want);
  for (int n = 0; n < 4; n++) {
    smx_set_num_threads(1 + (int)((number + n) % 3));
    manner m = {.layout = random_below(r, 2) ? SMX_BLHD : SMX_BHLD, .wanted = ALL};
    if (n > 0) m.strides = random_bits(r) | 1;
    answer_guarded(&p, &want, m, n % 2, n < 2 ? 0 : 1 + random_below(r, 15));
  }
  results_free(&want);
  problem_free(&p);
}

/* Keys behind the key lengths, and queries behind theirs, lie in the guard itself: nothing of them
 * is read. Their gradients are written. */
static void check_hidden(smx_dtype dtype, int64_t queries, int64_t keys, int64_t size) {
  static problem p, longer;
  static backward b;
  results want;
  problem_plain(&p, dtype, 1, 2, 1, queries, keys, size, size);
  answer_plainly(&p, &want);
  problem_take(&longer, &p, COLUMNS, 0, keys + 70, 0);
  backward_make(&b, &longer, plain);
  backward_describe(&b, "hidden behind");
  for (int k = KEY; k <= VALUE; k++) {
    view *v = &b.forward.views[k];
    int64_t bytes = keys * size * (int64_t)size_of(dtype);
    memcpy(buffers[k].ours + SPACE - bytes, v->tensor.data, (size_t)bytes);
    v->tensor.data = buffers[k].given + SPACE - bytes;
  }
  smx_status status = backward_run(&b);
  calls++;
  CHECK(status == SMX_OK, "status %d: %s", status, smx_last_error());
  for (int k = 0; k < 3; k++) {
    const view *g = &b.gradients[k];
    int64_t count = k ? keys * size : g->count;
    same_bits(gradient_names[k], size_of(dtype), g->tensor.data, want.values[k], count);
    for (int64_t n = count; n < g->count; n++) {
      const unsigned char *x = (unsigned char *)g->tensor.data + n * (int64_t)size_of(dtype);
      CHECK(load_as(dtype, x) == 0, "%s of hidden key %" PRId64, gradient_names[k], n / size);
    }
  }
  backward_free(&b);
  results_free(&want);
  problem_free(&p), problem_free(&longer);
}

int main(void) {
  static const int64_t lengths[] = {1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 97, 130};
  static const int64_t sizes[] = {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 24, 48, 64, 65};
  int isLight = is_light();
  for (uint64_t seed = 0; seed < (isLight ? 20 : 250); seed++) check_bits(70000 + seed);
  guard_begin();
  for (int i = 0; i < BUFFERS; i++) guard_map(&buffers[i], i >= OF_GRADIENTS);
  int64_t number = 0;
  for (int i = 0; i < 15; i++) {
    for (int j = 0; j < 15; j++, number++) {
      if (isLight && number % 17) continue;
      check_guarded(number, lengths[i], lengths[j], sizes[number % 13], sizes[number % 11]);
    }
  }
  smx_set_num_threads(1);
  for (int d = 0; d < 4; d++) {
    for (int i = 0; i < 15; i += isLight ? 5 : 1)
      check_hidden(float_dtypes[d], lengths[(i + 4) % 15], lengths[i], sizes[i % 14]);
  }
  printf("%" PRId64 " calls, %" PRId64 " elements compared\n", calls, elements);
  return finish("test_attention_vjp");
}
