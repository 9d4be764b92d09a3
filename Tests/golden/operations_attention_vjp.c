/* Golden cases of attention's gradient. out and lse are those of the library's own attention.
 *
 * Number i of an operand is uniform(e, number i of its stream): query, key and d_out are streams 0,
 * 6 and 10 with e = 1 (FAR: query 5, of float64 8), value stream 7, bias stream 2, sinks stream 8,
 * the magnitudes of the slopes stream 9 with e = 0, -1 and -2 for the last. Element i of the mask
 * takes part if (number i of stream 1) >> 62 is not 0. */
#include "operations.h"

#include <stdlib.h>
#include <string.h>

enum {
  CAUSAL = 1,
  WINDOW = 2,     /* 40 to the left, 3 to the right */
  MASK = 4,       /* (Lq, Lk) */
  BIAS = 8,       /* (Hq, Lq, Lk) */
  ROW_BIAS = 16,  /* (B, 1, 1, Lk) */
  SINKS = 32,
  SLOPES = 64,
  SOFTCAP = 128,  /* 2 */
  SHARED = 256,   /* one batch entry of keys and values */
  LENGTHS = 512,  /* key and query lengths of entry b: Lk - 9b and Lq - 5b */
  FAR = 1024,     /* scores so far apart that some weights are about 2^-100 (2^-960) */
};

typedef struct {
  smx_dtype dtype;
  int64_t batch, heads, key_heads, lq, lk, size, value_size;
  int options;
  uint64_t seed;
} spec;

enum { PLAIN, BLHD, APART, BACKWARDS, WORKSPACE, ONE_BY_ONE, VARIATIONS };
enum { D_OUT, QUERY, KEY, VALUE, OUT, LSE, FEW_MASK, FEW_BIAS, FEW_SINKS, FEW_SLOPES, INPUTS };
enum { D_QUERY = INPUTS, D_KEY, D_VALUE, D_BIAS, D_SINKS, ARRAYS };
enum { GRADIENTS = ARRAYS - INPUTS };
static const char *const names[GRADIENTS] = {"d_query", "d_key", "d_value", "d_bias", "d_sinks"};
static const int none[MAX_RANK];

typedef struct {
  array of[ARRAYS]; /* data NULL where the case has none */
  placed at[ARRAYS];
  layout how;
  int is_blhd;
} vjp_operands;

static smx_dtype single(smx_dtype dtype) {
  return dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32;
}

static array draw(smx_dtype dtype, int e, const spec *s, int which, int rank,
                  const int64_t *shape) {
  return uniform_array(dtype, rank, shape, e, s->seed, which);
}

static void make(vjp_operands *o, const spec *s) {
  int64_t keys = s->options & SHARED ? 1 : s->batch;
  const int64_t of_query[] = {s->batch, s->heads, s->lq, s->size};
  const int64_t of_out[] = {s->batch, s->heads, s->lq, s->value_size};
  const int64_t of_key[] = {keys, s->key_heads, s->lk, s->size};
  const int64_t of_value[] = {keys, s->key_heads, s->lk, s->value_size};
  const int64_t row[] = {s->batch, 1, 1, s->lk};
  smx_dtype wide = single(s->dtype);
  memset(o, 0, sizeof *o);
  array *of = o->of;
  int far = s->dtype == SMX_FLOAT64 ? 8 : 5;
  of[QUERY] = draw(s->dtype, s->options & FAR ? far : 1, s, OF_X, 4, of_query);
  of[KEY] = draw(s->dtype, 1, s, OF_KEY, 4, of_key);
  of[VALUE] = draw(s->dtype, 0, s, OF_VALUE, 4, of_value);
  of[D_OUT] = draw(s->dtype, 1, s, 10, 4, of_out);
  of[OUT] = new_array(s->dtype, 4, of_out);
  of[LSE] = new_array(wide, 3, of_out);
  if (s->options & MASK) {
    const int64_t shape[] = {s->lq, s->lk};
    of[FEW_MASK] = new_array(SMX_BOOL, 2, shape);
    for (int64_t i = 0; i < of[FEW_MASK].count; i++)
      of[FEW_MASK].data[i] = stream(s->seed, OF_MASK, (uint64_t)i) >> 62 != 0;
  }
  const int64_t full[] = {s->heads, s->lq, s->lk};
  if (s->options & BIAS) of[FEW_BIAS] = draw(s->dtype, 0, s, OF_BIAS, 3, full);
  if (s->options & ROW_BIAS) of[FEW_BIAS] = draw(s->dtype, 0, s, OF_BIAS, 4, row);
  if (s->options & SINKS) of[FEW_SINKS] = draw(wide, -1, s, OF_SINKS, 1, &s->heads);
  if (s->options & SLOPES) of[FEW_SLOPES] = draw(wide, -2, s, OF_SLOPES, 1, &s->heads);
  for (int64_t i = 0; i < of[FEW_SLOPES].count; i++) {
    double slope = get(&of[FEW_SLOPES], i);
    set(&of[FEW_SLOPES], i, slope < 0 ? -slope : slope);
  }
  const int like[GRADIENTS] = {QUERY, KEY, VALUE, FEW_BIAS, FEW_SINKS};
  for (int k = 0; k < GRADIENTS; k++) {
    const array *a = &of[like[k]];
    if (a->data) of[D_QUERY + k] = new_array(k < 3 ? s->dtype : wide, a->rank, a->shape);
  }
}

static const smx_tensor *at(vjp_operands *o, int k) {
  return o->of[k].data ? &o->at[k].tensor : NULL;
}

/* Into its place; BLHD is the same memory seen with two axes exchanged. */
static void put(vjp_operands *o, int k) {
  if (!o->of[k].data) return;
  placed *p = &o->at[k];
  place(p, &o->of[k], &o->how, none);
  int has_heads = k <= OUT || (k >= D_QUERY && k <= D_VALUE);
  if (!o->is_blhd || !has_heads) return;
  int64_t length = p->shape[1], stride = p->strides[1];
  p->shape[1] = p->shape[2], p->strides[1] = p->strides[2];
  p->shape[2] = length, p->strides[2] = stride;
}

static void take(vjp_operands *o, int k) {
  placed p = o->at[k];
  if (o->is_blhd && k <= D_VALUE) {
    int64_t stride = p.strides[1];
    p.strides[1] = p.strides[2], p.strides[2] = stride;
  }
  collect(&p, &o->of[k], &o->how, none);
}

/* One call of the gradient for those that are wanted, a bit for each. */
static smx_status call(vjp_operands *o, smx_attention_options options, int wanted,
                       int has_workspace) {
  const smx_tensor *list[GRADIENTS];
  for (int k = 0; k < GRADIENTS; k++) list[k] = wanted >> k & 1 ? at(o, D_QUERY + k) : NULL;
  smx_attention_gradients gradients = {sizeof gradients, list[0], list[1],
                                       list[2],          list[3], list[4]};
  void *memory = NULL;
  if (has_workspace) {
    smx_status status = smx_attention_vjp_workspace_size(
        at(o, D_OUT), at(o, QUERY), at(o, KEY), at(o, VALUE), at(o, OUT), at(o, LSE), &gradients,
        &options, &options.workspace_size);
    if (status != SMX_OK) return status;
    memory = allocate(options.workspace_size + 64);
    options.workspace = (char *)memory + (64 - (uintptr_t)memory % 64);
  }
  smx_status status = smx_attention_vjp(at(o, D_OUT), at(o, QUERY), at(o, KEY), at(o, VALUE),
                                        at(o, OUT), at(o, LSE), &gradients, &options);
  free(memory);
  return status;
}

static void run_spec(const spec *s, operation_run *run, int variation) {
  static const layout layouts[VARIATIONS] = {
      [APART] = {.step = 3, .offset = 1}, [BACKWARDS] = {.backwards = 1, .memory_order = 1}};
  vjp_operands o;
  make(&o, s);
  o.how = layouts[variation];
  o.is_blhd = variation == BLHD;
  for (int k = 0; k < ARRAYS; k++) put(&o, k);
  int64_t of_entries[] = {s->batch}, stride[] = {4};
  int32_t key_lengths[8], query_lengths[8];
  for (int32_t b = 0; b < s->batch; b++) {
    key_lengths[b] = (int32_t)s->lk - 9 * b;
    query_lengths[b] = (int32_t)s->lq - 5 * b;
  }
  smx_tensor of_keys = {key_lengths, SMX_INT32, 1, of_entries, stride};
  smx_tensor of_queries = {query_lengths, SMX_INT32, 1, of_entries, stride};
  smx_mask mask = {.size = sizeof mask,
                   .causal = !!(s->options & CAUSAL),
                   .window = !!(s->options & WINDOW),
                   .window_left = 40,
                   .window_right = 3};
  if (s->options & LENGTHS) mask.key_lengths = &of_keys, mask.query_lengths = &of_queries;
  smx_attention_options options = {.size = sizeof options,
                                   .layout = o.is_blhd ? SMX_BLHD : SMX_BHLD,
                                   .softcap = s->options & SOFTCAP ? 2 : 0,
                                   .mask = at(&o, FEW_MASK),
                                   .bias = at(&o, FEW_BIAS),
                                   .sinks = at(&o, FEW_SINKS),
                                   .alibi_slopes = at(&o, FEW_SLOPES),
                                   .structure = &mask};
  smx_attention_options forward = options;
  forward.lse = at(&o, LSE);
  if (succeeded(run,
                smx_attention(at(&o, QUERY), at(&o, KEY), at(&o, VALUE), at(&o, OUT), &forward))) {
    int step = variation == ONE_BY_ONE ? 1 : GRADIENTS, good = 1;
    for (int k = 0; k < GRADIENTS && good; k += step)
      good = succeeded(run, call(&o, options, ((1 << step) - 1) << k, variation == WORKSPACE));
    for (int k = 0; k < GRADIENTS && good; k++) {
      if (!o.of[D_QUERY + k].data) continue;
      take(&o, D_QUERY + k);
      emit(run, names[k], &o.of[D_QUERY + k]);
    }
  }
  for (int k = 0; k < ARRAYS; k++) free(o.of[k].data), free(o.at[k].memory);
}

/* Name, then the fields of its spec. */
#define CASES(CASE)                                                                           \
  CASE(plain_f32, SMX_FLOAT32, 2, 2, 2, 60, 100, 64, 64, 0, 1)                                \
  CASE(plain_f64, SMX_FLOAT64, 2, 2, 2, 50, 70, 32, 32, 0, 2)                                 \
  CASE(plain_f16, SMX_FLOAT16, 2, 2, 1, 50, 70, 64, 40, 0, 3)                                 \
  CASE(plain_bf16, SMX_BFLOAT16, 2, 2, 1, 50, 70, 64, 40, 0, 4)                               \
  CASE(causal_f32, SMX_FLOAT32, 1, 4, 1, 130, 200, 48, 48, CAUSAL, 5)                         \
  CASE(causal_f64, SMX_FLOAT64, 1, 2, 1, 100, 80, 24, 17, CAUSAL, 6)                          \
  CASE(window_f32, SMX_FLOAT32, 2, 3, 3, 97, 97, 33, 20, CAUSAL | WINDOW, 7)                  \
  CASE(mask_f32, SMX_FLOAT32, 2, 4, 2, 49, 65, 16, 80, MASK, 8)                               \
  CASE(mask_bf16, SMX_BFLOAT16, 2, 4, 2, 49, 65, 16, 80, MASK | SINKS, 9)                     \
  CASE(bias_f32, SMX_FLOAT32, 2, 2, 1, 48, 64, 32, 32, BIAS, 10)                              \
  CASE(bias_f16, SMX_FLOAT16, 2, 2, 1, 48, 64, 32, 32, BIAS | CAUSAL, 11)                     \
  CASE(row_bias_f32, SMX_FLOAT32, 3, 2, 1, 70, 130, 20, 24, ROW_BIAS, 12)                     \
  CASE(row_bias_f64, SMX_FLOAT64, 2, 2, 1, 70, 66, 20, 24, ROW_BIAS | SINKS, 13)              \
  CASE(sinks_f32, SMX_FLOAT32, 2, 6, 2, 51, 70, 64, 64, SINKS, 14)                            \
  CASE(softcap_f32, SMX_FLOAT32, 1, 2, 2, 64, 128, 64, 64, SOFTCAP, 15)                       \
  CASE(softcap_f64, SMX_FLOAT64, 1, 2, 2, 30, 70, 16, 16, SOFTCAP | SLOPES, 16)               \
  CASE(slopes_f32, SMX_FLOAT32, 1, 8, 2, 40, 70, 32, 32, SLOPES | CAUSAL, 17)                 \
  CASE(shared_f32, SMX_FLOAT32, 3, 4, 2, 50, 70, 32, 48, SHARED, 18)                          \
  CASE(shared_f16, SMX_FLOAT16, 3, 2, 1, 50, 70, 33, 48, SHARED | SINKS, 19)                  \
  CASE(lengths_f32, SMX_FLOAT32, 3, 2, 2, 60, 90, 32, 32, LENGTHS | SINKS, 20)                \
  CASE(lengths_f64, SMX_FLOAT64, 2, 2, 1, 60, 90, 16, 16, LENGTHS | CAUSAL, 21)               \
  CASE(all_f32, SMX_FLOAT32, 2, 4, 2, 70, 140, 40, 24,                                        \
       CAUSAL | WINDOW | MASK | BIAS | SINKS | SLOPES | SOFTCAP | LENGTHS, 22)                \
  CASE(all_bf16, SMX_BFLOAT16, 2, 4, 2, 50, 70, 40, 24,                                       \
       CAUSAL | MASK | BIAS | SINKS | SLOPES | SOFTCAP | LENGTHS, 23)                         \
  CASE(decode_f32, SMX_FLOAT32, 4, 8, 2, 1, 300, 64, 64, 0, 24)                               \
  CASE(tall_f32, SMX_FLOAT32, 1, 1, 1, 300, 3, 8, 9, 0, 25)                                   \
  CASE(far_f32, SMX_FLOAT32, 1, 2, 1, 60, 140, 64, 64, FAR, 26)                               \
  CASE(far_f64, SMX_FLOAT64, 1, 2, 1, 60, 140, 64, 64, FAR | CAUSAL, 27)

#define RUN(name, ...)                                          \
  static void run_##name(operation_run *run, int variation) {   \
    static const spec s = {__VA_ARGS__};                        \
    run_spec(&s, run, variation);                               \
  }
CASES(RUN)
#define ENTRY(name, ...) {"attention_vjp_" #name, VARIATIONS, run_##name},
const operation_case operations_attention_vjp[] = {CASES(ENTRY){0}};
