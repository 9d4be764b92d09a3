/* Golden cases of the cross-entropy of a linear layer: hidden states and weights from the
 * generator, every output. */
#include <stdlib.h>
#include <string.h>

#include "operations.h"

/* IGNORING: a quarter of the targets. SHUT: a bias, -inf for an eighth of the classes. NARROW:
 * targets are int32. SURE: a bias of 16 for class 0, which is the target of every other token. FAR:
 * hidden states 16 (128) times as large, so that some probabilities are about 2^-100 (2^-960). */
enum {
  IGNORING = 1,
  BIASED = 2,
  SHUT = 4,
  SMOOTHED = 8,
  WITH_Z = 16,
  SCALED = 32,
  NARROW = 64,
  SURE = 128,
  FAR = 256
};

typedef struct {
  smx_dtype dtype;
  int64_t tokens, columns, classes;
  smx_reduction reduction;
  int options;
  uint64_t seed;
} spec;

enum { OF_HIDDEN, OF_WEIGHT, OF_TARGETS, OF_THE_BIAS };
enum { HIDDEN, WEIGHT, TARGETS, BIAS, LOSS, LSE, D_HIDDEN, D_WEIGHT, D_BIAS, OPERANDS };
static const char *const names[OPERANDS] = {[LOSS] = "loss", [LSE] = "lse", [D_HIDDEN] = "d_hidden",
                                            [D_WEIGHT] = "d_weight", [D_BIAS] = "d_bias"};

/* SINGLY: each output from a call of its own. ALONE: what single tokens have, where it is not
 * divided by their number. */
enum { PLAIN, STRIDED, OTHER_ORDER, SINGLY, ALONE, VARIATIONS };

static const layout layouts[VARIATIONS] = {
    [STRIDED] = {.step = 3, .backwards = 1, .offset = 1},
    [OTHER_ORDER] = {.memory_order = 1, .offset = 8},
};

static void set_target(array *a, int64_t i, int64_t target) {
  int32_t narrow = (int32_t)target;
  if (a->dtype == SMX_INT32) memcpy(a->data + i * 4, &narrow, 4);
  else memcpy(a->data + i * 8, &target, 8);
}

static int far_exponent(const spec *s) {
  return !(s->options & FAR) ? 1 : s->dtype == SMX_FLOAT64 ? 8 : 5;
}

static void make_operands(const spec *s, array a[OPERANDS]) {
  int64_t hidden[] = {s->tokens, s->columns}, weight[] = {s->classes, s->columns};
  smx_dtype single = s->dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32;
  a[HIDDEN] = uniform_array(s->dtype, 2, hidden, far_exponent(s), s->seed, OF_HIDDEN);
  a[WEIGHT] = uniform_array(s->dtype, 2, weight, 0, s->seed, OF_WEIGHT);
  a[TARGETS] = new_array(s->options & NARROW ? SMX_INT32 : SMX_INT64, 1, hidden);
  for (int64_t i = 0; i < s->tokens; i++) {
    uint64_t z = stream(s->seed, OF_TARGETS, (uint64_t)i);
    int is_ignored = s->options & IGNORING && z >> 62 == 0;
    int64_t target = s->options & SURE && i % 2 == 0 ? 0 : (int64_t)(z % (uint64_t)s->classes);
    set_target(&a[TARGETS], i, is_ignored ? -100 : target);
  }
  a[LOSS] = new_array(single, s->reduction == SMX_NONE, hidden);
  a[LSE] = new_array(single, 1, hidden);
  a[D_HIDDEN] = new_array(s->dtype, 2, hidden);
  a[D_WEIGHT] = new_array(s->dtype, 2, weight);
  if (!(s->options & BIASED)) return;
  a[BIAS] = uniform_array(s->dtype, 1, weight, 1, s->seed, OF_THE_BIAS);
  for (int64_t j = 0; s->options & SHUT && j < s->classes; j++)
    if (stream(s->seed, OF_THE_BIAS, (uint64_t)j) >> 61 == 0) set(&a[BIAS], j, -__builtin_inf());
  if (s->options & SURE) set(&a[BIAS], 0, 16);
  a[D_BIAS] = new_array(single, 1, weight);
}

static smx_status call(const spec *s, const smx_tensor *const t[OPERANDS]) {
  smx_linear_cross_entropy_options options = {.size = sizeof options,
                                              .bias = t[BIAS],
                                              .reduction = s->reduction,
                                              .label_smoothing = s->options & SMOOTHED ? 0.125 : 0,
                                              .z_loss = s->options & WITH_Z ? 0.0625 : 0,
                                              .grad_scale = s->options & SCALED ? 1024 : 0,
                                              .lse = t[LSE],
                                              .d_hidden = t[D_HIDDEN],
                                              .d_weight = t[D_WEIGHT],
                                              .d_bias = t[D_BIAS]};
  return smx_linear_cross_entropy(t[HIDDEN], t[WEIGHT], t[TARGETS], t[LOSS], &options);
}

static smx_status call_singly(const spec *s, const smx_tensor *const t[OPERANDS]) {
  smx_status status = SMX_OK;
  for (int o = LOSS; o < OPERANDS && status == SMX_OK; o++) {
    const smx_tensor *one[OPERANDS];
    for (int k = 0; k < OPERANDS; k++) one[k] = k <= LOSS || k == o ? t[k] : NULL;
    if (t[o]) status = call(s, one);
  }
  return status;
}

static smx_status call_by_token(const spec *s, placed p[OPERANDS],
                                const smx_tensor *const t[OPERANDS]) {
  static const int of_tokens[] = {HIDDEN, TARGETS, LOSS, LSE, D_HIDDEN};
  smx_status status = call(s, t);
  for (int i = 0; i < 3; i++)
    memset(t[LOSS + i]->data, 0xa5, p[LOSS + i].shape[0] * p[LOSS + i].strides[0]);
  for (int64_t token = 0; token < s->tokens && status == SMX_OK; token++) {
    const smx_tensor *one[OPERANDS] = {[WEIGHT] = t[WEIGHT], [BIAS] = t[BIAS]};
    smx_tensor rows[5];
    int64_t shape[2] = {1, s->columns};
    for (int i = 0; i < 5; i++) {
      int k = of_tokens[i];
      rows[i] = *t[k];
      rows[i].data = (char *)rows[i].data + token * p[k].strides[0];
      rows[i].shape = shape;
      one[k] = &rows[i];
    }
    status = call(s, one);
  }
  return status;
}

static void run_linear(operation_run *run, int variation, const spec *s) {
  array a[OPERANDS] = {0};
  placed p[OPERANDS] = {0};
  const smx_tensor *t[OPERANDS] = {0};
  make_operands(s, a);
  for (int k = 0; k < OPERANDS; k++) {
    if (!a[k].data) continue;
    place(&p[k], &a[k], &layouts[variation], NULL);
    t[k] = &p[k].tensor;
  }
  int is_alone = variation == ALONE && s->reduction == SMX_NONE;
  if (succeeded(run, is_alone              ? call_by_token(s, p, t)
                     : variation == SINGLY ? call_singly(s, t)
                                           : call(s, t))) {
    for (int k = LOSS; k < OPERANDS; k++) {
      if (!a[k].data) continue;
      collect(&p[k], &a[k], &layouts[variation], NULL);
      emit(run, names[k], &a[k]);
    }
  }
  for (int k = 0; k < OPERANDS; k++) {
    free(a[k].data);
    free(p[k].memory);
  }
}

#define F16 SMX_FLOAT16
#define BF16 SMX_BFLOAT16
#define F32 SMX_FLOAT32
#define F64 SMX_FLOAT64
#define MEAN SMX_MEAN
#define SUM SMX_SUM
#define NONE SMX_NONE
/* name, dtype, tokens, columns, classes, reduction, options, seed.
 * python/tests/test_linear_golden.py reads these too. */
#define CASES(CASE)                                                                                \
  CASE(linear_f16, F16, 50, 40, 300, MEAN, IGNORING, 1)                                            \
  CASE(linear_bf16, BF16, 50, 40, 300, NONE, BIASED | NARROW, 2)                                   \
  CASE(linear_f32, F32, 50, 40, 300, MEAN, 0, 3)                                                   \
  CASE(linear_f64, F64, 50, 40, 300, MEAN, 0, 4)                                                   \
  CASE(linear_f32_one, F32, 1, 1, 1, NONE, BIASED, 5)                                              \
  CASE(linear_f32_groups, F32, 401, 16, 140, NONE, IGNORING | BIASED, 6)                           \
  CASE(linear_f64_groups, F64, 241, 8, 140, SUM, IGNORING | BIASED, 7)                             \
  CASE(linear_f32_columns, F32, 17, 300, 130, SUM, SMOOTHED, 8)                                    \
  CASE(linear_f64_columns, F64, 17, 260, 130, NONE, SMOOTHED | NARROW, 9)                          \
  CASE(linear_f32_spans, F32, 49, 16, 4200, NONE, IGNORING | WITH_Z, 10)                           \
  CASE(linear_f64_spans, F64, 49, 9, 2049, MEAN, IGNORING | WITH_Z, 11)                            \
  CASE(linear_f16_spans, F16, 30, 24, 2500, SUM, SCALED | BIASED, 12)                              \
  CASE(linear_f32_all, F32, 70, 33, 2300, MEAN,                                                    \
       IGNORING | BIASED | SMOOTHED | WITH_Z | SCALED | NARROW, 13)                                \
  CASE(linear_f64_shut, F64, 70, 33, 300, NONE, IGNORING | BIASED | SHUT, 14)                      \
  CASE(linear_f32_sure, F32, 97, 24, 2200, NONE, IGNORING | BIASED | SURE, 15)                     \
  CASE(linear_f64_sure, F64, 33, 9, 300, NONE, BIASED | SURE | WITH_Z, 16)                         \
  CASE(linear_bf16_sure, BF16, 20, 16, 140, SUM, BIASED | SURE | SMOOTHED, 17)                     \
  CASE(linear_f32_far, F32, 50, 24, 300, MEAN, FAR, 18)                                            \
  CASE(linear_f64_far, F64, 30, 24, 300, SUM, FAR | BIASED, 19)

#define DEFINE(name, ...)                                                        \
  static void name(operation_run *run, int variation) {                          \
    static const spec s = {__VA_ARGS__};                                         \
    run_linear(run, variation, &s);                                              \
  }
CASES(DEFINE)

#define LIST(name, ...) {#name, VARIATIONS, name},
const operation_case operations_linear[] = {CASES(LIST){NULL, 0, NULL}};
