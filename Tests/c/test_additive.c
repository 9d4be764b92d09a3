/* Additive attention: a slow reference, any strides against the same numbers in C order, memory
 * that must not be touched around every operand and the workspace, and every error, with outputs as
 * they were. */
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "additive.h"

/* -- the reference
 * --------------------------------------------------------------------------------- */

static double at(const call *c, int v, int64_t a, int64_t b, int64_t d, int64_t e) {
  const view *w = &c->views[v];
  int64_t all[4] = {a, b, d, e};
  return load_as(w->tensor.dtype, place_of(&w->tensor, all + 4 - w->tensor.ndim));
}

/* The score of query i and key j, -inf where it is hidden. */
static double score(const call *c, const sizes *s, int64_t b, int64_t h, int64_t i, int64_t j) {
  int64_t k = h / (s->heads / s->key_heads);
  if (s->causal && j > i + s->keys - s->queries) return -INFINITY;
  if (at(c, MASK, 0, h, i, j) == 0) return -INFINITY;
  double sum = 0;
  for (int64_t a = 0; a < s->width; a++) {
    double inner = 0;
    for (int64_t d = 0; d < s->query_size; d++)
      inner += at(c, W_QUERY, 0, h, a, d) * at(c, QUERY, b, h, i, d);
    for (int64_t d = 0; d < s->key_size; d++)
      inner += at(c, W_KEY, 0, k, a, d) * at(c, KEY, b, k, j, d);
    sum += at(c, VECTOR, 0, 0, h, a) * tanh(inner);
  }
  return sum + at(c, BIAS, 0, 0, i, j);
}

/* Numbers lie within 1, so scores within 30; 40 products of a projection, 30 of a sum. */
static void check_row(const call *c, const sizes *s, smx_dtype dtype, int64_t b, int64_t h,
                      int64_t i) {
  double u = dtype == SMX_FLOAT64 ? 0x1p-53 : 0x1p-24, near = 30 * 80 * u, total = 0;
  double rounding = dtype == SMX_FLOAT16 ? 0x1p-11 : dtype == SMX_BFLOAT16 ? 0x1p-8 : 0;
  static double scores[256];
  for (int64_t j = 0; j < s->keys; j++) total += exp(scores[j] = score(c, s, b, h, i, j));
  double lse = at(c, LSE, 0, b, h, i);
  CHECK(total == 0 ? lse == -INFINITY : fabs(lse - log(total)) <= near, "lse %g, not %g", lse,
        log(total));
  for (int64_t e = 0; e < s->value_size; e++) {
    double sum = 0, out = at(c, OUT, b, h, i, e);
    for (int64_t j = 0; j < s->keys; j++) {
      double weight = total == 0 ? 0 : exp(scores[j]) / total;
      sum += weight * at(c, VALUE, b, h / (s->heads / s->key_heads), j, e);
      double got = at(c, WEIGHTS, b, h, i, j);
      if (e == 0) CHECK(fabs(got - weight) <= near + rounding, "weight %g, not %g", got, weight);
    }
    CHECK(fabs(out - sum) <= 2 * near + rounding, "out %g, not %g", out, sum);
  }
}

static void check_reference(void) {
  for (uint64_t seed = 0; seed < (is_light() ? 12 : 60); seed++) {
    static call c;
    uint64_t r = seed + 900;
    sizes s = random_sizes(&r);
    smx_dtype dtype = float_dtypes[seed % 4];
    uint64_t layout = seed % 3;
    call_make(&c, &s, dtype, layout, seed);
    call_describe(&s, dtype, layout, seed);
    CHECK(call_with(&c, &c.options) == SMX_OK, "%s", smx_last_error());
    for (int k = 0; k < 10 && s.queries > 0; k++)
      check_row(&c, &s, dtype, random_below(&r, s.batch), random_below(&r, s.heads),
                random_below(&r, s.queries));
    call_free(&c);
  }
}

/* -- strides, threads
 * ------------------------------------------------------------------------------- */

static unsigned char want[1 << 22], got[1 << 22];

static void compare(const call *plain, const call *other) {
  for (int v = OUT; v < VIEWS; v++) {
    view_read(&plain->views[v], want), view_read(&other->views[v], got);
    same_bits(names[v], size_of(plain->views[v].tensor.dtype), got, want, plain->views[v].count);
    CHECK(bytes_spoilt(&other->views[v]) == 0, "bytes beside %s were written", names[v]);
  }
}

static void check_strides(void) {
  for (uint64_t seed = 0; seed < (is_light() ? 20 : 150); seed++) {
    static call plain, other;
    uint64_t r = seed + 300;
    sizes s = random_sizes(&r);
    smx_dtype dtype = float_dtypes[seed % 4];
    smx_set_num_threads(1);
    call_make(&plain, &s, dtype, 0, seed);
    CHECK(call_with(&plain, &plain.options) == SMX_OK, "%s", smx_last_error());
    for (uint64_t layout = 1; layout < 4; layout++) {
      smx_set_num_threads((int32_t)layout);
      call_make(&other, &s, dtype, layout + 4 * seed, seed);
      call_describe(&s, dtype, layout + 4 * seed, seed);
      CHECK(call_with(&other, &other.options) == SMX_OK, "%s", smx_last_error());
      compare(&plain, &other);
      call_free(&other);
    }
    call_free(&plain);
  }
  smx_set_num_threads(2);
}

/* -- guard pages
 * ------------------------------------------------------------------------------------ */

enum { SPACE = 4 << 20, GUARD = 256 << 10 };
static unsigned char *buffers[VIEWS + 1];

static void fault(int number) {
  (void)number;
  static const char text[] = "FAILED: a guard page was touched\n  ";
  ssize_t ignored = write(1, text, sizeof text - 1);
  ignored = write(1, context, strlen(context));
  ignored = write(1, "\n", 1);
  (void)ignored;
  _exit(1);
}

static void map_buffers(void) {
  for (int i = 0; i <= VIEWS; i++) {
    unsigned char *space =
        mmap(NULL, SPACE + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (space == MAP_FAILED) abort();
    buffers[i] = space + GUARD;
    if (mprotect(buffers[i], SPACE, PROT_READ | PROT_WRITE) != 0) abort();
  }
}

/* Contiguous operands, each with its end, or its start, `shift` elements from a guard. */
static void move(call *c, int at_end, int64_t shift) {
  for (int v = 0; v < VIEWS; v++) {
    view *w = &c->views[v];
    int64_t size = (int64_t)size_of(w->tensor.dtype), bytes = w->count * size;
    unsigned char *to = buffers[v] + (at_end ? SPACE - bytes - shift * size : shift * size);
    memcpy(to, w->tensor.data, (size_t)bytes);
    w->tensor.data = to;
    if (v < OUT) mprotect(buffers[v], SPACE, PROT_READ);
  }
}

static void check_guarded(const sizes *s, smx_dtype dtype, int at_end, int64_t shift,
                          uint64_t seed) {
  static call plain, moved;
  size_t need = 0;
  call_make(&plain, s, dtype, 0, seed), call_make(&moved, s, dtype, 0, seed);
  call_describe(s, dtype, 0, seed);
  CHECK(call_with(&plain, &plain.options) == SMX_OK, "%s", smx_last_error());
  move(&moved, at_end, shift);
  CHECK(workspace_of(&moved, &need) == SMX_OK && (need > 0 || s->queries == 0) && need <= SPACE &&
            need % 64 == 0,
        "%zu bytes", need);
  smx_additive_attention_options options = moved.options;
  options.workspace = buffers[VIEWS] + (at_end ? SPACE - need : 0);
  options.workspace_size = need;
  memset(options.workspace, CANARY, need);
  CHECK(call_with(&moved, &options) == SMX_OK, "%s", smx_last_error());
  for (int v = OUT; v < VIEWS; v++) {
    view_read(&plain.views[v], want);
    same_bits(names[v], size_of(plain.views[v].tensor.dtype), moved.views[v].tensor.data, want,
              plain.views[v].count);
  }
  for (int v = 0; v < OUT; v++) mprotect(buffers[v], SPACE, PROT_READ | PROT_WRITE);
  call_free(&plain), call_free(&moved);
}

static void check_guards(void) {
  map_buffers();
  signal(SIGSEGV, fault), signal(SIGBUS, fault);
  for (uint64_t seed = 0; seed < (is_light() ? 24 : 200); seed++) {
    uint64_t r = seed + 5000;
    sizes s = random_sizes(&r);
    smx_set_num_threads(1 + (int32_t)(seed % 3));
    check_guarded(&s, float_dtypes[seed % 4], seed / 4 % 2, seed % 3, seed);
  }
  signal(SIGSEGV, SIG_DFL), signal(SIGBUS, SIG_DFL);
}

/* -- errors
 * ----------------------------------------------------------------------------------------- */

static const sizes good = {2, 4, 2, 3, 5, 6, 8, 7, 9, 7, 0};
static call bad;
static const smx_tensor *operands[7];
static const smx_additive_attention_options *given;

static void begin(smx_dtype dtype) {
  call_free(&bad);
  call_make(&bad, &good, dtype, 0, 1);
  reset_outputs(&bad);
  for (int k = 0; k < 7; k++) operands[k] = &bad.views[k < 6 ? k : OUT].tensor;
  given = &bad.options;
}

static void expect(const char *place, smx_status wanted, const char *const *words) {
  size_t size = 4711;
  for (int k = 0; k < 2; k++) {
    const smx_tensor *const *o = operands;
    smx_status status = k ? smx_additive_attention_workspace_size(o[0], o[1], o[2], o[3], o[4],
                                                                  o[5], o[6], given, &size)
                          : smx_additive_attention(o[0], o[1], o[2], o[3], o[4], o[5], o[6], given);
    check(status == wanted, place, "status %d, not %d: %s", status, wanted, smx_last_error());
    for (int w = 0; status == wanted && words[w]; w++)
      check(strstr(smx_last_error(), words[w]) != NULL, place, "\"%s\" does not say \"%s\"",
            smx_last_error(), words[w]);
  }
  check(outputs_untouched(&bad) && size == 4711, place, "an output was written");
}

#define PLACE __FILE__ ":" CHECK_TEXT(__LINE__)
#define BAD(change, wanted, ...) \
  (begin(dtype), change, expect(PLACE, wanted, (const char *const[]){__VA_ARGS__, NULL}))
#define SHAPE(v, rank, ...) \
  (bad.views[v].tensor.ndim = rank, bad.views[v].tensor.shape = (const int64_t[]){__VA_ARGS__}, \
   bad.views[v].tensor.strides = NULL)

static void check_errors_of(smx_dtype dtype) {
  DESCRIBE("errors, %s", name_of(dtype));
  smx_dtype other = dtype == SMX_FLOAT32 ? SMX_FLOAT64 : SMX_FLOAT32;
  for (int k = 0; k < 7; k++) {
    int v = k < 6 ? k : OUT;
    BAD(operands[k] = NULL, SMX_ERROR_NULL, names[v], "is NULL");
    BAD(bad.views[v].tensor.data = NULL, SMX_ERROR_NULL, names[v], ".data is NULL");
    BAD(bad.views[v].tensor.dtype = 99, SMX_ERROR_DTYPE, names[v], "99");
    BAD(bad.views[v].tensor.ndim = -1, SMX_ERROR_SHAPE, names[v], "-1 axes");
    BAD(bad.views[v].tensor.dtype = v ? other : SMX_INT32, SMX_ERROR_DTYPE,
        v ? name_of(other) : "int32");
  }
  BAD(bad.options.size--, SMX_ERROR_SIZE, "options.size");
  BAD(bad.options.layout = 2, SMX_ERROR_VALUE, "layout");
  BAD(SHAPE(W_QUERY, 2, 9, 5), SMX_ERROR_SHAPE, "w_query", "(9, 5)", "query", "(2, 4, 3, 6)");
  BAD(SHAPE(W_QUERY, 3, 2, 9, 6), SMX_ERROR_SHAPE, "w_query", "(2, 9, 6)", "(Hq, A, Dq)");
  BAD(SHAPE(W_QUERY, 1, 6), SMX_ERROR_SHAPE, "w_query", "(6,)");
  BAD(SHAPE(W_QUERY, 2, 8, 6), SMX_ERROR_SHAPE, "w_key", "(2, 9, 8)", "w_query", "(8, 6)");
  BAD(SHAPE(W_KEY, 3, 4, 9, 8), SMX_ERROR_SHAPE, "w_key", "(4, 9, 8)", "key", "(2, 2, 5, 8)");
  BAD(SHAPE(W_KEY, 2, 9, 6), SMX_ERROR_SHAPE, "w_key", "(9, 6)", "key");
  BAD(SHAPE(VECTOR, 1, 8), SMX_ERROR_SHAPE, "v of shape (8,)", "w_query");
  BAD(SHAPE(VECTOR, 2, 2, 9), SMX_ERROR_SHAPE, "v of shape (2, 9)", "query");
  BAD(SHAPE(VECTOR, 0, 0), SMX_ERROR_SHAPE, "v of shape ()");
  BAD(SHAPE(KEY, 3, 2, 5, 8), SMX_ERROR_SHAPE, "key", "as many axes");
  BAD(SHAPE(KEY, 4, 3, 2, 5, 8), SMX_ERROR_SHAPE, "key", "batch");
  BAD(SHAPE(VALUE, 4, 2, 2, 4, 7), SMX_ERROR_SHAPE, "value", "(2, 2, 4, 7)");
  BAD(SHAPE(OUT, 4, 2, 4, 3, 6), SMX_ERROR_SHAPE, "out", "(2, 4, 3, 7)");
  BAD(SHAPE(LSE, 3, 2, 4, 5), SMX_ERROR_SHAPE, "lse");
  BAD(SHAPE(WEIGHTS, 4, 2, 4, 5, 3), SMX_ERROR_SHAPE, "weights");
  BAD(SHAPE(MASK, 2, 3, 4), SMX_ERROR_SHAPE, "mask", "(3, 4)", "(2, 4, 3, 5)");
  BAD(SHAPE(BIAS, 2, 2, 5), SMX_ERROR_SHAPE, "bias", "(2, 5)");
  BAD(bad.structure.size = 3, SMX_ERROR_SIZE, "size");
  for (int v = QUERY; v <= VECTOR; v++) {
    /* out over an operand, in its first bytes. */
    begin(dtype);
    void *place = bad.views[OUT].tensor.data;
    bad.views[v].tensor.data = place;
    expect(PLACE, SMX_ERROR_OVERLAP, (const char *const[]){"out", "overlaps", names[v], NULL});
    begin(dtype);
    bad.views[v].tensor.data = bad.views[LSE].tensor.data;
    expect(PLACE, SMX_ERROR_OVERLAP, (const char *const[]){"lse", "overlaps", names[v], NULL});
  }
  BAD(bad.views[OUT].strides[3] = 0, SMX_ERROR_OVERLAP, "out", "stride 0");
}

/* Sizes that no memory has, behind strides of 0. */
static void check_sizes(smx_dtype dtype) {
  static const int64_t none[4];
  static const int64_t keys[] = {2, 2, (int64_t)1 << 52, 8}, values[] = {2, 2, (int64_t)1 << 52, 7},
                       wide[] = {(int64_t)1 << 57, 6}, wide_key[] = {(int64_t)1 << 57, 8},
                       wide_v[] = {(int64_t)1 << 57};
  DESCRIBE("sizes, %s", name_of(dtype));
  begin(dtype);
  bad.views[KEY].tensor.shape = keys, bad.views[KEY].tensor.strides = none;
  bad.views[VALUE].tensor.shape = values, bad.views[VALUE].tensor.strides = none;
  bad.options.weights = bad.options.mask = bad.options.bias = NULL;
  expect(PLACE, SMX_ERROR_OVERFLOW,
         (const char *const[]){"query", "key", "4503599627370496", "w_query", "memory", NULL});
  begin(dtype);
  for (int v = W_QUERY; v <= VECTOR; v++) {
    bad.views[v].tensor.shape = v == W_QUERY ? wide : v == W_KEY ? wide_key : wide_v;
    bad.views[v].tensor.ndim = v == VECTOR ? 1 : 2, bad.views[v].tensor.strides = none;
  }
  expect(PLACE, SMX_ERROR_OVERFLOW,
         (const char *const[]){"w_query", "144115188075855872", "memory", NULL});
}

static void check_workspace(void) {
  static unsigned char space[1 << 20] __attribute__((aligned(64)));
  smx_dtype dtype = SMX_FLOAT32;
  size_t need = 0;
  DESCRIBE("workspace");
  begin(dtype);
  CHECK(workspace_of(&bad, &need) == SMX_OK && need > 0 && need <= sizeof space - 64, "%zu bytes",
        need);
  bad.options.workspace = space, bad.options.workspace_size = need - 1;
  CHECK(call_with(&bad, given) == SMX_ERROR_VALUE && strstr(smx_last_error(), "workspace_size"),
        "%s", smx_last_error());
  bad.options.workspace = space + 1, bad.options.workspace_size = need;
  CHECK(call_with(&bad, given) == SMX_ERROR_VALUE && strstr(smx_last_error(), "aligned"), "%s",
        smx_last_error());
  CHECK(outputs_untouched(&bad), "an output was written");
  bad.options.workspace = space;
  CHECK(call_with(&bad, given) == SMX_OK, "%s", smx_last_error());
  const smx_tensor *const *o = operands;
  CHECK(smx_additive_attention_workspace_size(o[0], o[1], o[2], o[3], o[4], o[5], o[6], given,
                                              NULL) == SMX_ERROR_NULL,
        "size NULL");
  CHECK(smx_additive_attention(o[0], o[1], o[2], o[3], o[4], o[5], o[6], NULL) == SMX_OK,
        "no options: %s", smx_last_error());
}

int main(void) {
  check_reference();
  check_strides();
  check_guards();
  for (int k = 0; k < 4; k++) check_errors_of(float_dtypes[k]), check_sizes(float_dtypes[k]);
  check_workspace();
  call_free(&bad);
  return finish("test_additive");
}
