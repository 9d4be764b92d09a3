/* Every error of attention's gradient that is its own: of d_out, out, lse and the gradients, of the
 * options that it does not take, of sizes and the workspace; and samples of those of the forward
 * call's operands, which it checks the same way. No gradient is written. */
#include "errors.h"

enum { BYTES = 8192, ANY_SIZE = 12345 };
enum { B = 2, HQ = 4, HKV = 2, LQ = 3, LK = 5, D = 6, DV = 7 };
enum { D_OUT, QUERY, KEY, VALUE, OUT, LSE, MASK, BIAS, SLOPES, SINKS, INPUTS };
enum { D_QUERY = INPUTS, D_KEY, D_VALUE, D_BIAS, D_SINKS, OPERANDS };
static const char *const names[OPERANDS] = {
    "d_out", "query",        "key",   "value",   "out",   "lse",     "mask",   "bias",
    "alibi_slopes", "sinks", "d_query", "d_key", "d_value", "d_bias", "d_sinks"};
static const int64_t shapes[OPERANDS][4] = {
    {B, HQ, LQ, DV}, {B, HQ, LQ, D}, {B, HKV, LK, D}, {B, HKV, LK, DV}, {B, HQ, LQ, DV},
    {B, HQ, LQ},     {LQ, LK},       {HQ, 1, LK},     {B, HQ},          {HQ},
    {B, HQ, LQ, D},  {B, HKV, LK, D}, {B, HKV, LK, DV}, {HQ, 1, LK},    {HQ}};
static const int ranks[OPERANDS] = {4, 4, 4, 4, 4, 3, 2, 3, 2, 1, 4, 4, 4, 3, 1};
static _Alignas(64) unsigned char bytes[OPERANDS][BYTES], room[1 << 22];
static smx_tensor tensors[OPERANDS];
static smx_attention_options options;
static smx_attention_gradients gradients;
static smx_mask structure;
/* What the six leading arguments are. */
static const smx_tensor *given[INPUTS];
static const smx_attention_gradients *given_gradients;

static int is_single(int k) {
  return k == LSE || k == SLOPES || k == SINKS || k == D_BIAS || k == D_SINKS;
}

/* The good call: every operand, every gradient. */
static void reset(smx_dtype dtype) {
  smx_dtype single = dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32;
  for (int k = 0; k < OPERANDS; k++) {
    smx_dtype own = k == MASK ? SMX_BOOL : is_single(k) ? single : dtype;
    tensors[k] = (smx_tensor){bytes[k], own, ranks[k], shapes[k], NULL};
    memset(bytes[k], k >= INPUTS ? 0xa5 : 0, BYTES);
    if (k <= LSE) given[k] = &tensors[k];
  }
  structure = (smx_mask){.size = sizeof structure, .causal = 1};
  options = (smx_attention_options){.size = sizeof options,
                                    .mask = &tensors[MASK],
                                    .bias = &tensors[BIAS],
                                    .alibi_slopes = &tensors[SLOPES],
                                    .sinks = &tensors[SINKS],
                                    .structure = &structure};
  gradients = (smx_attention_gradients){sizeof gradients,  &tensors[D_QUERY], &tensors[D_KEY],
                                        &tensors[D_VALUE], &tensors[D_BIAS],  &tensors[D_SINKS]};
  given_gradients = &gradients;
}

static int outputs_untouched(void) {
  for (int k = INPUTS; k < OPERANDS; k++) {
    for (int i = 0; i < BYTES; i++) {
      if (bytes[k][i] != 0xa5) return 0;
    }
  }
  return 1;
}

static smx_status run(void) {
  return smx_attention_vjp(given[0], given[1], given[2], given[3], given[4], given[5],
                           given_gradients, &options);
}

static smx_status ask(size_t *size) {
  return smx_attention_vjp_workspace_size(given[0], given[1], given[2], given[3], given[4],
                                          given[5], given_gradients, &options, size);
}

static void expect(const char *place, smx_status want, const char *const *words) {
  size_t size = ANY_SIZE;
  expect_one(place, run(), want, words, "attention_vjp");
  expect_one(place, ask(&size), want, words, "workspace_size");
  check(size == ANY_SIZE, place, "size was written");
}

/* A change to the good call, and the error that it must give. */
#define BAD(change, want, ...) (reset(dtype), change, expect(PLACE, want, WORDS(__VA_ARGS__)))
#define SHAPE(k, rank, ...) \
  (tensors[k].ndim = rank, tensors[k].shape = (const int64_t[]){__VA_ARGS__})

static void check_good(smx_dtype dtype) {
  size_t need = 0;
  DESCRIBE("good calls of %s", name_of(dtype));
  reset(dtype);
  CHECK(run() == SMX_OK && !outputs_untouched(), "%s", smx_last_error());
  for (int k = INPUTS; k < OPERANDS; k++) {
    int written = 0;
    for (int i = 0; i < BYTES; i++) written += bytes[k][i] != 0xa5;
    CHECK(written > 0, "%s was not written", names[k]);
  }
  CHECK(ask(&need) == SMX_OK && need > 0 && need % 64 == 0, "%zu: %s", need, smx_last_error());
  /* None is wanted, no options are given; neither is an error. */
  reset(dtype);
  gradients = (smx_attention_gradients){.size = sizeof gradients};
  CHECK(run() == SMX_OK && outputs_untouched(), "%s", smx_last_error());
  reset(dtype);
  gradients.d_bias = gradients.d_sinks = NULL;
  CHECK(smx_attention_vjp(given[0], given[1], given[2], given[3], given[4], given[5], &gradients,
                          NULL) == SMX_OK,
        "%s", smx_last_error());
  /* out, lse and d_out are inputs: they may repeat and overlap one another. */
  int64_t repeats[] = {0, 0, 0, 0};
  reset(dtype);
  tensors[OUT].strides = tensors[LSE].strides = tensors[D_OUT].strides = repeats;
  tensors[OUT].data = tensors[LSE].data = tensors[D_OUT].data = bytes[QUERY];
  CHECK(run() == SMX_OK, "%s", smx_last_error());
  reset(dtype);
  tensors[BIAS].dtype = dtype < SMX_FLOAT32 ? SMX_FLOAT32 : dtype;
  CHECK(run() == SMX_OK, "float32 bias: %s", smx_last_error());
}

/* What can be wrong with any tensor. */
static void check_tensor(smx_dtype dtype, int k) {
  static const int64_t negative[] = {2, 2, -3, 2}, many[65] = {1}, five[] = {1, 1, 1, 1, 1},
                       huge[] = {(int64_t)1 << 40, 1, (int64_t)1 << 40, 1};
  smx_tensor *t = &tensors[k];
  DESCRIBE("%s of %s", names[k], name_of(dtype));
  BAD(t->data = NULL, SMX_ERROR_NULL, names[k], ".data is NULL");
  BAD(t->shape = NULL, SMX_ERROR_NULL, names[k], ".shape is NULL");
  BAD(t->dtype = 0, SMX_ERROR_DTYPE, names[k], "dtype 0");
  BAD(t->dtype = 99, SMX_ERROR_DTYPE, names[k], "dtype 99");
  BAD(t->dtype = SMX_INT64, SMX_ERROR_DTYPE, names[k], "int64");
  smx_dtype wrong = dtype == SMX_FLOAT64 ? SMX_FLOAT32 : SMX_FLOAT64;
  if (k != QUERY) BAD(t->dtype = wrong, SMX_ERROR_DTYPE, names[k], name_of(wrong));
  BAD(t->ndim = -1, SMX_ERROR_SHAPE, names[k], "-1 axes");
  BAD((t->ndim = 65, t->shape = many), SMX_ERROR_SHAPE, names[k], "65 axes", "64");
  BAD((t->ndim = 4, t->shape = negative), SMX_ERROR_SHAPE, names[k], "negative", "(2, 2, -3, 2)");
  BAD((t->ndim = 4, t->shape = huge), SMX_ERROR_OVERFLOW, names[k], "1099511627776");
  BAD((t->ndim = 5, t->shape = five), SMX_ERROR_SHAPE, names[k], "(1, 1, 1, 1, 1)");
}

static void check_shapes(smx_dtype dtype) {
  DESCRIBE("shapes of %s", name_of(dtype));
  BAD(SHAPE(D_OUT, 4, B, HQ, LQ, D), SMX_ERROR_SHAPE, "d_out", "(2, 4, 3, 6)", "out",
      "(2, 4, 3, 7)");
  BAD(SHAPE(D_OUT, 3, HQ, LQ, DV), SMX_ERROR_SHAPE, "d_out", "(4, 3, 7)", "out");
  BAD(SHAPE(OUT, 4, B, HQ, LQ, D), SMX_ERROR_SHAPE, "out", "(2, 4, 3, 6)", "(2, 4, 3, 7)");
  BAD(SHAPE(LSE, 3, B, LQ, HQ), SMX_ERROR_SHAPE, "lse", "(2, 3, 4)", "(2, 4, 3, 5)");
  BAD(SHAPE(LSE, 4, B, HQ, LQ, 1), SMX_ERROR_SHAPE, "lse", "(2, 4, 3, 1)");
  BAD(SHAPE(KEY, 4, B, HKV, LK, D + 1), SMX_ERROR_SHAPE, "key", "(2, 2, 5, 7)", "query");
  BAD(SHAPE(VALUE, 4, B, HKV, LK + 1, DV), SMX_ERROR_SHAPE, "value", "(2, 2, 6, 7)", "key");
  BAD((SHAPE(KEY, 4, B, 3, LK, D), SHAPE(VALUE, 4, B, 3, LK, DV)), SMX_ERROR_SHAPE, "query",
      "multiple", "key", "(2, 3, 5, 6)");
  BAD(SHAPE(BIAS, 2, HQ, LK), SMX_ERROR_SHAPE, "bias", "(4, 5)", "(2, 4, 3, 5)");
  BAD(SHAPE(D_QUERY, 4, B, HQ, LQ, DV), SMX_ERROR_SHAPE, "d_query", "(2, 4, 3, 7)", "query",
      "(2, 4, 3, 6)");
  BAD(SHAPE(D_KEY, 4, B, HQ, LK, D), SMX_ERROR_SHAPE, "d_key", "(2, 4, 5, 6)", "key",
      "(2, 2, 5, 6)");
  BAD(SHAPE(D_KEY, 3, HKV, LK, D), SMX_ERROR_SHAPE, "d_key", "(2, 5, 6)", "key");
  BAD(SHAPE(D_VALUE, 4, 1, HKV, LK, DV), SMX_ERROR_SHAPE, "d_value", "(1, 2, 5, 7)", "value");
  BAD(SHAPE(D_BIAS, 3, HQ, LQ, LK), SMX_ERROR_SHAPE, "d_bias", "(4, 3, 5)", "bias", "(4, 1, 5)");
  BAD(SHAPE(D_BIAS, 4, 1, HQ, 1, LK), SMX_ERROR_SHAPE, "d_bias", "(1, 4, 1, 5)", "bias");
  BAD(SHAPE(D_SINKS, 1, HKV), SMX_ERROR_SHAPE, "d_sinks", "(2,)", "sinks", "(4,)");
  BAD(options.layout = SMX_BLHD, SMX_ERROR_SHAPE, "query", "multiple", "key");
  BAD(options.bias = NULL, SMX_ERROR_NULL, "d_bias", "options.bias");
  BAD(options.sinks = NULL, SMX_ERROR_NULL, "d_sinks", "options.sinks");
}

static void check_options(smx_dtype dtype) {
  static const size_t sizes[] = {0, 8, sizeof options - 1, sizeof options + 8, SIZE_MAX};
  static const char *const six[] = {"d_out is NULL", "query is NULL", "key is NULL",
                                    "value is NULL", "out is NULL",   "lse is NULL"};
  DESCRIBE("options of %s", name_of(dtype));
  for (int i = 0; i < 5; i++) {
    BAD(options.size = sizes[i], SMX_ERROR_SIZE, "options.size");
    BAD(gradients.size = i == 2 ? sizeof gradients - 1 : sizes[i], SMX_ERROR_SIZE,
        "gradients.size");
  }
  for (int k = 0; k <= LSE; k++) BAD(given[k] = NULL, SMX_ERROR_NULL, six[k]);
  BAD(given_gradients = NULL, SMX_ERROR_NULL, "gradients is NULL");
  reset(dtype);
  expect_one(PLACE, ask(NULL), SMX_ERROR_NULL, WORDS("size is NULL"), "workspace_size");
  /* Whatever they are: a tensor, or one that is itself wrong. */
  smx_tensor any = {0};
  BAD(options.lse = &any, SMX_ERROR_VALUE, "options.lse", "NULL");
  BAD(options.weights = &any, SMX_ERROR_VALUE, "options.weights", "NULL");
  BAD(options.past_key = &any, SMX_ERROR_VALUE, "options.past_key", "NULL");
  BAD(options.past_value = &any, SMX_ERROR_VALUE, "options.past_value", "NULL");
  BAD(options.block_table = &any, SMX_ERROR_VALUE, "options.block_table", "NULL");
  BAD(options.query_starts = &any, SMX_ERROR_VALUE, "options.query_starts", "NULL");
  BAD(options.key_starts = &any, SMX_ERROR_VALUE, "options.key_starts", "NULL");
  BAD(options.softcap = -1, SMX_ERROR_VALUE, "softcap");
  BAD((options.has_scale = 1, options.scale = NAN), SMX_ERROR_VALUE, "scale");
  BAD(options.layout = 2, SMX_ERROR_VALUE, "layout");
  BAD(options.precision = 2, SMX_ERROR_VALUE, "precision");
  BAD(structure.size = 1, SMX_ERROR_SIZE, "size");
}

/* Keys so many that their sums, rows filled up to vectors, could not be counted, though the tensors
 * can. Nothing is behind these addresses. */
static void check_sums(smx_dtype dtype) {
  static const int64_t key[] = {1, 1, (int64_t)1 << 58, 1}, one[] = {1, 1, 1, 1}, lse[] = {1, 1, 1};
  DESCRIBE("sums of %s", name_of(dtype));
  reset(dtype);
  for (int k = 0; k < OPERANDS; k++) tensors[k].shape = k == LSE ? lse : one;
  static const int64_t repeats[4] = {0};
  tensors[KEY].shape = tensors[VALUE].shape = tensors[D_KEY].shape = tensors[D_VALUE].shape = key;
  tensors[KEY].strides = tensors[VALUE].strides = repeats;
  tensors[D_KEY].data = (void *)((uintptr_t)1 << 61);
  tensors[D_VALUE].data = (void *)((uintptr_t)1 << 62);
  options = (smx_attention_options){.size = sizeof options};
  gradients.d_bias = gradients.d_sinks = NULL;
  expect(PLACE, SMX_ERROR_OVERFLOW, WORDS("key", "value", "(1, 1, 288230376151711744, 1)"));
}

static void check_workspace(smx_dtype dtype) {
  size_t need = 0;
  char wanted[24];
  DESCRIBE("workspace of %s", name_of(dtype));
  reset(dtype);
  smx_set_num_threads(1);
  CHECK(ask(&need) == SMX_OK && need + 64 <= sizeof room, "%zu: %s", need, smx_last_error());
  snprintf(wanted, sizeof wanted, "%zu", need);
  for (int i = 0; i < 3; i++) {
    options.workspace = room;
    options.workspace_size = i == 0 ? 0 : i == 1 ? 64 : need - 1;
    expect_one(PLACE, run(), SMX_ERROR_VALUE, WORDS("workspace_size", wanted), "attention_vjp");
  }
  options.workspace_size = need;
  for (int i = 1; i < 64; i *= 2) {
    options.workspace = room + i;
    expect_one(PLACE, run(), SMX_ERROR_VALUE, WORDS("workspace", "64"), "attention_vjp");
  }
  options.workspace = room;
  CHECK(run() == SMX_OK, "%s", smx_last_error());
}

static void check_overlaps(smx_dtype dtype) {
  int64_t zero[] = {0, 4, 4, 4};
  for (int k = INPUTS; k < OPERANDS; k++) {
    DESCRIBE("%s of %s overlaps", names[k], name_of(dtype));
    BAD(tensors[k].strides = zero, SMX_ERROR_OVERLAP, names[k], "stride 0", "axis 0");
    /* Each other operand in the very place, and one element on. */
    for (int n = 0; n < 2 * OPERANDS; n++) {
      int other = n / 2;
      if (other == k) continue;
      reset(dtype);
      tensors[other].data = bytes[k] + (size_t)(n % 2) * size_of(tensors[k].dtype);
      expect(PLACE, SMX_ERROR_OVERLAP, WORDS(names[k], "overlaps", names[other]));
    }
  }
}

int main(void) {
  for (int d = 0; d < 4; d++) {
    smx_dtype dtype = float_dtypes[d];
    check_good(dtype);
    for (int k = 0; k < OPERANDS; k++) check_tensor(dtype, k);
    check_shapes(dtype);
    check_options(dtype);
    check_sums(dtype);
    check_workspace(dtype);
    check_overlaps(dtype);
  }
  return finish("test_attention_vjp_errors");
}
