/* Golden cases of cross-entropy, entropy and divergence. Streams: 0 logits, 1 targets, 2 weights, 3
 * mask, 4 the second row of a divergence. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "operations.h"

enum { ROWS = 5, PLAIN = 0, STRIDED, ALONE, IN_PLACE, VARIATIONS };

typedef struct {
  smx_dtype dtype;
  int64_t cols;
  int e; /* logits from -2^e to 2^e */
  int far; /* minus their magnitudes */
  int peak; /* every other row's target has a logit 2^(e + 1) above */
  double temperature, smoothing, z_loss;
  int has_weights, has_mask, soft;
  uint64_t seed;
} question;

static smx_dtype wide_of(smx_dtype dtype) {
  return dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32;
}

static int64_t target_of(const question *q, int64_t row) {
  return row == 3 ? -100 : (int64_t)(stream(q->seed, 1, (uint64_t)row) % (uint64_t)q->cols);
}

typedef struct {
  array x, targets, weights, mask, loss, lse, grad, mean;
} loss_operands;

static void make(const question *q, loss_operands *o) {
  int64_t shape[2] = {ROWS, q->cols};
  smx_dtype wide = wide_of(q->dtype);
  o->x = uniform_array(q->dtype, 2, shape, q->e, q->seed, 0);
  for (int64_t i = 0; q->far && i < o->x.count; i++) set(&o->x, i, -fabs(get(&o->x, i)));
  o->targets = new_array(q->soft ? wide : SMX_INT64, q->soft ? 2 : 1, shape);
  for (int64_t row = 0; row < ROWS; row++) {
    int64_t target = target_of(q, row);
    if (q->peak && row % 2 == 0) set(&o->x, row * q->cols + target, ldexp(1, q->e + 1));
    if (!q->soft) memcpy(o->targets.data + 8 * row, &target, 8);
  }
  /* Quarters of 0 to 3, most often 0: probabilities that no rounding touches. */
  for (int64_t i = 0; q->soft && i < ROWS * q->cols; i++) {
    uint64_t z = stream(q->seed, 1, (uint64_t)i);
    set(&o->targets, i, z >> 61 ? 0 : (double)(z & 3) / 4);
  }
  o->weights = new_array(wide, 1, shape + 1);
  for (int64_t k = 0; k < q->cols; k++)
    set(&o->weights, k, 1 + fabs(uniform(wide, 0, stream(q->seed, 2, (uint64_t)k))));
  o->mask = new_array(SMX_BOOL, 2, shape);
  for (int64_t i = 0; i < o->mask.count; i++) {
    int64_t row = i / q->cols;
    set(&o->mask, i,
        stream(q->seed, 3, (uint64_t)i) >> 62 != 0 || i % q->cols == target_of(q, row));
  }
  o->loss = new_array(wide, 1, shape);
  o->lse = new_array(wide, 1, shape);
  o->grad = new_array(q->dtype, 2, shape);
  o->mean = new_array(wide, 0, shape);
}

static void release(loss_operands *o) {
  array *all[] = {&o->x, &o->targets, &o->weights, &o->mask, &o->loss, &o->lse, &o->grad, &o->mean};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]->data);
}

/* The rows first ..< first + count as a call of their own, in tensors that point to them. */
static smx_status call(const question *q, loss_operands *o, const placed *x, const placed *grad,
                       int64_t first, int64_t count, int reduces) {
  smx_tensor logits = x->tensor, gradient = grad->tensor, targets = tensor_of(&o->targets),
             mask = tensor_of(&o->mask);
  smx_tensor weights = tensor_of(&o->weights), loss = tensor_of(reduces ? &o->mean : &o->loss),
             lse = tensor_of(&o->lse);
  int64_t shape[2] = {count, q->cols};
  smx_tensor *rows[] = {&logits, &gradient, &targets, &mask, &loss, &lse};
  int64_t strides[] = {x->strides[0],
                       grad->strides[0],
                       item_size(targets.dtype) * (q->soft ? q->cols : 1),
                       q->cols,
                       item_size(loss.dtype),
                       item_size(lse.dtype)};
  for (int i = 0; i < 6; i++) {
    if (i == 4 && reduces) continue;
    rows[i]->shape = shape;
    rows[i]->data = (char *)rows[i]->data + first * strides[i];
  }
  smx_cross_entropy_options options = {
      .size = sizeof options,
      .reduction = reduces ? SMX_MEAN : SMX_NONE,
      .temperature = q->temperature,
      .label_smoothing = q->smoothing,
      .z_loss = q->z_loss,
      .weight = q->has_weights ? &weights : NULL,
      .mask = q->has_mask ? &mask : NULL,
      .lse = reduces ? NULL : &lse,
      .grad = reduces ? NULL : &gradient,
  };
  return smx_cross_entropy(&logits, &targets, &loss, &options);
}

static void run_loss(operation_run *run, int variation, const question *q) {
  loss_operands o;
  make(q, &o);
  layout how =
      variation == STRIDED ? (layout){.memory_order = 1, .step = 3, .offset = 5} : (layout){0};
  placed x, grad;
  const int reduced[2] = {0, 1};
  place(&x, &o.x, &how, reduced);
  place(&grad, &o.grad, &how, reduced);
  /* Last, since the gradient may replace the logits. */
  int is_good = succeeded(run, call(q, &o, &x, &grad, 0, ROWS, 1));
  const placed *to = variation == IN_PLACE ? &x : &grad;
  for (int64_t row = 0; is_good && row < ROWS; row += variation == ALONE ? 1 : ROWS)
    is_good = succeeded(run, call(q, &o, &x, to, row, variation == ALONE ? 1 : ROWS, 0));
  if (is_good) {
    collect(to, &o.grad, &how, reduced);
    emit(run, "loss", &o.loss);
    emit(run, "lse", &o.lse);
    emit(run, "grad", &o.grad);
    emit(run, "mean", &o.mean);
  }
  free(x.memory);
  free(grad.memory);
  release(&o);
}

#define LOSS(name, ...)                                                       \
  static void run_##name(operation_run *run, int variation) {                 \
    run_loss(run, variation, &(const question){__VA_ARGS__});                 \
  }
LOSS(f32, .dtype = SMX_FLOAT32, .cols = 4100, .e = 3, .seed = 1)
LOSS(f32_short, .dtype = SMX_FLOAT32, .cols = 10, .e = 1, .seed = 2)
LOSS(f32_peak, .dtype = SMX_FLOAT32, .cols = 300, .e = 4, .peak = 1, .seed = 3)
LOSS(f32_large, .dtype = SMX_FLOAT32, .cols = 70, .e = 7, .seed = 4)
LOSS(f32_larger, .dtype = SMX_FLOAT32, .cols = 70, .e = 18, .seed = 5)
LOSS(f32_smoothed, .dtype = SMX_FLOAT32, .cols = 5000, .e = 2, .smoothing = 0.125, .has_weights = 1,
     .seed = 6)
LOSS(f32_all, .dtype = SMX_FLOAT32, .cols = 333, .e = 3, .temperature = 0.75, .smoothing = 0.25,
     .z_loss = 0.0078125, .has_weights = 1, .has_mask = 1, .seed = 7)
LOSS(f32_soft, .dtype = SMX_FLOAT32, .cols = 130, .e = 2, .soft = 1, .seed = 8)
LOSS(f64, .dtype = SMX_FLOAT64, .cols = 4100, .e = 3, .seed = 9)
LOSS(f64_peak, .dtype = SMX_FLOAT64, .cols = 300, .e = 4, .peak = 1, .seed = 10)
LOSS(f64_all, .dtype = SMX_FLOAT64, .cols = 333, .e = 3, .temperature = 0.75, .smoothing = 0.25,
     .z_loss = 0.0078125, .has_weights = 1, .has_mask = 1, .seed = 11)
LOSS(f64_soft, .dtype = SMX_FLOAT64, .cols = 130, .e = 9, .soft = 1, .seed = 12)
LOSS(f16, .dtype = SMX_FLOAT16, .cols = 1000, .e = 3, .peak = 1, .seed = 13)
LOSS(f16_mask, .dtype = SMX_FLOAT16, .cols = 75, .e = 2, .has_mask = 1, .z_loss = 0.5, .seed = 14)
LOSS(bf16, .dtype = SMX_BFLOAT16, .cols = 4500, .e = 3, .seed = 15)
LOSS(bf16_soft, .dtype = SMX_BFLOAT16, .cols = 40, .e = 3, .soft = 1, .smoothing = 0.5, .seed = 16)
LOSS(f32_far, .dtype = SMX_FLOAT32, .cols = 4500, .e = 8, .far = 1, .seed = 17)
LOSS(f32_far_short, .dtype = SMX_FLOAT32, .cols = 12, .e = 6, .far = 1, .seed = 18)
LOSS(f32_far_t, .dtype = SMX_FLOAT32, .cols = 300, .e = 7, .far = 1, .temperature = 0.75,
     .seed = 19)
LOSS(f32_far_soft, .dtype = SMX_FLOAT32, .cols = 130, .e = 7, .soft = 1, .seed = 20)
LOSS(f64_far, .dtype = SMX_FLOAT64, .cols = 1000, .e = 11, .far = 1, .seed = 21)
LOSS(bf16_far, .dtype = SMX_BFLOAT16, .cols = 4500, .e = 7, .far = 1, .seed = 22)
LOSS(f16_far, .dtype = SMX_FLOAT16, .cols = 300, .e = 7, .far = 1, .has_mask = 1, .seed = 23)

/* -- entropy and divergence -------------------------------------------------------------------- */

static void run_divergences(operation_run *run, int variation, smx_dtype dtype, int64_t cols,
                            uint64_t seed) {
  int64_t shape[2] = {ROWS, cols};
  array x = uniform_array(dtype, 2, shape, 3, seed, 0),
        y = uniform_array(dtype, 2, shape, 3, seed, 4);
  array p = uniform_array(dtype, 2, shape, 0, seed, 1),
        q = uniform_array(dtype, 2, shape, 0, seed, 2);
  for (int64_t i = 0; i < p.count; i++) {
    set(&p, i, fabs(get(&p, i)));
    set(&q, i, fabs(get(&q, i)));
  }
  array out = new_array(wide_of(dtype), 1, shape);
  layout how =
      variation == STRIDED ? (layout){.memory_order = 1, .step = 2, .offset = 3} : (layout){0};
  const int reduced[2] = {0, 1};
  const array *operands[4] = {&p, &q, &x, &y};
  placed at[4];
  for (int i = 0; i < 4; i++) place(&at[i], operands[i], &how, reduced);
  static const struct {
    const char *name;
    int p, q; /* places in `at`; 2 and 3 are logits */
  } calls[] = {{"entropy", 0, -1},
               {"entropy_logits", 2, -1},
               {"kl", 0, 1},
               {"kl_logits", 2, 3},
               {"kl_mixed", 2, 1}};
  for (int c = 0; c < 5; c++) {
    for (int64_t row = 0; row < ROWS; row += variation == ALONE ? 1 : ROWS) {
      int64_t part[2] = {variation == ALONE ? 1 : ROWS, cols};
      smx_tensor a = at[calls[c].p].tensor, b = at[calls[c].q < 0 ? 0 : calls[c].q].tensor,
                 to = tensor_of(&out);
      smx_tensor *rows[] = {&a, &b, &to};
      for (int i = 0; i < 3; i++) {
        rows[i]->shape = part;
        rows[i]->data =
            (char *)rows[i]->data + row * (i == 2 ? item_size(to.dtype) : rows[i]->strides[0]);
      }
      smx_divergence_options options = {
          .size = sizeof options, .p_is_logits = calls[c].p == 2, .q_is_logits = calls[c].q == 3};
      smx_status status = calls[c].q < 0 ? smx_entropy(&a, &to, &options)
                                         : smx_kl_divergence(&a, &b, &to, &options);
      if (!succeeded(run, status)) break;
    }
    emit(run, calls[c].name, &out);
  }
  for (int i = 0; i < 4; i++) free(at[i].memory), free(operands[i]->data);
  free(out.data);
}

#define DIVERGENCE(name, dtype, cols, seed)                                   \
  static void run_##name(operation_run *run, int variation) {                 \
    run_divergences(run, variation, dtype, cols, seed);                       \
  }
DIVERGENCE(div_f32, SMX_FLOAT32, 100, 21)
DIVERGENCE(div_f64, SMX_FLOAT64, 4200, 22)
DIVERGENCE(div_f16, SMX_FLOAT16, 77, 23)
DIVERGENCE(div_bf16, SMX_BFLOAT16, 50, 24)

#define CASE(name) {"cross_entropy_" #name, VARIATIONS, run_##name}
const operation_case operations_losses[] = {
    CASE(f32),
    CASE(f32_short),
    CASE(f32_peak),
    CASE(f32_large),
    CASE(f32_larger),
    CASE(f32_smoothed),
    CASE(f32_all),
    CASE(f32_soft),
    CASE(f64),
    CASE(f64_peak),
    CASE(f64_all),
    CASE(f64_soft),
    CASE(f16),
    CASE(f16_mask),
    CASE(bf16),
    CASE(bf16_soft),
    CASE(f32_far),
    CASE(f32_far_short),
    CASE(f32_far_t),
    CASE(f32_far_soft),
    CASE(f64_far),
    CASE(bf16_far),
    CASE(f16_far),
    {"divergence_f32", 3, run_div_f32},
    {"divergence_f64", 3, run_div_f64},
    {"divergence_f16", 3, run_div_f16},
    {"divergence_bf16", 3, run_div_bf16},
    {0},
};
