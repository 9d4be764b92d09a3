/* Scores far apart give weights from 1 down to where float32 and float64 have subnormal numbers,
 * and each of those costs some hundred cycles where it is multiplied or comes out of a product:
 * attention took a hundred times as long as with scores near one another, softmax fifteen times.
 * Attention's weights below 2^-100 (2^-960) count as 0; rows leave out of their sums what could not
 * be seen there, and build subnormal results otherwise (FarResults.swift). Here the processor's
 * flags say whether a subnormal number was met; that needs x86-64. Which bits this gives is among
 * the golden cases ("far"). */
#include <stdlib.h>
#include <string.h>

#include "values.h"
#include "view.h"

#if defined(__x86_64__)
#include <immintrin.h>
enum { MET = 0x0002, MADE = 0x0010, RAISED = 0x003f, HAS_FLAG = 1 };
static void lower(void) { _mm_setcsr(_mm_getcsr() & ~(unsigned)RAISED); }
static int is_raised(int flags) { return (_mm_getcsr() & (unsigned)flags) != 0; }
#else
enum { MET = 0, MADE = 0, HAS_FLAG = 0 };
static void lower(void) {}
static int is_raised(int flags) { return flags & 0; }
#endif

enum { MOST = 1 << 17, ARRAYS = 9, ROWS = 7 };
static _Alignas(64) unsigned char storage[ARRAYS][MOST * 8];

static smx_tensor operand(int which, smx_dtype dtype, int rank, const int64_t *shape, double most) {
  smx_tensor t = {storage[which], dtype, rank, shape, NULL};
  uint64_t random = 29 + (uint64_t)which;
  int64_t count = count_of(rank, shape);
  if (count > MOST) abort();
  for (int64_t i = 0; i < count; i++)
    store_as(dtype, storage[which] + i * (int64_t)size_of(dtype),
             random_between(&random, 0.5, 1) * (random_below(&random, 2) ? most : -most));
  return t;
}

static smx_dtype single(smx_dtype dtype) {
  return dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32;
}

#define WITHOUT_FLAGS(flags, call)                                          \
  do {                                                                      \
    lower();                                                                \
    smx_status status = call;                                               \
    int met = is_raised(flags);                                             \
    CHECK(status == SMX_OK, "%s", smx_last_error());                        \
    CHECK(!met, "%s met a subnormal number", #call);                        \
  } while (0)
#define WITHOUT(call) WITHOUT_FLAGS(MET, call)

/* Scores are sums of 64 products; `far` is their scale. */
static void check_attention(smx_dtype dtype, int64_t queries, int64_t keys, double far) {
  const int64_t q[] = {1, 1, queries, 64}, k[] = {1, 1, keys, 64}, s[] = {1, 1, queries};
  smx_tensor query = operand(0, dtype, 4, q, 1), key = operand(1, dtype, 4, k, 1),
             value = operand(2, dtype, 4, k, 1), out = operand(3, dtype, 4, q, 1),
             lse = operand(4, single(dtype), 3, s, 1), d_out = operand(5, dtype, 4, q, 1),
             d_query = operand(6, dtype, 4, q, 1), d_key = operand(7, dtype, 4, k, 1),
             d_value = operand(8, dtype, 4, k, 1);
  smx_attention_options options = {
      .size = sizeof options, .has_scale = 1, .scale = far, .lse = &lse};
  smx_attention_gradients gradients = {
      .size = sizeof gradients, .d_query = &d_query, .d_key = &d_key, .d_value = &d_value};
  DESCRIBE("attention %s, %" PRId64 " queries, %" PRId64 " keys, scale %g", name_of(dtype), queries,
           keys, far);
  WITHOUT(smx_attention(&query, &key, &value, &out, &options));
  options.lse = NULL;
  if (queries >= 48)
    WITHOUT(
        smx_attention_vjp(&d_out, &query, &key, &value, &out, &lse, &gradients, &options));
}

static void check_linear(smx_dtype dtype, double far) {
  const int64_t h[] = {48, 16}, w[] = {1024, 16}, t[] = {48};
  static int64_t of_targets[48];
  for (int64_t i = 0; i < t[0]; i++) of_targets[i] = i * 21;
  smx_tensor hidden = operand(0, dtype, 2, h, far), weight = operand(1, dtype, 2, w, 1),
             loss = operand(2, single(dtype), 0, NULL, 1), d_hidden = operand(3, dtype, 2, h, 1),
             d_weight = operand(4, dtype, 2, w, 1),
             targets = {of_targets, SMX_INT64, 1, t, NULL};
  smx_linear_cross_entropy_options options = {
      .size = sizeof options, .d_hidden = &d_hidden, .d_weight = &d_weight};
  DESCRIBE("linear cross-entropy %s, %g", name_of(dtype), far);
  WITHOUT(smx_linear_cross_entropy(&hidden, &weight, &targets, &loss, &options));
}

/* Rows of logits from -far to 0 in every form, whole vectors of them; two are 0, so that the sum's
 * logarithm is no subnormal number either. (Of float64 rows the sum's lower part may be one, and
 * narrow results are compared with themselves.) */
static void check_rows(smx_dtype dtype, int64_t cols, double far) {
  const int64_t shape[] = {ROWS, cols};
  static int64_t of_targets[ROWS];
  double temperature = 1.25;
  smx_tensor x = operand(0, dtype, 2, shape, 1), out = operand(1, dtype, 2, shape, 1),
             bias = operand(2, dtype, 2, shape, 1), sum = operand(4, dtype, 1, shape, 1),
             loss = operand(3, single(dtype), 1, shape, 1),
             targets = {of_targets, SMX_INT64, 1, shape, NULL},
             factor = {&temperature, SMX_FLOAT64, 0, NULL, NULL};
  uint64_t random = 31 + (uint64_t)cols;
  for (int64_t i = 0; i < ROWS * cols; i++)
    store_as(dtype, storage[0] + i * (int64_t)size_of(dtype),
             i % cols < 2 ? 0 : random_between(&random, -far, 0));
  smx_softmax_options warm = {.size = sizeof warm, .temperature = &factor},
                      biased = {.size = sizeof biased, .bias = &bias};
  smx_cross_entropy_options losses = {.size = sizeof losses, .reduction = SMX_NONE};
  DESCRIBE("%s rows of %" PRId64 ", far %g", name_of(dtype), cols, far);
  if (dtype == SMX_FLOAT32) {
    WITHOUT(smx_logsumexp(&x, &sum, NULL));
    WITHOUT(smx_log_softmax(&x, &out, NULL));
    WITHOUT(smx_log_softmax(&x, &out, &warm));
    WITHOUT(smx_log_softmax(&x, &out, &biased));
  }
  /* Here a few elements, looked at before, decide; and x86-64-v2 does without. */
  if (cols < 10000 || far > (dtype == SMX_FLOAT64 ? 1024 : 256) || !strcmp(isa_in_use(), "v2"))
    return;
  WITHOUT_FLAGS(MET | MADE, smx_softmax(&x, &out, NULL));
  WITHOUT_FLAGS(MET | MADE, smx_softmax(&x, &out, &warm));
  WITHOUT_FLAGS(MET | MADE, smx_softmax(&x, &out, &biased));
  losses.grad = &out;
  WITHOUT_FLAGS(MET | MADE, smx_cross_entropy(&x, &targets, &loss, &losses));
}

/* What the flag is worth: a softmax of such scores has subnormal results, and raises it where too
 * few of them are there to be looked for. */
static void check_flag(void) {
  const int64_t shape[] = {64};
  smx_tensor x = operand(0, SMX_FLOAT32, 1, shape, 1), out = operand(1, SMX_FLOAT32, 1, shape, 1);
  for (int i = 0; i < 64; i++) ((float *)(void *)storage[0])[i] = -1.5f * (float)i;
  lower();
  CHECK(smx_softmax(&x, &out, NULL) == SMX_OK, "%s", smx_last_error());
  CHECK(!HAS_FLAG || is_raised(MET | MADE), "the flag is not raised");
  CHECK(!HAS_FLAG || ((float *)(void *)storage[1])[62] > 0, "no subnormal result");
}

int main(void) {
  static const int64_t lengths[][2] = {{1, 256}, {4, 1024}, {48, 64}, {48, 256}, {96, 1088}};
  smx_set_num_threads(1);
  check_flag();
  for (int d = 0; d < 4; d++) {
    /* x86-64-v2 widens float16's own subnormal numbers as float32's. */
    if (float_dtypes[d] == SMX_FLOAT16 && !strcmp(isa_in_use(), "v2")) continue;
    for (double far = 0.5; far <= 256; far *= 2) {
      for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        check_attention(float_dtypes[d], lengths[i][0], lengths[i][1], far);
      check_linear(float_dtypes[d], far);
    }
    if (float_dtypes[d] != single(float_dtypes[d])) continue;
    for (double far = 128; far <= 4096; far *= 2)
      for (int64_t cols = 16; cols < 12000; cols *= 3)
        check_rows(float_dtypes[d], cols, float_dtypes[d] == SMX_FLOAT64 ? 8 * far : far);
  }
  return finish("test_far_scores");
}
