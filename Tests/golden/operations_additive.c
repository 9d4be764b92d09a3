/* Golden cases of additive attention: two batch entries, two heads that share keys, every operand
 * from the generator. */
#include <stdlib.h>

#include "operations.h"

enum { EACH_HEAD = 1, CAUSAL = 2, MASKED = 4, BIASED = 8, LENGTHS = 16 };
enum { B = 2, H = 2, DQ = 13, DK = 21, DV = 18 };

typedef struct {
  smx_dtype dtype;
  int64_t queries, keys, width;
  int options;
  uint64_t seed;
} spec;

enum { QUERY, KEY, VALUE, W_QUERY, W_KEY, VECTOR, MASK, BIAS, OUT, LSE, WEIGHTS, OPERANDS };

/* The variations: other strides, an axis order of its own in memory, each query by a call of its
 * own, each batch entry. */
enum { PLAIN, STRIDED, OTHER_ORDER, BY_QUERY, BY_ENTRY, VARIATIONS };

static const layout layouts[VARIATIONS] = {
    [STRIDED] = {.step = 3, .backwards = 1, .offset = 1},
    [OTHER_ORDER] = {.memory_order = 1, .offset = 8},
};

static void make_operands(const spec *s, array a[OPERANDS]) {
  smx_dtype single = s->dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32;
  int64_t lq = s->queries, lk = s->keys, heads = s->options & EACH_HEAD ? H : 1;
  struct {
    int rank, e;
    int64_t shape[4];
  } of[] = {
      [QUERY] = {4, 0, {B, H, lq, DQ}},     [KEY] = {4, 0, {B, 1, lk, DK}},
      [VALUE] = {4, 2, {B, 1, lk, DV}},     [W_QUERY] = {3, -1, {heads, s->width, DQ}},
      [W_KEY] = {2, -1, {s->width, DK}},    [VECTOR] = {2, 1, {heads, s->width}},
      [MASK] = {2, 0, {lq, lk}},            [BIAS] = {3, 1, {H, lq, lk}},
      [OUT] = {4, 0, {B, H, lq, DV}},       [LSE] = {3, 0, {B, H, lq}},
      [WEIGHTS] = {4, 0, {B, H, lq, lk}},
  };
  for (int i = 0; i < OPERANDS; i++) {
    int one = (i == W_QUERY || i == VECTOR) && heads == 1;
    const int64_t *shape = of[i].shape + one;
    int rank = of[i].rank - one;
    if (i >= OUT) {
      a[i] = new_array(i == LSE ? single : s->dtype, rank, shape);
    } else if (i == MASK) {
      a[i] = new_array(SMX_BOOL, rank, shape);
      for (int64_t n = 0; n < a[i].count; n++)
        set(&a[i], n, (double)(stream(s->seed, i, (uint64_t)n) >> 62 != 0));
    } else {
      a[i] = uniform_array(s->dtype, rank, shape, of[i].e, s->seed, i);
    }
  }
}

/* `first` is the first query among the keys. */
static smx_status call(const spec *s, smx_tensor *const t[OPERANDS], int64_t first) {
  static const int64_t none[1];
  int64_t length = s->keys - s->keys / 3;
  smx_tensor offset = {&first, SMX_INT64, 0, none, none},
             lengths = {&length, SMX_INT64, 0, none, none};
  smx_mask structure = {
      .size = sizeof structure, .causal = (s->options & CAUSAL) != 0, .query_offset = &offset};
  if (s->options & LENGTHS) structure.key_lengths = &lengths;
  smx_additive_attention_options options = {
      .size = sizeof options, .structure = &structure, .lse = t[LSE], .weights = t[WEIGHTS]};
  if (s->options & MASKED) options.mask = t[MASK];
  if (s->options & BIASED) options.bias = t[BIAS];
  return smx_additive_attention(t[QUERY], t[KEY], t[VALUE], t[W_QUERY], t[W_KEY], t[VECTOR], t[OUT],
                                &options);
}

/* Number `n` of an axis alone: of those operands that have the axis, given as its place or -1. */
static smx_status call_part(const spec *s, const placed p[OPERANDS], const int axes[OPERANDS],
                            int64_t n, int64_t first) {
  placed part[OPERANDS];
  smx_tensor *t[OPERANDS];
  for (int i = 0; i < OPERANDS; i++) {
    part[i] = p[i];
    part[i].tensor.shape = part[i].shape;
    part[i].tensor.strides = part[i].strides;
    if (axes[i] >= 0) {
      part[i].tensor.data = (char *)p[i].tensor.data + n * p[i].strides[axes[i]];
      part[i].shape[axes[i]] = 1;
    }
    t[i] = &part[i].tensor;
  }
  return call(s, t, first + (axes[QUERY] == 2 ? n : 0));
}

static smx_status call_parts(const spec *s, const placed p[OPERANDS], int variation) {
  static const int rows[OPERANDS] = {2, -1, -1, -1, -1, -1, 0, 1, 2, 2, 2};
  static const int entries[OPERANDS] = {0, 0, 0, -1, -1, -1, -1, -1, 0, 0, 0};
  int by_query = variation == BY_QUERY;
  smx_status status = SMX_OK;
  for (int64_t n = 0; n < (by_query ? s->queries : B) && status == SMX_OK; n++)
    status = call_part(s, p, by_query ? rows : entries, n, s->keys - s->queries);
  return status;
}

static void run_additive(operation_run *run, int variation, const spec *s) {
  static const char *const names[] = {"out", "lse", "weights"};
  array a[OPERANDS];
  placed p[OPERANDS];
  smx_tensor *t[OPERANDS];
  make_operands(s, a);
  for (int i = 0; i < OPERANDS; i++) {
    place(&p[i], &a[i], &layouts[variation], NULL);
    t[i] = &p[i].tensor;
  }
  int is_parted = variation == BY_QUERY || variation == BY_ENTRY;
  if (succeeded(run, is_parted ? call_parts(s, p, variation) : call(s, t, s->keys - s->queries))) {
    for (int i = OUT; i < OPERANDS; i++) {
      collect(&p[i], &a[i], &layouts[variation], NULL);
      emit(run, names[i - OUT], &a[i]);
    }
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
/* name, dtype, queries, keys, width, options, seed. python/tests/test_additive_golden.py reads
 * these lines too. */
#define CASES(CASE)                                                                    \
  CASE(additive_f16, F16, 5, 70, 20, 0, 301)                                           \
  CASE(additive_bf16, BF16, 5, 70, 20, EACH_HEAD, 302)                                 \
  CASE(additive_f32, F32, 19, 131, 33, 0, 303)                                         \
  CASE(additive_f64, F64, 19, 131, 33, 0, 304)                                         \
  CASE(additive_f32_step, F32, 1, 1, 7, 0, 305)                                        \
  CASE(additive_f32_step_long, F32, 1, 2200, 4, EACH_HEAD, 306)                        \
  CASE(additive_f64_step_long, F64, 1, 2200, 4, 0, 307)                                \
  CASE(additive_f32_heads, F32, 50, 64, 16, EACH_HEAD, 308)                            \
  CASE(additive_f32_causal, F32, 40, 66, 9, CAUSAL, 309)                               \
  CASE(additive_f64_causal, F64, 60, 30, 9, CAUSAL | EACH_HEAD, 310)                   \
  CASE(additive_f32_masked, F32, 17, 80, 11, CAUSAL | MASKED | BIASED | LENGTHS, 311)  \
  CASE(additive_f16_masked, F16, 17, 80, 11, MASKED | BIASED | LENGTHS, 312)           \
  CASE(additive_f32_nothing, F32, 3, 5, 0, BIASED, 313)

#define DEFINE(name, dtype, queries, keys, width, options, seed)       \
  static void name(operation_run *run, int variation) {                \
    static const spec s = {dtype, queries, keys, width, options, seed}; \
    run_additive(run, variation, &s);                                  \
  }
CASES(DEFINE)

#define LIST(name, ...) {#name, VARIATIONS, name},
const operation_case operations_additive[] = {CASES(LIST){NULL, 0, NULL}};
