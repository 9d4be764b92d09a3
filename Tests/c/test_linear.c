/* Cross-entropy of a linear layer: errors, with outputs untouched; operands in any layout, against
 * guard pages and with ignored tokens that cannot be read; memory. Values are for
 * python/tests/test_linear.py. */
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "linear.h"

static smx_status call_with(const problem *p, const smx_tensor *t[OPERANDS]) {
  smx_linear_cross_entropy_options options = p->options;
  options.bias = t[BIAS], options.lse = t[LSE];
  options.d_hidden = t[D_HIDDEN], options.d_weight = t[D_WEIGHT], options.d_bias = t[D_BIAS];
  return smx_linear_cross_entropy(t[HIDDEN], t[WEIGHT], t[TARGETS], t[LOSS], &options);
}

static smx_status call(const problem *p) {
  const smx_tensor *t[OPERANDS];
  for (int k = 0; k < OPERANDS; k++) t[k] = p->given >> k & 1 ? &p->views[k].tensor : NULL;
  return call_with(p, t);
}

static void check_same(const problem *p, const problem *plain) {
  for (int k = LOSS; k < OPERANDS; k++) {
    const view *v = &p->views[k], *of = &plain->views[k];
    size_t size = size_of(v->tensor.dtype);
    unsigned char *got = malloc(size * (size_t)v->count + 1),
                  *want = malloc(size * (size_t)v->count + 1);
    if (!got || !want) abort();
    view_read(v, got), view_read(of, want);
    if (p->given >> k & 1) same_bits(names[k], size, got, want, v->count);
    free(got), free(want);
  }
}

static const char *say(const problem *p) {
  static char text[256];
  snprintf(text, sizeof text,
           "%s, targets %s, N %" PRId64 ", D %" PRId64 ", V %" PRId64 ", reduction %d, given 0x%x",
           name_of(p->dtype), name_of(p->index), p->tokens, p->columns, p->classes,
           p->options.reduction, p->given);
  return text;
}

/* Around vectors of columns, blocks of tokens, and blocks and spans of classes. */
static const int64_t sizes[][3] = {{1, 1, 1},     {5, 16, 7},    {48, 8, 128}, {49, 17, 129},
                                   {50, 33, 300}, {97, 5, 2049}, {3, 130, 20}, {200, 16, 4100},
                                   {0, 3, 4},     {4, 0, 5},     {4, 3, 0},    {0, 0, 0}};
enum { SIZES = sizeof sizes / sizeof *sizes };

static problem problem_of(int n, uint64_t *random) {
  problem p = {.dtype = float_dtypes[random_below(random, 4)],
               .index = random_below(random, 2) ? SMX_INT32 : SMX_INT64,
               .tokens = sizes[n][0], .columns = sizes[n][1], .classes = sizes[n][2]};
  p.options =
      (smx_linear_cross_entropy_options){.size = sizeof p.options,
                                         .reduction = (smx_reduction)random_below(random, 3),
                                         .label_smoothing = random_below(random, 2) ? 0.1 : 0,
                                         .z_loss = random_below(random, 2) ? 1e-3 : 0};
  p.given = of_all;
  /* Any of what is optional. */
  int always = 1 << HIDDEN | 1 << WEIGHT | 1 << TARGETS | 1 << LOSS;
  if (random_below(random, 2)) p.given &= (int)(random_bits(random) >> 20) | always;
  if (!(p.given >> BIAS & 1)) p.given &= ~(1 << D_BIAS);
  return p;
}

/* -- layouts and threads ----------------------------------------------------------------------- */

static void check_layouts(void) {
  static const int32_t threads[] = {1, 2, 3, 7};
  uint64_t random = 1;
  for (int n = 0; n < SIZES * (is_light() ? 2 : 12); n++) {
    problem plain = problem_of(n % SIZES, &random), p = plain;
    make(&plain, 0);
    DESCRIBE("layouts: %s", say(&plain));
    smx_set_num_threads(1);
    CHECK(call(&plain) == SMX_OK, "%s", smx_last_error());
    for (int k = 0; k < 4; k++) {
      uint64_t layout = random_bits(&random) | 1;
      DESCRIBE("layout %" PRIu64 ", %d threads: %s", layout, threads[k], say(&p));
      make(&p, layout);
      smx_set_num_threads(threads[k]);
      CHECK(call(&p) == SMX_OK, "%s", smx_last_error());
      check_same(&p, &plain);
      for (int o = 0; o < OPERANDS; o++)
        CHECK(bytes_spoilt(&p.views[o]) == 0, "%s: bytes beside its elements were written",
              names[o]);
      release(&p);
    }
    release(&plain);
  }
}

/* -- guard pages ------------------------------------------------------------------------------- */

enum { PAGE = 4096, SPACE = 1 << 20 };

static void fault(int number) {
  (void)number;
  static const char text[] = "FAILED: a guard page was touched, or an input written\n  ";
  ssize_t ignored = write(1, text, sizeof text - 1);
  ignored = write(1, context, strlen(context));
  ignored = write(1, "\n", 1);
  (void)ignored;
  _exit(1);
}

static unsigned char *map_room(void) {
  unsigned char *room = mmap(NULL, SPACE + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) abort();
  return room + PAGE;
}

/* A contiguous operand against the end (or start) of its room, inputs read-only. */
static void move(view *v, unsigned char *room, int at_end, int is_input) {
  size_t bytes = (size_t)v->count * size_of(v->tensor.dtype);
  if (bytes > SPACE || mprotect(room, SPACE, PROT_READ | PROT_WRITE) != 0) abort();
  unsigned char *to = at_end ? room + SPACE - bytes : room;
  memcpy(to, v->tensor.data, bytes);
  v->tensor.data = to;
  if (is_input && mprotect(room, SPACE, PROT_READ) != 0) abort();
}

static void check_guards(void) {
  unsigned char *rooms[OPERANDS];
  uint64_t random = 2;
  for (int k = 0; k < OPERANDS; k++) rooms[k] = map_room();
  for (int n = 0; n < SIZES * (is_light() ? 4 : 16); n++) {
    problem plain = problem_of(n % SIZES, &random), p = plain;
    make(&plain, 0), make(&p, 0);
    DESCRIBE("guards: %s", say(&p));
    smx_set_num_threads(1 + n % 3);
    for (int k = 0; k < OPERANDS; k++) move(&p.views[k], rooms[k], n / SIZES % 2, k < LOSS);
    CHECK(call(&plain) == SMX_OK && call(&p) == SMX_OK, "%s", smx_last_error());
    check_same(&p, &plain);
    release(&plain), release(&p);
  }
}

/* Rows of hidden a page each, those of ignored tokens inaccessible. */
static void check_ignored(void) {
  for (int d = 0; d < 4; d++) {
    problem plain = {.dtype = float_dtypes[d],
                     .index = SMX_INT64,
                     .tokens = 60,
                     .columns = 20,
                     .classes = 150,
                     .given = of_all,
                     .options = {.size = sizeof plain.options}};
    problem p = plain;
    make(&plain, 0), make(&p, 0);
    DESCRIBE("ignored tokens: %s", say(&p));
    unsigned char *room = map_room();
    const unsigned char *rows = plain.views[HIDDEN].tensor.data;
    size_t bytes = 20 * size_of(p.dtype);
    if (mprotect(room, 60 * PAGE, PROT_READ | PROT_WRITE) != 0) abort();
    for (int i = 0; i < 60; i++) memcpy(room + i * PAGE, rows + i * bytes, bytes);
    for (int i = 2; i < 60; i += 3)
      if (mprotect(room + i * PAGE, PAGE, PROT_NONE) != 0) abort();
    p.views[HIDDEN].tensor.data = room, p.views[HIDDEN].strides[0] = PAGE;
    CHECK(call(&plain) == SMX_OK && call(&p) == SMX_OK, "%s", smx_last_error());
    check_same(&p, &plain);
    munmap(room - PAGE, SPACE + 2 * PAGE);
    release(&plain), release(&p);
  }
}

/* -- errors ------------------------------------------------------------------------------------ */

enum { N = 4, D = 3, V = 5 };
static problem good;
static smx_tensor tensors[OPERANDS];
static const smx_tensor *given[OPERANDS];

static void reset(smx_dtype dtype) {
  if (good.views[0].block) release(&good);
  good = (problem){.dtype = dtype, .index = SMX_INT64, .tokens = N, .columns = D, .classes = V};
  good.options = (smx_linear_cross_entropy_options){.size = sizeof good.options};
  make(&good, 0);
  for (int k = 0; k < OPERANDS; k++) tensors[k] = good.views[k].tensor, given[k] = &tensors[k];
}

static void expect(const char *place, smx_status want, const char *const *words) {
  smx_status got = call_with(&good, given);
  const char *sentence = smx_last_error();
  check(got == want, place, "status %d (%s), not %d: %s", got, smx_status_string(got), want,
        sentence);
  for (; got == want && *words; words++)
    check(strstr(sentence, *words) != NULL, place, "\"%s\" does not say \"%s\"", sentence, *words);
  for (int k = LOSS; k < OPERANDS; k++)
    for (size_t i = 0; i < good.views[k].bytes; i++)
      if (good.views[k].block[i] != CANARY) {
        check(0, place, "%s was written: %s", names[k], sentence);
        break;
      }
}

#define WORDS(...) \
  (const char *const[]) { __VA_ARGS__, NULL }
#define BAD(change, want, ...) \
  (reset(dtype), change, expect(__FILE__ ":" CHECK_TEXT(__LINE__), want, WORDS(__VA_ARGS__)))
#define SHAPE(k, rank, ...)                                                                        \
  (tensors[k].ndim = rank, tensors[k].shape = (const int64_t[]){__VA_ARGS__},                      \
   tensors[k].strides = NULL)

static void check_tensors(smx_dtype dtype) {
  static const int64_t negative[] = {-2, 3}, many[65] = {1},
                       huge[] = {(int64_t)1 << 40, (int64_t)1 << 40};
  smx_dtype wrong = dtype == SMX_FLOAT64 ? SMX_FLOAT32 : SMX_FLOAT64;
  for (int k = 0; k < OPERANDS; k++) {
    smx_tensor *t = &tensors[k];
    DESCRIBE("%s of %s", names[k], name_of(dtype));
    if (k < BIAS || k == LOSS) BAD(given[k] = NULL, SMX_ERROR_NULL, names[k], "is NULL");
    BAD(t->data = NULL, SMX_ERROR_NULL, names[k], ".data is NULL");
    if (t->ndim > 0) BAD(t->shape = NULL, SMX_ERROR_NULL, names[k], ".shape is NULL");
    BAD(t->dtype = 0, SMX_ERROR_DTYPE, names[k], "dtype 0");
    BAD(t->dtype = 99, SMX_ERROR_DTYPE, names[k], "dtype 99");
    BAD(t->dtype = SMX_BOOL, SMX_ERROR_DTYPE, names[k], "bool");
    if (k != HIDDEN) BAD(t->dtype = wrong, SMX_ERROR_DTYPE, names[k], name_of(wrong));
    BAD((t->ndim = -1), SMX_ERROR_SHAPE, names[k], "-1 axes");
    BAD((t->ndim = 65, t->shape = many), SMX_ERROR_SHAPE, names[k], "65 axes");
    BAD((t->ndim = 2, t->shape = negative), SMX_ERROR_SHAPE, names[k], "(-2, 3)");
    BAD((t->ndim = 2, t->shape = huge), SMX_ERROR_OVERFLOW, names[k], "1099511627776");
    BAD(SHAPE(k, 3, 1, 1, 1), SMX_ERROR_SHAPE, names[k], "(1, 1, 1)");
    BAD(SHAPE(k, 1, 7), SMX_ERROR_SHAPE, names[k], "(7,)");
    if (k != LOSS) BAD(SHAPE(k, 2, 7, 2), SMX_ERROR_SHAPE, k == HIDDEN ? "(7, 2)" : names[k]);
  }
  BAD(SHAPE(WEIGHT, 2, V, D + 1), SMX_ERROR_SHAPE, "weight of shape (5, 4)",
      "hidden of shape (4, 3)");
  BAD(SHAPE(TARGETS, 1, N + 1), SMX_ERROR_SHAPE, "targets of shape (5,)", "hidden of shape (4, 3)");
  BAD(SHAPE(BIAS, 1, N), SMX_ERROR_SHAPE, "bias of shape (4,)", "weight of shape (5, 3)");
  BAD(SHAPE(LOSS, 1, N), SMX_ERROR_SHAPE, "loss", "(4,)");
  BAD(SHAPE(LOSS, 1, 1), SMX_ERROR_SHAPE, "loss", "(1,)");
  BAD(good.options.reduction = SMX_NONE, SMX_ERROR_SHAPE, "loss of shape ()",
      "hidden of shape (4, 3)");
  BAD(SHAPE(LSE, 1, V), SMX_ERROR_SHAPE, "lse of shape (5,)", "hidden of shape (4, 3)");
  BAD(SHAPE(D_HIDDEN, 2, D, N), SMX_ERROR_SHAPE, "d_hidden of shape (3, 4)",
      "hidden of shape (4, 3)");
  BAD(SHAPE(D_WEIGHT, 2, D, V), SMX_ERROR_SHAPE, "d_weight of shape (3, 5)",
      "weight of shape (5, 3)");
  BAD(SHAPE(D_BIAS, 1, D), SMX_ERROR_SHAPE, "d_bias of shape (3,)", "weight of shape (5, 3)");
  BAD(given[BIAS] = NULL, SMX_ERROR_NULL, "d_bias", "bias is NULL");
  BAD(tensors[TARGETS].dtype = SMX_FLOAT32, SMX_ERROR_DTYPE, "targets has dtype float32", "int64");
}

static void check_numbers(smx_dtype dtype) {
  static const size_t option_sizes[] = {0, 8, sizeof good.options - 1, sizeof good.options + 8,
                                        SIZE_MAX};
  static const double unfit[] = {NAN, INFINITY, -INFINITY, -1, -1e-300};
  static const int64_t targets[] = {V, -1, -99, INT64_MAX, INT64_MIN, (int64_t)1 << 32};
  DESCRIBE("numbers of %s", name_of(dtype));
  for (int i = 0; i < 5; i++) {
    BAD(good.options.size = option_sizes[i], SMX_ERROR_SIZE, "options.size");
    BAD(good.options.label_smoothing = unfit[i], SMX_ERROR_VALUE, "label_smoothing", "0 to 1");
    BAD(good.options.z_loss = unfit[i], SMX_ERROR_VALUE, "z_loss");
    if (i < 3) BAD(good.options.grad_scale = unfit[i], SMX_ERROR_VALUE, "grad_scale");
  }
  BAD(good.options.label_smoothing = 1.0001, SMX_ERROR_VALUE, "label_smoothing");
  BAD(good.options.reduction = 3, SMX_ERROR_VALUE, "reduction");
  BAD(good.options.reduction = -1, SMX_ERROR_VALUE, "reduction");
  for (int i = 0; i < 6; i++) {
    char number[32];
    snprintf(number, sizeof number, "targets holds %" PRId64 " at 1", targets[i]);
    BAD(((int64_t *)tensors[TARGETS].data)[1] = targets[i], SMX_ERROR_VALUE, number, "5 classes");
  }
  /* -100 is a target like any other where another number is ignored. */
  BAD((good.options.has_ignore_index = 1, good.options.ignore_index = 2), SMX_ERROR_VALUE,
      "targets holds -100 at 2");
  BAD((given[BIAS] = given[D_BIAS] = given[D_HIDDEN] = given[D_WEIGHT] = NULL,
       SHAPE(HIDDEN, 2, N, 0), SHAPE(WEIGHT, 2, (int64_t)1 << 41, 0)),
      SMX_ERROR_MEMORY, "out of memory for a workspace: logits of weight", "(2199023255552, 0)");
  BAD((given[BIAS] = given[D_BIAS] = given[D_HIDDEN] = given[D_WEIGHT] = given[LSE] = NULL,
       SHAPE(TARGETS, 1, 0), SHAPE(HIDDEN, 2, 0, (int64_t)1 << 31),
       SHAPE(WEIGHT, 2, 0, (int64_t)1 << 31)),
      SMX_ERROR_OVERFLOW, "hidden", "2147483648");
}

static void check_places(smx_dtype dtype) {
  static const int64_t none[] = {0, 0};
  for (int o = LOSS; o < OPERANDS; o++) {
    DESCRIBE("%s of %s overlaps", names[o], name_of(dtype));
    for (int k = 0; k < OPERANDS; k++) {
      /* Of two outputs the later one is named first. */
      int first = k >= LOSS && k > o ? k : o;
      if (k != o)
        BAD(tensors[o].data = tensors[k].data, SMX_ERROR_OVERLAP, names[first],
            names[first == o ? k : o]);
    }
    if (o != LOSS) BAD(tensors[o].strides = none, SMX_ERROR_OVERLAP, names[o], "stride 0");
  }
}

/* -- memory ------------------------------------------------------------------------------------ */

/* One allocation, refused with every output untouched, whose size the number of tokens hardly
 * changes. */
static void check_memory(void) {
  long allocations, threads, few = 0;
  smx_set_num_threads(1);
  for (int n = 0; n < 2; n++) {
    problem p = {.dtype = SMX_FLOAT32,
                 .index = SMX_INT32,
                 .tokens = n ? 1000 : 192,
                 .columns = 16,
                 .classes = 3000,
                 .given = of_all,
                 .options = {.size = sizeof p.options}};
    make(&p, 0);
    DESCRIBE("memory: %s", say(&p));
    preload_begin(1, 1);
    smx_status status = call(&p);
    preload_end(&allocations, &threads);
    CHECK(status == SMX_ERROR_MEMORY && strstr(smx_last_error(), "(3000, 16)"), "status %d: %s",
          status, smx_last_error());
    for (int k = LOSS; k < OPERANDS; k++)
      for (size_t i = 0; i < p.views[k].bytes; i++)
        if (p.views[k].block[i] != CANARY) {
          CHECK(0, "%s was written", names[k]);
          break;
        }
    preload_begin(0, 1);
    status = call(&p);
    preload_end(&allocations, &threads);
    long bytes = preload_bytes();
    CHECK(status == SMX_OK && allocations == 1 && threads == 0, "status %d, %ld allocations",
          status, allocations);
    /* Logits of 192 tokens, parts of d_hidden of two spans, and less than a quarter of that for the
     * rest. */
    CHECK(bytes < 5 * (192 * 3000 + 2 * 192 * 16), "%ld bytes", bytes);
    if (n == 0) few = bytes;
    else CHECK(bytes - few <= 8 * (1000 - 192) + 64, "%ld bytes more", bytes - few);
    release(&p);
  }
}

int main(void) {
  signal(SIGSEGV, fault);
  signal(SIGBUS, fault);
  check_layouts();
  check_guards();
  check_ignored();
  for (int d = 0; d < 4; d++) {
    check_tensors(float_dtypes[d]);
    check_numbers(float_dtypes[d]);
    check_places(float_dtypes[d]);
  }
  check_memory();
  return finish("test_linear");
}
