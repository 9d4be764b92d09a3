/* What the stack and a workspace hold from before must not be computed with. In lanes that belong
 * to no row it would show in no result, but each subnormal number there costs some hundred cycles:
 * the same softmax took 0.31 ns an element or 0.56, as what had run before would have it. Here
 * memory is full of subnormal numbers, and the processor's flag says whether one was met, though
 * none is where memory is full of zeros. Only x86-64 has that flag at hand: elsewhere no check of
 * this program can fail but for the calls' statuses. */
#include <alloca.h>
#include <stdlib.h>

#include "values.h"
#include "view.h"

#if defined(__x86_64__)
#include <immintrin.h>
enum { MET = 0x0002, RAISED = 0x003f };
static void lower(void) { _mm_setcsr(_mm_getcsr() & ~(unsigned)RAISED); }
static int is_raised(void) { return (_mm_getcsr() & MET) != 0; }
#else
static void lower(void) {}
static int is_raised(void) { return 0; }
#endif

enum { LEFT = 512 << 10, MOST = 1 << 17 };
static unsigned char storage[8][MOST * 8];
static _Alignas(64) unsigned char workspace[16 << 20];
static size_t used; /* of the workspace by the calls of a case */
static const int32_t subnormal = 0x00010001; /* as 16, 32 and 64 bits */
static long baseline;

/* Where the stack of the call behind it will be, and in the workspace. */
static __attribute__((noinline)) void fill(int32_t with) {
  volatile int32_t *p = alloca(LEFT);
  for (int i = 0; i < LEFT / 4; i++) p[i] = with;
  int32_t *q = (int32_t *)(void *)workspace;
  for (size_t i = 0; i < used / 4; i++) q[i] = with;
}

static smx_tensor operand(int which, smx_dtype dtype, int rank, const int64_t *shape) {
  smx_tensor t = {storage[which], dtype, rank, shape, NULL};
  uint64_t random = 17 + (uint64_t)which;
  int64_t count = count_of(rank, shape);
  if (count > MOST) abort();
  for (int64_t i = 0; i < count; i++) {
    double value = random_between(&random, 0.125, 1);
    store_as(dtype, storage[which] + i * (int64_t)size_of(dtype), value);
  }
  return t;
}

#define CLEAN(call)                                                               \
  do {                                                                            \
    int met[2];                                                                   \
    for (int i = 0; i < 2; i++) {                                                 \
      fill(i ? subnormal : 0);                                                    \
      lower();                                                                    \
      smx_status status = call;                                                   \
      met[i] = is_raised();                                                       \
      CHECK(status == SMX_OK, "%s", smx_last_error());                            \
    }                                                                             \
    baseline += met[0];                                                           \
    CHECK(!met[1] || met[0], "%s met a subnormal number that is not its own", #call); \
  } while (0)

static void check_rows(smx_dtype dtype, int64_t rows, int64_t cols, int32_t axis_number) {
  int64_t shape[] = {rows, cols}, kept[] = {axis_number == 1 ? rows : cols};
  int64_t classes = axis_number == 1 ? cols : rows;
  smx_dtype single = dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32;
  smx_tensor x = operand(0, dtype, 2, shape), y = operand(1, dtype, 2, shape),
             out = operand(2, dtype, 2, shape), each = operand(3, dtype, 1, kept),
             dy = operand(4, dtype, 1, kept), bias = operand(5, single, 2, shape),
             loss = operand(6, single, 0, NULL), entropy = operand(7, single, 1, kept);
  static int64_t of_targets[MOST];
  for (int64_t i = 0; i < kept[0]; i++) of_targets[i] = i % classes;
  smx_tensor targets = {of_targets, SMX_INT64, 1, kept, NULL};
  double number = 2;
  smx_tensor warm = {&number, SMX_FLOAT64, 0, NULL, NULL};
  DESCRIBE("%s %" PRId64 " x %" PRId64 ", axis %d", name_of(dtype), rows, cols, axis_number);
  smx_softmax_options plain = {.size = sizeof plain, .axes = &axis_number, .axis_count = 1},
                      biased = plain, scaled = plain;
  biased.bias = &bias, scaled.temperature = &warm;
  smx_logsumexp_options sum = {.size = sizeof sum, .axes = &axis_number, .axis_count = 1};
  CLEAN(smx_softmax(&x, &out, &plain));
  CLEAN(smx_log_softmax(&x, &out, &plain));
  CLEAN(smx_softmax(&x, &out, &biased));
  CLEAN(smx_softmax(&x, &out, &scaled));
  CLEAN(smx_logsumexp(&x, &each, &sum));
  CLEAN(smx_softmax_vjp(&x, &y, &out, &plain));
  CLEAN(smx_log_softmax_vjp(&x, &y, &out, &plain));
  CLEAN(smx_logsumexp_vjp(&x, &dy, &out, &sum));
  smx_cross_entropy_options cross = {.size = sizeof cross, .axis = &axis_number, .grad = &out};
  CLEAN(smx_cross_entropy(&x, &targets, &loss, &cross));
  cross.label_smoothing = 0.1;
  CLEAN(smx_cross_entropy(&x, &targets, &loss, &cross));
  CLEAN(smx_cross_entropy(&x, &y, &loss, &cross));
  smx_divergence_options logits = {sizeof logits, &axis_number, 1, 1};
  CLEAN(smx_entropy(&x, &entropy, &logits));
  CLEAN(smx_kl_divergence(&x, &y, &entropy, &logits));
}

static void check_decoding(smx_dtype dtype, int64_t rows, int64_t cols) {
  int64_t shape[] = {rows, cols}, each[] = {rows}, best[] = {rows, cols < 5 ? cols : 5};
  smx_tensor x = operand(0, dtype, 2, shape), out = operand(1, dtype, 2, shape),
             found = operand(2, dtype, 2, best);
  smx_tensor tokens = {storage[3], SMX_INT64, 1, each, NULL},
             places = {storage[3], SMX_INT64, 2, best, NULL};
  smx_gumbel_softmax_options noise = {.size = sizeof noise, .workspace = workspace,
                                      .workspace_size = sizeof workspace};
  used = 1 << 16;
  DESCRIBE("decoding %s %" PRId64 " x %" PRId64, name_of(dtype), rows, cols);
  CLEAN(smx_sample(&x, &tokens, NULL));
  CLEAN(smx_top_k(&x, &found, &places, NULL));
  CLEAN(smx_filtered_softmax(&x, &out, NULL));
  CLEAN(smx_gumbel_softmax(&x, &out, &noise));
  CLEAN(smx_sigmoid(&x, &out));
  CLEAN(smx_log_sigmoid(&x, &out));
}

static void check_linear(smx_dtype dtype, int64_t tokens, int64_t columns, int64_t classes) {
  int64_t h[] = {tokens, columns}, w[] = {classes, columns}, t[] = {tokens};
  smx_dtype single = dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32;
  smx_tensor hidden = operand(0, dtype, 2, h), weight = operand(1, dtype, 2, w),
             loss = operand(2, single, 0, NULL), d_hidden = operand(3, dtype, 2, h),
             d_weight = operand(4, dtype, 2, w);
  static int64_t of_targets[1000];
  for (int64_t i = 0; i < tokens; i++) of_targets[i] = i % classes;
  smx_tensor targets = {of_targets, SMX_INT64, 1, t, NULL};
  smx_linear_cross_entropy_options o = {.size = sizeof o, .d_hidden = &d_hidden,
                                        .d_weight = &d_weight, .workspace = workspace,
                                        .workspace_size = sizeof workspace};
  used = 1 << 22;
  DESCRIBE("linear %s %" PRId64 " x %" PRId64 " x %" PRId64, name_of(dtype), tokens, columns,
           classes);
  CLEAN(smx_linear_cross_entropy(&hidden, &weight, &targets, &loss, &o));
}

static void check_attention(smx_dtype dtype, int64_t lq, int64_t lk, int64_t size, int is_causal) {
  const int64_t q[] = {1, 2, lq, size}, k[] = {1, 2, lk, size}, s[] = {1, 2, lq};
  smx_dtype single = dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32;
  smx_tensor query = operand(0, dtype, 4, q), key = operand(1, dtype, 4, k),
             value = operand(2, dtype, 4, k), out = operand(3, dtype, 4, q),
             lse = operand(4, single, 3, s), d_out = operand(5, dtype, 4, q),
             d_query = operand(6, dtype, 4, q), d_key = operand(7, dtype, 4, k);
  smx_mask causal = {.size = sizeof causal, .causal = 1};
  smx_attention_options options = {.size = sizeof options,
                                   .structure = is_causal ? &causal : NULL,
                                   .lse = &lse,
                                   .workspace = workspace,
                                   .workspace_size = sizeof workspace};
  smx_attention_gradients gradients = {
      .size = sizeof gradients, .d_query = &d_query, .d_key = &d_key};
  used = 1 << 21;
  DESCRIBE("attention %s, %" PRId64 " queries, %" PRId64 " keys of %" PRId64 "%s", name_of(dtype),
           lq, lk, size, is_causal ? ", causal" : "");
  CLEAN(smx_attention(&query, &key, &value, &out, &options));
  options.lse = NULL;
  CLEAN(smx_attention_vjp(&d_out, &query, &key, &value, &out, &lse, &gradients, &options));
}

int main(void) {
  static const int64_t lengths[][2] = {{1, 5},   {1, 70},   {2, 64},   {3, 70},
                                       {5, 130}, {7, 64},   {9, 20},   {17, 17},
                                       {33, 70}, {50, 130}, {70, 100}, {100, 64}};
  static const int64_t sizes[][2] = {{1, 10},   {3, 10},   {20, 10}, {1, 100},  {5, 100},
                                     {3, 1000}, {9, 128},  {2, 5000}, {1, 9000}, {17, 33},
                                     {8, 17},   {33, 3},   {5, 1024}, {70, 20},  {200, 40}};
  smx_set_num_threads(1);
  for (int d = 0; d < 4; d++) {
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
      for (int32_t axis = 0; axis < 2; axis++)
        check_rows(float_dtypes[d], sizes[i][0], sizes[i][1], axis);
      check_decoding(float_dtypes[d], sizes[i][0], sizes[i][1]);
    }
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
      for (int is_causal = 0; is_causal < 2; is_causal++)
        for (int64_t size = 16; size <= 64; size += 24)
          check_attention(float_dtypes[d], lengths[i][0], lengths[i][1], size, is_causal);
    check_linear(float_dtypes[d], 5, 20, 130);
    check_linear(float_dtypes[d], 50, 16, 300);
  }
  printf("%ld calls have subnormal numbers of their own\n", baseline);
  return finish("test_leftovers");
}
