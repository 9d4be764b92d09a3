/* Every error of every function: its status, a sentence that names the argument and what disagrees,
 * and outputs in which no byte has changed. */
#include <pthread.h>

#include "values.h"

enum { BYTES = 4096, CANARY = 0xa5 };
static unsigned char x_bytes[BYTES], out_bytes[BYTES], sign_bytes[BYTES], other_bytes[BYTES];

static void reset_outputs(void) {
  memset(out_bytes, CANARY, BYTES);
  memset(sign_bytes, CANARY, BYTES);
}

static int outputs_untouched(void) {
  for (int i = 0; i < BYTES; i++) {
    if (out_bytes[i] != CANARY || sign_bytes[i] != CANARY) return 0;
  }
  return 1;
}

/* The sentence must hold every word of the list that ends with NULL. */
static void expect(const char *place, smx_status got, smx_status want, const char *const *words) {
  const char *sentence = smx_last_error();
  check(got == want, place, "status %d (%s), not %d: %s", got, smx_status_string(got), want,
        sentence);
  for (; got == want && *words; words++) {
    check(strstr(sentence, *words) != NULL, place, "\"%s\" does not say \"%s\"", sentence, *words);
  }
  check(outputs_untouched(), place, "an output was written: %s", sentence);
  reset_outputs();
}

#define EXPECT(call, want, ...) \
  expect(__FILE__ ":" CHECK_TEXT(__LINE__), call, want, (const char *const[]){__VA_ARGS__, NULL})

/* -- typed calls
 * --------------------------------------------------------------------------------------- */

static void check_typed(int operation, smx_dtype dtype) {
  DESCRIBE("typed %s of %s", operation_names[operation], name_of(dtype));
#define ROWS(x, out, rows, cols) call_rows(operation, dtype, x, out, rows, cols)
  EXPECT(ROWS(NULL, out_bytes, 2, 3), SMX_ERROR_NULL, "x is NULL");
  EXPECT(ROWS(x_bytes, NULL, 2, 3), SMX_ERROR_NULL, "out is NULL");
  EXPECT(ROWS(x_bytes, out_bytes, -1, 3), SMX_ERROR_SHAPE, "rows", "-1", "3");
  EXPECT(ROWS(x_bytes, out_bytes, 3, -2), SMX_ERROR_SHAPE, "cols", "3", "-2");
  EXPECT(ROWS(x_bytes, out_bytes, INT64_MIN, INT64_MIN), SMX_ERROR_SHAPE, "-9223372036854775808");
  EXPECT(ROWS(x_bytes, out_bytes, INT64_MAX, INT64_MAX), SMX_ERROR_OVERFLOW, "x",
         "9223372036854775807");
  EXPECT(ROWS(x_bytes, out_bytes, (int64_t)1 << 32, (int64_t)1 << 31), SMX_ERROR_OVERFLOW,
         "4294967296");
  EXPECT(ROWS(x_bytes, out_bytes, 1, INT64_MAX / 8), SMX_ERROR_OVERFLOW, "x", "memory");
  /* Empty is not an error, and NULL is where an empty array may lie. */
  EXPECT(ROWS(NULL, NULL, 0, 3), SMX_OK, "");
  EXPECT(ROWS(NULL, NULL, 0, 0), SMX_OK, "");
  if (operation == LOGSUMEXP) {
    EXPECT(ROWS(NULL, NULL, 3, 0), SMX_ERROR_NULL, "out is NULL");
    CHECK(ROWS(NULL, out_bytes, 1, 0) == SMX_OK && load_as(dtype, out_bytes) == -INFINITY,
          "logsumexp of an empty row");
    reset_outputs();
  } else {
    EXPECT(ROWS(NULL, NULL, 3, 0), SMX_OK, "");
    EXPECT(ROWS(x_bytes, out_bytes, 3, 0), SMX_OK, "");
  }
#undef ROWS
}

/* -- tensor calls
 * -------------------------------------------------------------------------------------- */

static const int64_t shape23[] = {2, 3}, shape2[] = {2}, shape3[] = {3}, shape32[] = {3, 2},
                     shape1[] = {1};
static const int64_t negative[] = {2, -3}, huge[] = {(int64_t)1 << 40, (int64_t)1 << 40};
static const int64_t large[] = {(int64_t)1 << 31, (int64_t)1 << 30}, many[65] = {1};

static smx_tensor of(void *data, smx_dtype dtype, int ndim, const int64_t *shape) {
  return (smx_tensor){data, dtype, ndim, shape, NULL};
}

/* A good call's operands: x (2, 3), out as the operation wants it. */
static smx_tensor good_x(smx_dtype dtype) { return of(x_bytes, dtype, 2, shape23); }
static smx_tensor good_out(int operation, smx_dtype dtype) {
  return operation == LOGSUMEXP ? of(out_bytes, dtype, 1, shape2)
                                : of(out_bytes, dtype, 2, shape23);
}

static void check_tensor(int operation, smx_dtype dtype, int isOut) {
  const char *name = isOut ? "out" : "x";
  smx_tensor x = good_x(dtype), out = good_out(operation, dtype), *bad = isOut ? &out : &x,
             good = *bad;
  arguments none = {0};
  DESCRIBE("%s of %s", name, operation_names[operation]);
#define BAD(change, want, ...)                                                \
  do {                                                                        \
    change;                                                                   \
    EXPECT(call_tensor(operation, &x, &out, &none), want, name, __VA_ARGS__); \
    *bad = good;                                                              \
  } while (0)
  BAD(bad->data = NULL, SMX_ERROR_NULL, ".data is NULL");
  BAD(bad->shape = NULL, SMX_ERROR_NULL, ".shape is NULL");
  BAD(bad->dtype = 0, SMX_ERROR_DTYPE, "dtype 0");
  BAD(bad->dtype = 20, SMX_ERROR_DTYPE, "dtype 20");
  BAD(bad->dtype = -1, SMX_ERROR_DTYPE, "dtype -1");
  BAD(bad->dtype = SMX_INT32, SMX_ERROR_DTYPE, "int32", isOut ? name_of(dtype) : "float");
  BAD(bad->dtype = SMX_BOOL, SMX_ERROR_DTYPE, "bool", isOut ? name_of(dtype) : "float");
  BAD(bad->ndim = -1, SMX_ERROR_SHAPE, "-1 axes");
  BAD((bad->ndim = 65, bad->shape = many), SMX_ERROR_SHAPE, "65 axes", "64");
  BAD((bad->ndim = 2, bad->shape = negative), SMX_ERROR_SHAPE, "negative", "(2, -3)");
  BAD((bad->ndim = 2, bad->shape = huge), SMX_ERROR_OVERFLOW, "(1099511627776, 1099511627776)");
  BAD((bad->ndim = 2, bad->shape = large), SMX_ERROR_OVERFLOW, "(2147483648, 1073741824)");
  if (isOut) {
    BAD((bad->ndim = 2, bad->shape = shape32), SMX_ERROR_SHAPE, "(3, 2)", "x", "(2, 3)");
    BAD((bad->ndim = 1, bad->shape = shape3), SMX_ERROR_SHAPE, "(3,)", "(2, 3)");
    BAD(bad->ndim = 0, SMX_ERROR_SHAPE, "()", "(2, 3)");
    int64_t zero[2] = {0, 4};
    BAD(bad->strides = zero, SMX_ERROR_OVERLAP, "stride 0", "axis 0");
    /* Over x, but one element on. */
    smx_tensor shifted = out;
    shifted.data = x_bytes + size_of(dtype);
    unsigned char before[BYTES];
    memcpy(before, x_bytes, BYTES);
    EXPECT(call_tensor(operation, &x, &shifted, &none), SMX_ERROR_OVERLAP, "out", "overlaps", "x");
    CHECK(memcmp(before, x_bytes, BYTES) == 0, "x was written");
    if (operation == LOGSUMEXP) {
      shifted.data = x_bytes;
      EXPECT(call_tensor(operation, &x, &shifted, &none), SMX_ERROR_OVERLAP, "out", "overlaps",
             "x");
    }
  }
#undef BAD
  EXPECT(call_tensor(operation, isOut ? &x : NULL, isOut ? NULL : &out, &none), SMX_ERROR_NULL,
         name, "is NULL");
}

static void check_options(int operation, smx_dtype dtype) {
  smx_tensor x = good_x(dtype), out = good_out(operation, dtype);
  DESCRIBE("options of %s", operation_names[operation]);
  static const size_t sizes[] = {0, 8, sizeof(smx_softmax_options) - 1,
                                 sizeof(smx_softmax_options) + 8, SIZE_MAX};
  for (int i = 0; i < 5; i++) {
    smx_softmax_options soft = {.size = sizes[i]};
    smx_logsumexp_options sum = {.size = sizes[i] == sizeof sum ? 1 : sizes[i]};
    if (operation == SOFTMAX) EXPECT(smx_softmax(&x, &out, &soft), SMX_ERROR_SIZE, "options.size");
    if (operation == LOG_SOFTMAX)
      EXPECT(smx_log_softmax(&x, &out, &soft), SMX_ERROR_SIZE, "options.size");
    if (operation == LOGSUMEXP)
      EXPECT(smx_logsumexp(&x, &out, &sum), SMX_ERROR_SIZE, "options.size");
  }
  static const struct {
    int32_t axes[2], count;
    const char *given, *other;
  } lists[] = {{{2}, 1, "axis 2", "(2, 3)"},
               {{-3}, 1, "axis -3", "(2, 3)"},
               {{INT32_MAX}, 1, "axis 2147483647", "(2, 3)"},
               {{INT32_MIN}, 1, "axis -2147483648", "(2, 3)"},
               {{1, 1}, 2, "axis 1", "twice"},
               {{1, -1}, 2, "axis -1", "twice"},
               {{0}, -1, "axis_count", "-1"}};
  for (int i = 0; i < 7; i++) {
    arguments a = {.axes = lists[i].axes, .axis_count = lists[i].count};
    EXPECT(call_tensor(operation, &x, &out, &a), SMX_ERROR_AXIS, lists[i].given, lists[i].other);
  }
  smx_tensor scalar = of(x_bytes, dtype, 0, NULL), single = of(out_bytes, dtype, 0, NULL);
  int32_t one = 1;
  EXPECT(call_tensor(operation, &scalar, &single, &(arguments){.axes = &one, .axis_count = 1}),
         SMX_ERROR_AXIS, "axis 1", "()");
}

/* mask, bias, weights, temperature, sign: one wrong thing each. */
static void check_operands(int operation, smx_dtype dtype) {
  smx_tensor x = good_x(dtype), out = good_out(operation, dtype), t;
  smx_dtype wrong = dtype == SMX_FLOAT64 ? SMX_FLOAT32 : SMX_FLOAT64;
  DESCRIBE("operands of %s of %s", operation_names[operation], name_of(dtype));
#define WITH(field, tensor, want, ...) \
  (t = tensor,                         \
   EXPECT(call_tensor(operation, &x, &out, &(arguments){.field = &t}), want, #field, __VA_ARGS__))
#define WHOLE(field, type)                                                           \
  WITH(field, of(NULL, type, 2, shape23), SMX_ERROR_NULL, "data is NULL", "(2, 3)"); \
  WITH(field, of(other_bytes, type, 2, NULL), SMX_ERROR_NULL, "shape is NULL");      \
  WITH(field, of(other_bytes, 99, 2, shape23), SMX_ERROR_DTYPE, "dtype 99");         \
  WITH(field, of(other_bytes, type, -2, shape23), SMX_ERROR_SHAPE, "-2 axes");       \
  WITH(field, of(other_bytes, type, 2, negative), SMX_ERROR_SHAPE, "(2, -3)");       \
  WITH(field, of(other_bytes, type, 2, huge), SMX_ERROR_OVERFLOW, "1099511627776");  \
  WITH(field, of(other_bytes, type, 2, shape32), SMX_ERROR_SHAPE, "(3, 2)", "(2, 3)")
  WHOLE(mask, SMX_BOOL);
  WITH(mask, of(other_bytes, dtype, 2, shape23), SMX_ERROR_DTYPE, name_of(dtype), "bool");
  WITH(mask, of(other_bytes, SMX_BOOL, 1, shape2), SMX_ERROR_SHAPE, "(2,)", "(2, 3)");
  WITH(mask, of(out_bytes, SMX_BOOL, 2, shape23), SMX_ERROR_OVERLAP, "out", "overlaps");
  WHOLE(bias, dtype);
  WITH(bias, of(other_bytes, wrong, 2, shape23), SMX_ERROR_DTYPE, name_of(wrong), name_of(dtype));
  WITH(bias, of(other_bytes, SMX_BOOL, 2, shape23), SMX_ERROR_DTYPE, "bool");
  WITH(bias, of(out_bytes + size_of(dtype), dtype, 2, shape23), SMX_ERROR_OVERLAP, "out",
       "overlaps");
  if (operation == LOGSUMEXP) {
    WHOLE(weights, dtype);
    WITH(weights, of(other_bytes, wrong, 2, shape23), SMX_ERROR_DTYPE, name_of(wrong),
         name_of(dtype));
    WITH(weights, of(out_bytes + size_of(dtype), dtype, 2, shape23), SMX_ERROR_OVERLAP, "out",
         "overlaps");
    WHOLE(sign, dtype);
    int64_t zero[] = {0};
    WITH(sign, of(sign_bytes, wrong, 1, shape2), SMX_ERROR_DTYPE, name_of(wrong), name_of(dtype));
    WITH(sign, of(sign_bytes, dtype, 1, shape3), SMX_ERROR_SHAPE, "(3,)", "(2, 3)");
    WITH(sign, of(sign_bytes, dtype, 1, shape1), SMX_ERROR_SHAPE, "(1,)", "(2, 3)");
    WITH(sign, ((smx_tensor){sign_bytes, dtype, 1, shape2, zero}), SMX_ERROR_OVERLAP, "stride 0");
    WITH(sign, of(x_bytes, dtype, 1, shape2), SMX_ERROR_OVERLAP, "overlaps", "x");
    WITH(sign, of(out_bytes + size_of(dtype), dtype, 1, shape2), SMX_ERROR_OVERLAP, "overlaps",
         "out");
    WITH(sign, out, SMX_ERROR_OVERLAP, "out");
    /* Over another input. */
    smx_tensor weights = of(sign_bytes, dtype, 2, shape23), sign = of(sign_bytes, dtype, 1, shape2);
    EXPECT(call_tensor(operation, &x, &out, &(arguments){.weights = &weights, .sign = &sign}),
           SMX_ERROR_OVERLAP, "sign", "overlaps", "weights");
    return;
  }
  WHOLE(temperature, dtype);
  WITH(temperature, of(other_bytes, SMX_INT32, 0, NULL), SMX_ERROR_DTYPE, "int32", "float");
  WITH(temperature, of(other_bytes, SMX_BOOL, 0, NULL), SMX_ERROR_DTYPE, "bool", "float");
  WITH(temperature, of(other_bytes, dtype, 1, shape3), SMX_ERROR_SHAPE, "(3,)", "(2, 3)");
  WITH(temperature, of(other_bytes, dtype, 2, shape23), SMX_ERROR_SHAPE, "(2, 3)");
  static const double values[] = {-1, -1e-7, -INFINITY, NAN};
  for (int i = 0; i < 8; i++) {
    for (int d = 0; d < 4; d++) {
      /* As one number, and as the last of two. */
      double kind[2] = {1, 1};
      unsigned char two[16];
      kind[i / 4] = values[i % 4];
      store_as(float_dtypes[d], two, kind[0]);
      store_as(float_dtypes[d], two + size_of(float_dtypes[d]), kind[1]);
      WITH(temperature, of(two, float_dtypes[d], 1, shape2), SMX_ERROR_VALUE, "negative", "NaN");
      if (i < 4)
        WITH(temperature, of(two, float_dtypes[d], 0, NULL), SMX_ERROR_VALUE, "negative", "NaN");
    }
  }
  WITH(temperature, of(out_bytes, dtype, 0, NULL), SMX_ERROR_VALUE, "negative");
#undef WITH
#undef WHOLE
}

/* -- threads, statuses, versions
 * -------------------------------------------------------------------------- */

static void check_small_functions(void) {
  static const smx_status statuses[] = {SMX_OK,
                                        SMX_ERROR_NULL,
                                        SMX_ERROR_SIZE,
                                        SMX_ERROR_DTYPE,
                                        SMX_ERROR_SHAPE,
                                        SMX_ERROR_AXIS,
                                        SMX_ERROR_VALUE,
                                        SMX_ERROR_OVERLAP,
                                        SMX_ERROR_OVERFLOW,
                                        SMX_ERROR_ISA,
                                        SMX_ERROR_THREADS,
                                        SMX_ERROR_MEMORY,
                                        9,
                                        -1,
                                        INT32_MAX,
                                        INT32_MIN};
  DESCRIBE("small functions");
  for (int i = 0; i < 16; i++) {
    const char *text = smx_status_string(statuses[i]);
    CHECK(text && *text, "status %d has no text", statuses[i]);
    CHECK((strstr(text, "unknown status") != NULL) == (i >= 12), "status %d is \"%s\"", statuses[i],
          text);
    for (int j = 0; j < i && i < 12; j++)
      CHECK(strcmp(text, smx_status_string(statuses[j])), "\"%s\" twice", text);
  }
  int32_t count = 77, previous = 77;
  static const int32_t wrong[] = {0, -1, 257, INT32_MAX, INT32_MIN};
  for (int i = 0; i < 5; i++) {
    char number[16];
    snprintf(number, sizeof number, "%d", wrong[i]);
    EXPECT(smx_set_num_threads(wrong[i]), SMX_ERROR_VALUE, "count", number, "256");
    if (wrong[i] == 0) continue;
    EXPECT(smx_set_num_threads_local(wrong[i], &previous), SMX_ERROR_VALUE, "count", number, "256");
    CHECK(previous == 77, "previous was written");
  }
  EXPECT(smx_get_num_threads(NULL), SMX_ERROR_NULL, "count is NULL");
  EXPECT(smx_isa(NULL), SMX_ERROR_NULL, "name is NULL");
  CHECK(smx_set_num_threads(256) == SMX_OK && smx_get_num_threads(&count) == SMX_OK && count == 256,
        "256 threads");
  CHECK(smx_set_num_threads_local(5, &previous) == SMX_OK && previous == 0, "previous is %d, not 0",
        previous);
  CHECK(smx_get_num_threads(&count) == SMX_OK && count == 5, "this thread's count is %d, not 5",
        count);
  CHECK(smx_set_num_threads_local(0, NULL) == SMX_OK && smx_get_num_threads(&count) == SMX_OK &&
            count == 256,
        "the process's count is %d, not 256", count);
  CHECK(smx_set_num_threads(1) == SMX_OK, "one thread");
  CHECK(smx_isa_supported(NULL) == -1 && smx_isa_supported("") == -1 &&
            smx_isa_supported("V3") == -1 && smx_isa_supported("v33") == -1,
        "unknown names");
  CHECK(smx_isa_supported(isa_in_use()) == 1, "the instruction set in use runs here");
  char version[32];
  snprintf(version, sizeof version, "%d.%d.%d", SMX_VERSION_MAJOR, SMX_VERSION_MINOR,
           SMX_VERSION_PATCH);
  CHECK(strcmp(smx_version(), version) == 0, "version %s, header %s", smx_version(), version);
}

/* A thread starts with no error, and its errors are its own. */
static void *fail_elsewhere(void *argument) {
  int *ok = argument;
  *ok = smx_last_error() && !*smx_last_error();
  smx_set_num_threads(-5);
  *ok = *ok && strstr(smx_last_error(), "-5");
  return NULL;
}

static void check_sentence(void) {
  pthread_t thread;
  int ok = 0;
  char before[512];
  EXPECT(smx_set_num_threads(-4), SMX_ERROR_VALUE, "-4");
  snprintf(before, sizeof before, "%s", smx_last_error());
  pthread_create(&thread, NULL, fail_elsewhere, &ok);
  pthread_join(thread, NULL);
  CHECK(ok, "another thread has its own sentence");
  CHECK(strcmp(before, smx_last_error()) == 0, "another thread's error shows here");
  /* 64 long lengths do not fit into the sentence: cut, not overrun. */
  int64_t long_shape[64];
  for (int i = 0; i < 64; i++) long_shape[i] = INT64_MAX;
  smx_tensor x = of(x_bytes, SMX_FLOAT32, 64, long_shape);
  EXPECT(smx_softmax(&x, &x, NULL), SMX_ERROR_OVERFLOW, "x", "9223372036854775807");
  CHECK(strlen(smx_last_error()) == 511, "%zu bytes, not 511", strlen(smx_last_error()));
}

int main(void) {
  reset_outputs();
  for (int o = 0; o < OPERATIONS; o++) {
    for (int d = 0; d < 4; d++) {
      check_typed(o, float_dtypes[d]);
      check_tensor(o, float_dtypes[d], 0);
      check_tensor(o, float_dtypes[d], 1);
      check_options(o, float_dtypes[d]);
      check_operands(o, float_dtypes[d]);
    }
  }
  check_small_functions();
  check_sentence();
  return finish("test_errors");
}
