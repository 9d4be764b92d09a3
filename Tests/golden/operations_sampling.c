/* Golden cases of sampling. Logits are uniform(e, number i of stream 0 of the case's seed), tokens
 * and log_probs those of seed 1234567890123456789. The cases take all ways through the library that
 * a row may take. */
#include "operations.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t random_seed = 1234567890123456789u;

enum { ALONE = 1, SPACED, BACKWARDS, IN_PLACE, VARIATIONS };

typedef struct {
  smx_dtype dtype;
  int64_t rows, cols;
  int e; /* logits lie within 2^e of 0 */
  uint64_t seed;
  double temperature, top_p, min_p; /* 1, 1 and 0 for none */
  int64_t top_k, size;
  int has_mask;
} problem;

/* A number for each row: one for all. */
typedef struct {
  smx_tensor temperature, top_k, top_p, min_p, mask, counter;
  double numbers[3];
  int64_t k, first;
  array bits;
} parameters;

static void fill_parameters(parameters *p, const problem *q) {
  int64_t shape[] = {q->rows, q->cols};
  p->numbers[0] = q->temperature;
  p->numbers[1] = q->top_p;
  p->numbers[2] = q->min_p;
  p->k = q->top_k;
  p->temperature = (smx_tensor){.data = &p->numbers[0], .dtype = SMX_FLOAT64};
  p->top_p = (smx_tensor){.data = &p->numbers[1], .dtype = SMX_FLOAT64};
  p->min_p = (smx_tensor){.data = &p->numbers[2], .dtype = SMX_FLOAT64};
  p->top_k = (smx_tensor){.data = &p->k, .dtype = SMX_INT64};
  p->bits = new_array(SMX_BOOL, 2, shape);
  for (int64_t i = 0; i < p->bits.count; i++)
    set(&p->bits, i, stream(q->seed, OF_MASK, (uint64_t)i) >> 62 != 0);
}

static smx_filter_options filters_of(parameters *p, const problem *q, const smx_tensor *mask) {
  return (smx_filter_options){.size = sizeof(smx_filter_options),
                              .temperature = &p->temperature,
                              .top_k = &p->top_k,
                              .top_p = &p->top_p,
                              .min_p = &p->min_p,
                              .mask = q->has_mask ? mask : NULL};
}

/* The logits as a variation has them in memory. */
static void place_logits(placed *x, const array *logits, int variation) {
  static const int reduced[MAX_RANK] = {0, 1};
  layout how = {.step = variation == SPACED ? 3 : 0,
                .backwards = variation == BACKWARDS,
                .memory_order = variation == BACKWARDS,
                .offset = variation == SPACED ? 1 : 0};
  place(x, logits, &how, reduced);
}

typedef struct {
  operation_run *run;
  int variation;
  const problem *q;
  parameters p;
  placed x;
  array tokens, log_probs, filtered;
} call;

static smx_tensor row_of(const smx_tensor *t, int64_t row, int64_t stride, int64_t *shape) {
  smx_tensor r = *t;
  r.data = (char *)t->data + row * stride;
  r.shape = shape;
  return r;
}

/* One call of each function: all rows, or in variation ALONE one of them. */
static void sample_rows(call *c, int64_t first, int64_t rows) {
  const problem *q = c->q;
  int64_t shape[] = {rows, q->cols}, drawn[] = {rows, q->size}, counters[] = {rows};
  int64_t counter[64];
  for (int64_t i = 0; i < rows; i++) counter[i] = first + i;
  smx_tensor tokens = tensor_of(&c->tokens), probs = tensor_of(&c->log_probs);
  smx_tensor filtered = tensor_of(&c->filtered), bits = tensor_of(&c->p.bits);
  smx_tensor x = row_of(&c->x.tensor, first, c->x.strides[0], shape);
  smx_tensor mask = row_of(&bits, first, q->cols, shape);
  tokens = row_of(&tokens, first, 8 * q->size, drawn);
  probs = row_of(&probs, first, 8 * q->size, drawn);
  filtered = row_of(&filtered, first, item_size(q->dtype) * q->cols, shape);
  smx_tensor of_rows = {.data = counter, .dtype = SMX_INT64, .ndim = 1, .shape = counters};
  smx_filter_options f = filters_of(&c->p, q, &mask);
  smx_sample_options s = {.size = sizeof s,
                          .temperature = f.temperature,
                          .top_k = f.top_k,
                          .top_p = f.top_p,
                          .min_p = f.min_p,
                          .mask = f.mask,
                          .seed = random_seed,
                          .counter = &of_rows,
                          .log_probs = &probs};
  if (rows == q->rows) s.counter = NULL;
  if (!succeeded(c->run, smx_sample(&x, &tokens, &s))) return;
  if (c->variation == IN_PLACE) x = filtered;
  succeeded(c->run, smx_filtered_softmax(&x, &filtered, &f));
}

static void run_sampling(operation_run *run, int variation, const problem *q) {
  int64_t shape[] = {q->rows, q->cols}, drawn[] = {q->rows, q->size};
  call c = {.run = run, .variation = variation, .q = q};
  array logits = uniform_array(q->dtype, 2, shape, q->e, q->seed, OF_X);
  fill_parameters(&c.p, q);
  c.tokens = new_array(SMX_INT64, 2, drawn);
  c.log_probs = new_array(SMX_FLOAT64, 2, drawn);
  c.filtered = new_array(q->dtype, 2, shape);
  place_logits(&c.x, &logits, variation);
  memcpy(c.filtered.data, logits.data, (size_t)bytes_of(&logits));
  if (variation == ALONE)
    for (int64_t row = 0; row < q->rows; row++) sample_rows(&c, row, 1);
  else
    sample_rows(&c, 0, q->rows);
  emit(run, "tokens", &c.tokens);
  emit(run, "log_probs", &c.log_probs);
  emit(run, "filtered", &c.filtered);
  free(c.x.memory);
  free(logits.data);
  free(c.p.bits.data);
  free(c.tokens.data);
  free(c.log_probs.data);
  free(c.filtered.data);
}

#define SAMPLING(name, ...)                                  \
  static void name(operation_run *run, int variation) {      \
    static const problem q = {__VA_ARGS__};                  \
    run_sampling(run, variation, &q);                        \
  }
#define NONE .temperature = 1, .top_p = 1
SAMPLING(plain, SMX_FLOAT32, 5, 3000, 3, 500, NONE, .size = 3)
SAMPLING(plain_f16, SMX_FLOAT16, 5, 3000, 3, 501, NONE, .size = 3)
SAMPLING(plain_bf16, SMX_BFLOAT16, 5, 700, 3, 502, NONE, .size = 3, .has_mask = 1)
SAMPLING(plain_f64, SMX_FLOAT64, 5, 3000, 3, 503, NONE, .size = 3, .has_mask = 1)
SAMPLING(usual, SMX_FLOAT32, 7, 9000, 4, 504, .temperature = 0.8, .top_k = 50, .top_p = 0.9,
         .size = 4)
SAMPLING(usual_f64, SMX_FLOAT64, 3, 2000, 4, 505, .temperature = 0.8, .top_k = 50, .top_p = 0.9,
         .size = 4, .has_mask = 1)
SAMPLING(nucleus, SMX_FLOAT32, 3, 9000, 5, 506, .temperature = 1.3, .top_p = 0.95, .size = 4)
SAMPLING(wide_nucleus, SMX_FLOAT32, 3, 9000, 1, 507, .temperature = 1, .top_p = 0.9, .size = 4)
SAMPLING(wide_nucleus_f64, SMX_FLOAT64, 3, 5000, 1, 508, .temperature = 0.5, .top_p = 0.7,
         .size = 4, .has_mask = 1)
SAMPLING(many, SMX_FLOAT32, 3, 9000, 2, 509, .temperature = 1, .top_k = 2000, .top_p = 0.8,
         .min_p = 0.1, .size = 4)
SAMPLING(least, SMX_FLOAT16, 3, 5000, 2, 510, .temperature = 2, .top_p = 1, .min_p = 0.2, .size = 4,
         .has_mask = 1)
SAMPLING(greedy, SMX_FLOAT16, 4, 5000, 2, 511, .temperature = 0, .top_p = 1, .size = 2)
SAMPLING(hot, SMX_FLOAT64, 4, 1500, 10, 512, .temperature = 1e300, .top_p = 0.5, .size = 4)

static void run_top_k(operation_run *run, int variation, smx_dtype dtype, int64_t k, int32_t log,
                      uint64_t seed) {
  int64_t shape[] = {4, 5000}, best[] = {4, k};
  array logits = uniform_array(dtype, 2, shape, 2, seed, OF_X);
  array found = new_array(dtype, 2, best), indices = new_array(SMX_INT64, 2, best);
  placed x;
  place_logits(&x, &logits, variation);
  smx_tensor of_found = tensor_of(&found), of_indices = tensor_of(&indices);
  double number = 0.7;
  smx_tensor temperature = {.data = &number, .dtype = SMX_FLOAT64};
  smx_top_k_options options = {.size = sizeof options, .temperature = &temperature, .log = log};
  succeeded(run, smx_top_k(&x.tensor, &of_found, &of_indices, &options));
  emit(run, "probabilities", &found);
  emit(run, "indices", &indices);
  free(x.memory);
  free(logits.data);
  free(found.data);
  free(indices.data);
}
static void few_largest(operation_run *run, int variation) {
  run_top_k(run, variation, SMX_FLOAT32, 20, 0, 520);
}
static void many_largest(operation_run *run, int variation) {
  run_top_k(run, variation, SMX_FLOAT16, 1500, 1, 521);
}

static void run_gumbel(operation_run *run, int variation, smx_dtype dtype, int32_t hard,
                       uint64_t seed) {
  int64_t shape[] = {4, 1500};
  array logits = uniform_array(dtype, 2, shape, 2, seed, OF_X), out = new_array(dtype, 2, shape);
  placed x;
  place_logits(&x, &logits, variation);
  memcpy(out.data, logits.data, (size_t)bytes_of(&logits));
  for (int64_t row = 0; row < 4; row++) {
    int64_t rows = variation == ALONE ? 1 : 4, own[] = {rows, 1500};
    smx_tensor of_out = tensor_of(&out);
    of_out = row_of(&of_out, row, item_size(dtype) * 1500, own);
    smx_tensor of_x = variation == IN_PLACE ? of_out : row_of(&x.tensor, row, x.strides[0], own);
    smx_tensor counter = {.data = &row, .dtype = SMX_INT64};
    smx_gumbel_softmax_options options = {.size = sizeof options,
                                          .seed = random_seed,
                                          .hard = hard,
                                          .counter = variation == ALONE ? &counter : NULL};
    succeeded(run, smx_gumbel_softmax(&of_x, &of_out, &options));
    if (rows == 4) break;
  }
  emit(run, "out", &out);
  free(x.memory);
  free(logits.data);
  free(out.data);
}
static void gumbel(operation_run *run, int variation) {
  run_gumbel(run, variation, SMX_FLOAT32, 0, 530);
}
static void gumbel_f64(operation_run *run, int variation) {
  run_gumbel(run, variation, SMX_FLOAT64, 0, 531);
}
static void gumbel_bf16(operation_run *run, int variation) {
  run_gumbel(run, variation, SMX_BFLOAT16, 0, 532);
}
static void gumbel_hard(operation_run *run, int variation) {
  run_gumbel(run, variation, SMX_FLOAT32, 1, 533);
}

const operation_case operations_sampling[] = {
    {"sample_plain", VARIATIONS, plain},
    {"sample_plain_f16", VARIATIONS, plain_f16},
    {"sample_plain_bf16", VARIATIONS, plain_bf16},
    {"sample_plain_f64", VARIATIONS, plain_f64},
    {"sample_usual", VARIATIONS, usual},
    {"sample_usual_f64", VARIATIONS, usual_f64},
    {"sample_nucleus", VARIATIONS, nucleus},
    {"sample_wide_nucleus", VARIATIONS, wide_nucleus},
    {"sample_wide_nucleus_f64", VARIATIONS, wide_nucleus_f64},
    {"sample_many", VARIATIONS, many},
    {"sample_least", VARIATIONS, least},
    {"sample_greedy", VARIATIONS, greedy},
    {"sample_hot", VARIATIONS, hot},
    {"top_k", VARIATIONS, few_largest},
    {"top_k_many_f16", VARIATIONS, many_largest},
    {"gumbel_softmax", VARIATIONS, gumbel},
    {"gumbel_softmax_f64", VARIATIONS, gumbel_f64},
    {"gumbel_softmax_bf16", VARIATIONS, gumbel_bf16},
    {"gumbel_softmax_hard", VARIATIONS, gumbel_hard},
    {NULL, 0, NULL},
};
