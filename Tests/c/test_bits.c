/* The bits contract: the same values give the same bits for every number of threads, layout, batch
 * and place in it, in place, with masked elements appended, in any floating-point mode and from
 * many threads at once. What is compared with is always one thread and plain memory. */
#include <fenv.h>
#include <pthread.h>

#include "modes.h"
#include "scenario.h"

static const int thread_counts[] = {1, 2, 3, 7};

/* The outputs of a scenario in C order: out, then sign where there is one. */
static size_t read_outputs(const scenario *s, unsigned char *to) {
  size_t bytes = (size_t)s->out.count * size_of(s->dtype);
  view_read(&s->out, to);
  if (!s->arguments.sign) return bytes;
  view_read(&s->sign, to + bytes);
  return 2 * bytes;
}

static void run_into(const char *what, const scenario *s, unsigned char *to) {
  smx_status status = scenario_run(s);
  CHECK(status == SMX_OK, "%s: status %d: %s", what, status, smx_last_error());
  read_outputs(s, to);
}

static void compare_outputs(const char *what, const scenario *s, const unsigned char *want,
                            unsigned char *got) {
  scenario_describe(s);
  run_into(what, s, got);
  same_bits(what, size_of(s->dtype), got, want, s->out.count * (s->arguments.sign ? 2 : 1));
}

/* Moves every operand into memory laid out by `layout`. */
static void relayout(scenario *s, uint64_t layout) {
  const smx_tensor **operands[] = {&s->arguments.mask, &s->arguments.bias, &s->arguments.weights,
                                   &s->arguments.temperature};
  view *views[] = {&s->mask, &s->bias, &s->weights, &s->temperature}, old = s->x;
  old.tensor.shape = old.shape;
  old.tensor.strides = old.strides;
  view_copy(&s->x, &old, layout);
  view_free(&old);
  for (int i = 0; i < 4; i++) {
    if (!*operands[i]) continue;
    old = *views[i];
    old.tensor.shape = old.shape;
    old.tensor.strides = old.strides;
    view_copy(views[i], &old, layout ? layout + 2 + (uint64_t)i : 0);
    view_free(&old);
  }
  view_free(&s->out);
  view_free(&s->sign);
  make_outputs(s, layout);
}

static void check_layouts(uint64_t seed, int64_t longest) {
  static scenario s;
  scenario_make(&s, seed, longest);
  size_t bytes = (size_t)s.out.count * 2 * size_of(s.dtype) + 1;
  unsigned char *want = malloc(bytes), *got = malloc(bytes);
  if (!want || !got) abort();
  smx_set_num_threads(1);
  relayout(&s, 0);
  run_into("plain", &s, want);
  for (int t = 0; t < 4; t++) {
    smx_set_num_threads(thread_counts[t]);
    compare_outputs("threads", &s, want, got);
    relayout(&s, seed * 8 + (uint64_t)t * 2 + 1);
    compare_outputs("strided and unaligned", &s, want, got);
    relayout(&s, 0);
  }
  if (s.operation != LOGSUMEXP) {
    relayout(&s, seed | 1);
    view_free(&s.out);
    s.out = s.x;
    s.out.tensor.shape = s.out.shape;
    s.out.tensor.strides = s.out.strides;
    compare_outputs("in place", &s, want, got);
    s.out.block = NULL;
  }
  scenario_free(&s);
  free(want);
  free(got);
}

/* -- rows in a batch, and moved axes
 * ------------------------------------------------------------------ */

static void fill_row(smx_dtype dtype, unsigned char *row, int64_t n, uint64_t seed) {
  for (int64_t i = 0; i < n; i++) {
    store_as(dtype, row + i * size_of(dtype), random_between(&seed, -9, 9));
  }
}

static void check_batch(smx_dtype dtype, int operation, int64_t rows, int64_t cols) {
  size_t size = size_of(dtype);
  int64_t results = operation == LOGSUMEXP ? 1 : cols;
  unsigned char *x = malloc((size_t)(rows * cols) * size),
                *out = malloc((size_t)(rows * cols) * size);
  unsigned char *one = malloc((size_t)cols * size), *want = malloc((size_t)(rows * cols) * size);
  if (!x || !out || !one || !want) abort();
  DESCRIBE("%s of %s, %" PRId64 " rows of %" PRId64, operation_names[operation], name_of(dtype),
           rows, cols);
  fill_row(dtype, x, rows * cols, (uint64_t)(rows * 31 + cols));
  smx_set_num_threads(1);
  for (int64_t i = 0; i < rows; i++) {
    call_rows(operation, dtype, x + (size_t)(i * cols) * size, one, 1, cols);
    memcpy(want + (size_t)(i * results) * size, one, (size_t)results * size);
  }
  for (int t = 0; t < 4; t++) {
    smx_set_num_threads(thread_counts[t]);
    call_rows(operation, dtype, x, out, rows, cols);
    same_bits("in a batch", size, out, want, rows * results);
    /* Rows along axis 0: the transposed memory under the same shape. */
    unsigned char *moved = malloc((size_t)(rows * cols) * size);
    if (!moved) abort();
    for (int64_t i = 0; i < rows * cols; i++) {
      memcpy(moved + (size_t)(i % cols * rows + i / cols) * size, x + (size_t)i * size, size);
    }
    int64_t shape[] = {cols, rows}, flat[] = {rows},
            strides[] = {(int64_t)size, cols * (int64_t)size};
    int32_t axis = 0;
    smx_tensor input = {moved, dtype, 2, shape, NULL};
    smx_tensor output = {out, dtype, 2, shape, strides};
    if (operation == LOGSUMEXP) output = (smx_tensor){out, dtype, 1, flat, NULL};
    memset(out, CANARY, (size_t)(rows * cols) * size);
    call_tensor(operation, &input, &output, &(arguments){.axes = &axis, .axis_count = 1});
    same_bits("axis moved", size, out, want, rows * results);
    free(moved);
  }
  free(x), free(out), free(one), free(want);
}

/* -- right padding
 * ------------------------------------------------------------------------------------- */

/* A row of n, then the same row followed by `more` masked elements of garbage. */
static void check_padding(smx_dtype dtype, int operation, int64_t n, int64_t more) {
  enum { MOST = 10000 };
  static unsigned char x[MOST * 8], out[MOST * 8], want[MOST * 8], mask[MOST];
  size_t size = size_of(dtype);
  int64_t shape[] = {1, n + more}, one[] = {1};
  DESCRIBE("%s of %s, %" PRId64 " elements and %" PRId64 " masked", operation_names[operation],
           name_of(dtype), n, more);
  fill_row(dtype, x, n, (uint64_t)n);
  for (int64_t i = n; i < n + more; i++)
    store_as(dtype, x + (size_t)i * size, i % 3 ? NAN : INFINITY);
  call_rows(operation, dtype, x, want, 1, n);
  memset(mask, 1, (size_t)n);
  memset(mask + n, 0, (size_t)more);
  smx_tensor input = {x, dtype, 2, shape, NULL}, flags = {mask, SMX_BOOL, 2, shape, NULL};
  smx_tensor output = {out, dtype, operation == LOGSUMEXP ? 1 : 2,
                       operation == LOGSUMEXP ? one : shape, NULL};
  smx_tensor length = {&n, SMX_INT64, 0, NULL, NULL};
  smx_mask structure = {.size = sizeof structure, .key_lengths = &length};
  arguments choices[] = {
      {.mask = &flags}, {.structure = &structure}, {.mask = &flags, .structure = &structure}};
  int64_t results = operation == LOGSUMEXP ? 1 : n;
  for (int i = 0; i < 3; i++) {
    memset(out, CANARY, sizeof out);
    CHECK(call_tensor(operation, &input, &output, &choices[i]) == SMX_OK, "%s", smx_last_error());
    same_bits(i == 0 ? "mask" : i == 1 ? "key_lengths" : "both", size, out, want, results);
    if (operation == LOGSUMEXP) continue;
    int masked = 1;
    for (int64_t j = n; j < n + more; j++) {
      masked = masked &&
               load_as(dtype, out + (size_t)j * size) == (operation == SOFTMAX ? 0 : -INFINITY);
    }
    CHECK(masked, "a masked element is not empty");
  }
}

/* -- one long row
 * ---------------------------------------------------------------------------------------- */

static void check_long_row(smx_dtype dtype, int operation, int64_t n) {
  size_t size = size_of(dtype), bytes = (size_t)n * size;
  unsigned char *x = malloc(bytes), *out = malloc(bytes), *want = malloc(bytes);
  if (!x || !out || !want) abort();
  DESCRIBE("%s of %s, one row of %" PRId64, operation_names[operation], name_of(dtype), n);
  fill_row(dtype, x, n, (uint64_t)n + (uint64_t)operation);
  smx_set_num_threads(1);
  call_rows(operation, dtype, x, want, 1, n);
  for (int t = 1; t < 4; t++) {
    smx_set_num_threads(thread_counts[t]);
    memset(out, CANARY, bytes);
    call_rows(operation, dtype, x, out, 1, n);
    same_bits("threads in a row", size, out, want, operation == LOGSUMEXP ? 1 : n);
  }
  free(x), free(out), free(want);
}

/* One row over both axes of a structured mask: every element asks the structure, on several
 * threads. Often, because threads that share what they should not rarely meet. */
static void check_long_structure(void) {
  enum { KEYS = 100000 };
  static float x[2 * KEYS], out[2 * KEYS], want[2 * KEYS];
  int64_t shape[] = {2, KEYS}, length = KEYS / 2;
  smx_tensor input = {x, SMX_FLOAT32, 2, shape, NULL}, output = {out, SMX_FLOAT32, 2, shape, NULL};
  smx_tensor lengths = {&length, SMX_INT64, 0, NULL, NULL};
  smx_mask structure = {.size = sizeof structure, .key_lengths = &lengths};
  arguments a = {.all_axes = 1, .structure = &structure};
  fill_row(SMX_FLOAT32, (unsigned char *)x, 2 * KEYS, 3);
  smx_set_num_threads(1);
  call_tensor(SOFTMAX, &input, &output, &a);
  memcpy(want, out, sizeof want);
  for (int i = 0; i < (is_light() ? 3 : 100); i++) {
    smx_set_num_threads(thread_counts[1 + i % 3]);
    DESCRIBE("softmax of float32, 2 x %d over both axes, key_lengths, %d threads, call %d", KEYS,
             thread_counts[1 + i % 3], i);
    call_tensor(SOFTMAX, &input, &output, &a);
    same_bits("structure in a split row", 4, out, want, 2 * KEYS);
  }
}

/* -- floating-point modes
 * --------------------------------------------------------------------------------- */

static void check_modes(uint64_t seed) {
  static scenario s;
  static unsigned char want[1 << 18], got[1 << 18];
  scenario_make(&s, seed, seed % 16 ? 0 : 9000);
  if ((size_t)s.out.count * 16 <= sizeof want) {
    smx_set_num_threads(1);
    uint64_t standard = mode_now();
    run_into("standard mode", &s, want);
    for (size_t i = 0; i < sizeof other_modes / sizeof *other_modes; i++) {
      smx_set_num_threads(1 + (int)(i & 1));
      set_mode(other_modes[i]);
      smx_status status = scenario_run(&s);
      uint64_t after = mode_now();
      set_mode(standard);
      scenario_describe(&s);
      CHECK(status == SMX_OK && after == other_modes[i], "mode 0x%" PRIx64 " became 0x%" PRIx64,
            other_modes[i], after);
      size_t bytes = read_outputs(&s, got);
      same_bits("another mode", size_of(s.dtype), got, want, (int64_t)(bytes / size_of(s.dtype)));
    }
  }
  scenario_free(&s);
}

/* -- many callers at once
 * ----------------------------------------------------------------------------------- */

enum { CALLERS = 8, CALLS = 200, CALLER_ELEMENTS = 40000 };
static float shared_x[CALLER_ELEMENTS], shared_want[OPERATIONS][CALLER_ELEMENTS];

static void *call_often(void *argument) {
  float *out = malloc(sizeof shared_x);
  intptr_t wrong = 0;
  for (int i = 0; out && i < (is_light() ? 6 : CALLS); i++) {
    int operation = (i + (int)(intptr_t)argument) % OPERATIONS;
    int64_t rows = i % 2 ? 1 : 40, results = operation == LOGSUMEXP ? 1 : CALLER_ELEMENTS;
    memset(out, CANARY, sizeof shared_x);
    call_rows(operation, SMX_FLOAT32, shared_x, out, rows, CALLER_ELEMENTS / rows);
    /* Only the single long row is compared; the others keep the pool busy. */
    if (rows == 1) wrong += memcmp(out, shared_want[operation], (size_t)results * 4) != 0;
  }
  free(out);
  return (void *)wrong;
}

static void check_callers(void) {
  pthread_t callers[CALLERS];
  fill_row(SMX_FLOAT32, (unsigned char *)shared_x, CALLER_ELEMENTS, 5);
  smx_set_num_threads(1);
  for (int o = 0; o < OPERATIONS; o++)
    call_rows(o, SMX_FLOAT32, shared_x, shared_want[o], 1, CALLER_ELEMENTS);
  smx_set_num_threads(3);
  for (intptr_t i = 0; i < CALLERS; i++) pthread_create(&callers[i], NULL, call_often, (void *)i);
  DESCRIBE("%d threads call at once", CALLERS);
  for (int i = 0; i < CALLERS; i++) {
    void *wrong;
    pthread_join(callers[i], &wrong);
    CHECK(wrong == NULL, "thread %d had %ld wrong rows", i, (long)(intptr_t)wrong);
  }
}

int main(void) {
  int isLight = is_light();
  for (uint64_t seed = 1; seed <= (isLight ? 100 : 4000); seed++) check_layouts(seed, 0);
  for (uint64_t seed = 1; seed <= (isLight ? 6 : 200); seed++) check_layouts(2000000 + seed, 30000);
  for (int d = 0; d < 4; d++) {
    for (int o = 0; o < OPERATIONS; o++) {
      static const int64_t shapes[][2] = {{1, 1},    {5, 1},    {3, 16},   {17, 33},
                                          {64, 700}, {9, 4097}, {2, 50000}};
      for (int i = 0; i < (isLight ? 5 : 7); i++) {
        check_batch(float_dtypes[d], o, shapes[i][0], shapes[i][1]);
      }
      for (int64_t n = 1; n <= 50; n += isLight ? 13 : 1) {
        for (int64_t more = 1; more <= 65; more += 16) check_padding(float_dtypes[d], o, n, more);
      }
      for (int64_t n = 4094; n < 4099; n++) {
        check_padding(float_dtypes[d], o, n, 1);
        check_padding(float_dtypes[d], o, n, 4500);
      }
      check_long_row(float_dtypes[d], o, isLight ? (1 << 15) + 3 : (1 << 20) + 3);
    }
  }
  check_long_structure();
  for (uint64_t seed = 1; has_modes() && seed <= (isLight ? 20 : 600); seed++)
    check_modes(3000000 + seed);
  check_callers();
  return finish("test_bits");
}
