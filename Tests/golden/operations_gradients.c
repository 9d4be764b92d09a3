/* Golden cases of the gradients: matrices of rows × cols from the generator, reduced along one
 * axis. y is uniform, which is no softmax's result, so that sums neither are 0 nor cancel;
 * logarithms are minus its magnitude. */
#include <math.h>
#include <stdlib.h>

#include "operations.h"

typedef enum { VJP, JVP, LOG_VJP, SUM_VJP, JACOBIAN } gradient;
enum { MASKED = 1, WARM = 2, CAUSAL = 4, LARGE = 8, BIASED = 16, FAR = 32 };

typedef struct {
  gradient what;
  smx_dtype dtype;
  int64_t shape[2];
  int axis, options;
  uint64_t seed;
} spec;

enum { OF_Y, OF_DY, OF_BIAS_OF_X, OF_HIDDEN };
enum { Y, DY, OUT, MASK, TEMPERATURE, BIAS, OPERANDS };

/* The variations. In place is as y, and then as dy (as x for logsumexp, once more). */
enum { PLAIN, IN_PLACE, IN_PLACE_OF_DY, STRIDED, OTHER_ORDER, ALONE, VARIATIONS };

static const layout layouts[VARIATIONS] = {
    [STRIDED] = {.step = 3, .backwards = 1, .offset = 1},
    [OTHER_ORDER] = {.memory_order = 1, .offset = 8},
};

static void magnitudes(array *a, double sign) {
  for (int64_t i = 0; i < a->count; i++) {
    double v = get(a, i);
    set(a, i, sign * (v < 0 ? -v : v));
  }
}

static void make_operands(const spec *s, array a[OPERANDS]) {
  int64_t rows[2] = {s->shape[0], s->shape[1]},
          matrices[3] = {s->shape[1 - s->axis], s->shape[s->axis], s->shape[s->axis]};
  rows[s->axis] = 1;
  a[Y] = uniform_array(s->dtype, 2, s->shape,
                       (s->what == LOG_VJP   ? 4
                        : s->what == SUM_VJP ? 3
                                             : 0) +
                           (s->options & FAR ? 4 : 0),
                       s->seed, OF_Y);
  if (s->what == LOG_VJP) magnitudes(&a[Y], -1);
  /* The sum is finite, and too large for dy - sum to be formed as elsewhere. */
  int large = s->dtype == SMX_FLOAT64 ? 1014 : 120;
  if (s->what != JACOBIAN)
    a[DY] = uniform_array(s->dtype, 2, s->what == SUM_VJP ? rows : s->shape,
                          s->options & LARGE ? large : 2, s->seed, OF_DY);
  a[OUT] =
      s->what == JACOBIAN ? new_array(s->dtype, 3, matrices) : new_array(s->dtype, 2, s->shape);
  if (s->options & MASKED) {
    a[MASK] = new_array(SMX_BOOL, 2, s->shape);
    for (int64_t i = 0; i < a[MASK].count; i++)
      set(&a[MASK], i, (double)(stream(s->seed, OF_HIDDEN, (uint64_t)i) >> 62 != 0));
  }
  if (s->options & BIASED) a[BIAS] = uniform_array(s->dtype, 2, s->shape, 1, s->seed, OF_BIAS_OF_X);
  if (s->options & WARM) {
    static const double of_rows[] = {0, 0.5, 1, 2, INFINITY, 3};
    a[TEMPERATURE] = new_array(SMX_FLOAT64, 2, rows);
    for (int64_t i = 0; i < a[TEMPERATURE].count; i++) set(&a[TEMPERATURE], i, of_rows[i % 6]);
  }
}

static smx_status call(const spec *s, smx_tensor *const t[OPERANDS]) {
  int32_t axis = s->axis;
  smx_mask causal = {.size = sizeof causal, .causal = 1};
  const smx_mask *structure = s->options & CAUSAL ? &causal : NULL;
  if (s->what == SUM_VJP) {
    smx_logsumexp_options options = {.size = sizeof options,
                                     .axes = &axis,
                                     .axis_count = 1,
                                     .mask = t[MASK],
                                     .bias = t[BIAS],
                                     .structure = structure};
    return smx_logsumexp_vjp(t[Y], t[DY], t[OUT], &options);
  }
  smx_softmax_options options = {.size = sizeof options,
                                 .axes = &axis,
                                 .axis_count = 1,
                                 .temperature = t[TEMPERATURE],
                                 .mask = t[MASK],
                                 .structure = structure};
  switch (s->what) {
    case VJP: return smx_softmax_vjp(t[Y], t[DY], t[OUT], &options);
    case JVP: return smx_softmax_jvp(t[Y], t[DY], t[OUT], &options);
    case LOG_VJP: return smx_log_softmax_vjp(t[Y], t[DY], t[OUT], &options);
    default: return smx_softmax_jacobian(t[Y], t[OUT], &options);
  }
}

/* Each row in a call of its own: every operand 1 long along the axis that is kept. */
static smx_status call_by_row(const spec *s, placed p[OPERANDS]) {
  int kept = 1 - s->axis;
  smx_status status = SMX_OK;
  for (int64_t row = 0; row < s->shape[kept] && status == SMX_OK; row++) {
    smx_tensor one[OPERANDS], *t[OPERANDS];
    int64_t shape[OPERANDS][3];
    for (int i = 0; i < OPERANDS; i++) {
      t[i] = p[i].memory ? &one[i] : NULL;
      if (!p[i].memory) continue;
      int axis = i == OUT && s->what == JACOBIAN ? 0 : kept;
      one[i] = p[i].tensor;
      one[i].data = (char *)one[i].data + row * p[i].strides[axis];
      for (int k = 0; k < one[i].ndim; k++) shape[i][k] = k == axis ? 1 : p[i].shape[k];
      one[i].shape = shape[i];
      one[i].strides = p[i].strides;
    }
    status = call(s, t);
  }
  return status;
}

static void run_gradient(operation_run *run, int variation, const spec *s) {
  array a[OPERANDS] = {0};
  placed p[OPERANDS] = {0};
  smx_tensor *t[OPERANDS] = {0};
  make_operands(s, a);
  for (int i = 0; i < OPERANDS; i++) {
    if (!a[i].data) continue;
    place(&p[i], &a[i], &layouts[variation], NULL);
    t[i] = &p[i].tensor;
  }
  int given = variation == IN_PLACE || s->what == SUM_VJP ? Y : DY;
  int is_in_place = (variation == IN_PLACE || variation == IN_PLACE_OF_DY) && s->what != JACOBIAN;
  if (is_in_place) t[OUT] = t[given];
  /* One row has another place under a structure. */
  int is_alone = variation == ALONE && !(s->options & CAUSAL);
  if (succeeded(run, is_alone ? call_by_row(s, p) : call(s, t))) {
    collect(is_in_place ? &p[given] : &p[OUT], &a[OUT], &layouts[variation], NULL);
    emit(run, s->what == JACOBIAN ? "jacobian" : "gradient", &a[OUT]);
  }
  for (int i = 0; i < OPERANDS; i++) {
    free(a[i].data);
    free(p[i].memory);
  }
}

#define F16 SMX_FLOAT16
#define BF16 SMX_BFLOAT16
#define F32 SMX_FLOAT32
#define F64 SMX_FLOAT64
/* name, operation, dtype, rows, cols, axis, options, seed. python/tests/test_gradients_golden.py
 * reads these lines too. */
#define CASES(CASE)                                                           \
  CASE(softmax_vjp_f16, VJP, F16, 5, 1003, 1, 0, 1)                           \
  CASE(softmax_vjp_bf16, VJP, BF16, 5, 1003, 1, 0, 2)                         \
  CASE(softmax_vjp_f32, VJP, F32, 7, 1003, 1, 0, 3)                           \
  CASE(softmax_vjp_f64, VJP, F64, 7, 1003, 1, 0, 4)                           \
  CASE(softmax_vjp_f32_short, VJP, F32, 40, 7, 1, 0, 5)                       \
  CASE(softmax_vjp_f32_long, VJP, F32, 2, 41001, 1, 0, 6)                     \
  CASE(softmax_vjp_f64_long, VJP, F64, 2, 20003, 1, 0, 7)                     \
  CASE(softmax_vjp_f16_long, VJP, F16, 1, 20003, 1, 0, 8)                     \
  CASE(softmax_vjp_f32_axis, VJP, F32, 37, 19, 0, 0, 9)                       \
  CASE(softmax_vjp_f32_warm, VJP, F32, 8, 300, 1, WARM, 10)                   \
  CASE(softmax_vjp_f64_warm, VJP, F64, 8, 300, 1, WARM, 11)                   \
  CASE(softmax_vjp_f32_mask, VJP, F32, 6, 5000, 1, MASKED, 12)                \
  CASE(softmax_vjp_f64_causal, VJP, F64, 60, 70, 1, CAUSAL, 13)               \
  CASE(softmax_vjp_f32_large, VJP, F32, 5, 300, 1, LARGE, 14)                 \
  CASE(softmax_vjp_f64_large, VJP, F64, 5, 300, 1, LARGE, 15)                 \
  CASE(softmax_jvp_f32, JVP, F32, 7, 1003, 1, 0, 3)                           \
  CASE(log_softmax_vjp_f16, LOG_VJP, F16, 5, 1003, 1, 0, 20)                  \
  CASE(log_softmax_vjp_bf16, LOG_VJP, BF16, 5, 1003, 1, 0, 21)                \
  CASE(log_softmax_vjp_f32, LOG_VJP, F32, 7, 1003, 1, 0, 22)                  \
  CASE(log_softmax_vjp_f64, LOG_VJP, F64, 7, 1003, 1, 0, 23)                  \
  CASE(log_softmax_vjp_f32_long, LOG_VJP, F32, 2, 20003, 1, 0, 24)            \
  CASE(log_softmax_vjp_f64_warm, LOG_VJP, F64, 8, 300, 1, WARM | MASKED, 25)  \
  CASE(log_softmax_vjp_f32_causal, LOG_VJP, F32, 60, 70, 1, CAUSAL, 26)       \
  CASE(log_softmax_vjp_f32_warm, LOG_VJP, F32, 70, 60, 0, WARM, 27)           \
  CASE(logsumexp_vjp_f16, SUM_VJP, F16, 5, 1003, 1, 0, 30)                    \
  CASE(logsumexp_vjp_bf16, SUM_VJP, BF16, 5, 1003, 1, MASKED, 31)             \
  CASE(logsumexp_vjp_f32, SUM_VJP, F32, 7, 1003, 1, 0, 32)                    \
  CASE(logsumexp_vjp_f64, SUM_VJP, F64, 7, 1003, 0, 0, 33)                    \
  CASE(logsumexp_vjp_f32_bias, SUM_VJP, F32, 4, 9001, 1, BIASED | MASKED, 34) \
  CASE(logsumexp_vjp_f32_causal, SUM_VJP, F32, 60, 70, 1, CAUSAL, 35)         \
  CASE(log_softmax_vjp_f32_far, LOG_VJP, F32, 7, 1003, 1, FAR, 36)            \
  CASE(log_softmax_vjp_bf16_far, LOG_VJP, BF16, 3, 5000, 1, FAR | WARM, 37)   \
  CASE(logsumexp_vjp_f32_far, SUM_VJP, F32, 7, 1003, 1, FAR, 38)              \
  CASE(logsumexp_vjp_bf16_far, SUM_VJP, BF16, 3, 5000, 1, FAR | MASKED, 39)   \
  CASE(softmax_jacobian_f16, JACOBIAN, F16, 3, 50, 1, 0, 40)                  \
  CASE(softmax_jacobian_f32, JACOBIAN, F32, 3, 50, 1, 0, 41)                  \
  CASE(softmax_jacobian_f64, JACOBIAN, F64, 2, 1100, 1, 0, 42)                \
  CASE(softmax_jacobian_f32_warm, JACOBIAN, F32, 50, 8, 0, WARM | MASKED, 43)

#define DEFINE(name, what, dtype, rows, cols, axis, options, seed)                 \
  static void name(operation_run *run, int variation) {                            \
    static const spec s = {what, dtype, {rows, cols}, axis, options, seed};        \
    run_gradient(run, variation, &s);                                              \
  }
CASES(DEFINE)

#define LIST(name, ...) {#name, VARIATIONS, name},
const operation_case operations_gradients[] = {CASES(LIST){NULL, 0, NULL}};
