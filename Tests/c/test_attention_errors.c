/* Every error of the three attention functions that lies in their operands and numbers; those of
 * structured masks and block tables are in test_attention_structures.c. */
#include "attention_errors.h"

static _Alignas(64) unsigned char room[1 << 22];

static void check_good(smx_dtype dtype) {
  DESCRIBE("good calls of %s", name_of(dtype));
  for (int k = MASK; k < OUT; k++) {
    size_t size = ANY_SIZE;
    reset(dtype);
    give(k);
    smx_status status =
        smx_attention_workspace_size(given[0], given[1], given[2], given[3], &options, &size);
    CHECK(status == SMX_OK && size <= sizeof room, "%s: %s", names[k], smx_last_error());
    status = smx_attention(given[0], given[1], given[2], given[3], &options);
    CHECK(status == SMX_OK, "%s: %s", names[k], smx_last_error());
    CHECK(!outputs_untouched(), "nothing was written");
  }
}

/* What can be wrong with any tensor. */
static void check_tensor(smx_dtype dtype, int k) {
  static const int64_t negative[] = {2, 2, -3, 2}, many[65] = {1}, five[] = {1, 1, 1, 1, 1},
                       huge[] = {(int64_t)1 << 40, 1, (int64_t)1 << 40, 1},
                       large[] = {(int64_t)1 << 31, 2, (int64_t)1 << 28, 1};
  DESCRIBE("%s of %s", names[k], name_of(dtype));
  smx_tensor *t = &tensors[k];
  BAD((give(k), t->data = NULL), SMX_ERROR_NULL, names[k], ".data is NULL");
  BAD((give(k), t->shape = NULL), SMX_ERROR_NULL, names[k], ".shape is NULL");
  BAD(DTYPE(k, 0), SMX_ERROR_DTYPE, names[k], "dtype 0");
  BAD(DTYPE(k, 99), SMX_ERROR_DTYPE, names[k], "dtype 99");
  BAD(DTYPE(k, k == TABLE ? SMX_FLOAT32 : SMX_INT64), SMX_ERROR_DTYPE, names[k],
      k == TABLE ? "float32" : "int64");
  smx_dtype wrong = dtype == SMX_FLOAT64 ? SMX_FLOAT32 : SMX_FLOAT64;
  if (k != QUERY)
    BAD(DTYPE(k, wrong), SMX_ERROR_DTYPE, k == TABLE ? "block_table" : names[k], name_of(wrong));
  BAD((give(k), t->ndim = -1), SMX_ERROR_SHAPE, names[k], "-1 axes");
  BAD((give(k), t->ndim = 65, t->shape = many), SMX_ERROR_SHAPE, names[k], "65 axes", "64");
  BAD((give(k), t->ndim = 4, t->shape = negative), SMX_ERROR_SHAPE, names[k], "negative",
      "(2, 2, -3, 2)");
  BAD((give(k), t->ndim = 4, t->shape = huge), SMX_ERROR_OVERFLOW, names[k], "1099511627776");
  BAD((give(k), t->ndim = 4, t->shape = large), SMX_ERROR_OVERFLOW, names[k], "2147483648");
  BAD((give(k), t->ndim = 5, t->shape = five), SMX_ERROR_SHAPE, names[k], "(1, 1, 1, 1, 1)");
  if (k == MASK || k == BIAS) return;
  BAD((give(k), t->ndim = 0), SMX_ERROR_SHAPE, names[k], "()");
  BAD((give(k), t->ndim = k == SINKS ? 2 : 1, t->shape = many), SMX_ERROR_SHAPE, names[k],
      k == SINKS ? "(1, 0)" : "(1,)");
}

static void check_shapes(smx_dtype dtype) {
  smx_dtype wide = dtype == SMX_FLOAT64 ? SMX_FLOAT32 : SMX_FLOAT64;
  DESCRIBE("shapes of %s", name_of(dtype));
  BAD(SHAPE(KEY, 4, B, HKV, LK, D + 1), SMX_ERROR_SHAPE, "key", "(2, 2, 5, 7)", "head size",
      "query", "(2, 4, 3, 6)");
  BAD(SHAPE(KEY, 3, HKV, LK, D), SMX_ERROR_SHAPE, "key", "(2, 5, 6)", "axes", "query");
  BAD(SHAPE(KEY, 4, 3, HKV, LK, D), SMX_ERROR_SHAPE, "key", "(3, 2, 5, 6)", "batch", "query");
  BAD((SHAPE(KEY, 4, B, 3, LK, D), SHAPE(VALUE, 4, B, 3, LK, DV)), SMX_ERROR_SHAPE, "query",
      "multiple", "key", "(2, 3, 5, 6)");
  BAD((SHAPE(KEY, 4, B, 0, LK, D), SHAPE(VALUE, 4, B, 0, LK, DV)), SMX_ERROR_SHAPE, "query",
      "multiple", "(2, 0, 5, 6)");
  BAD(SHAPE(VALUE, 4, B, HKV, LK + 1, DV), SMX_ERROR_SHAPE, "value", "(2, 2, 6, 7)", "key",
      "(2, 2, 5, 6)");
  BAD(SHAPE(VALUE, 4, B, 1, LK, DV), SMX_ERROR_SHAPE, "value", "(2, 1, 5, 7)", "key");
  BAD(SHAPE(VALUE, 4, 3, HKV, LK, DV), SMX_ERROR_SHAPE, "value", "(3, 2, 5, 7)", "batch");
  BAD(SHAPE(OUT, 4, B, HQ, LQ, D), SMX_ERROR_SHAPE, "out", "(2, 4, 3, 6)", "(2, 4, 3, 7)");
  BAD(SHAPE(OUT, 4, B, LQ, HQ, DV), SMX_ERROR_SHAPE, "out", "(2, 3, 4, 7)", "(2, 4, 3, 7)");
  BAD(SHAPE(MASK, 4, B, HQ, LQ, LK - 1), SMX_ERROR_SHAPE, "mask", "(2, 4, 3, 4)", "(2, 4, 3, 5)");
  BAD(SHAPE(BIAS, 2, HQ, LK), SMX_ERROR_SHAPE, "bias", "(4, 5)", "(2, 4, 3, 5)");
  BAD(SHAPE(SLOPES, 1, HKV), SMX_ERROR_SHAPE, "alibi_slopes", "(2,)", "query");
  BAD(SHAPE(SLOPES, 2, HQ, B), SMX_ERROR_SHAPE, "alibi_slopes", "(4, 2)", "query");
  BAD(SHAPE(SINKS, 1, 1), SMX_ERROR_SHAPE, "sinks", "(1,)", "query");
  BAD(SHAPE(SINKS, 2, B, HQ), SMX_ERROR_SHAPE, "sinks", "(2, 4)", "query");
  BAD(SHAPE(LSE, 3, B, LQ, HQ), SMX_ERROR_SHAPE, "lse", "(2, 3, 4)", "(2, 4, 3, 5)");
  BAD(SHAPE(LSE, 4, B, HQ, LQ, 1), SMX_ERROR_SHAPE, "lse", "(2, 4, 3, 1)");
  BAD(SHAPE(WEIGHTS, 4, B, HQ, LQ, 1), SMX_ERROR_SHAPE, "weights", "(2, 4, 3, 1)");
  BAD(SHAPE(WEIGHTS, 3, HQ, LQ, LK), SMX_ERROR_SHAPE, "weights", "(4, 3, 5)");
  BAD(SHAPE(PAST_KEY, 4, B, HQ, 4, D), SMX_ERROR_SHAPE, "past_key", "(2, 4, 4, 6)", "key");
  BAD(SHAPE(PAST_KEY, 4, B, HKV, 4, D + 1), SMX_ERROR_SHAPE, "past_key", "(2, 2, 4, 7)");
  BAD(SHAPE(PAST_KEY, 4, 3, HKV, 4, D), SMX_ERROR_SHAPE, "past_key", "(3, 2, 4, 6)");
  BAD(SHAPE(PAST_VALUE, 4, B, HKV, 3, DV), SMX_ERROR_SHAPE, "past_value", "(2, 2, 3, 7)");
  BAD(SHAPE(PAST_VALUE, 3, HKV, 4, DV), SMX_ERROR_SHAPE, "past_value", "(2, 4, 7)");
  /* In BLHD the same shapes mean other lengths. */
  BAD((options.layout = SMX_BLHD), SMX_ERROR_SHAPE, "query", "multiple", "key");
  if (dtype < SMX_FLOAT32) {
    reset(dtype), DTYPE(BIAS, SMX_FLOAT32);
    CHECK(smx_attention(given[0], given[1], given[2], given[3], &options) == SMX_OK, "%s",
          smx_last_error());
  }
  BAD(DTYPE(BIAS, wide), SMX_ERROR_DTYPE, "bias", name_of(wide), name_of(dtype));
  BAD(DTYPE(BIAS, SMX_BOOL), SMX_ERROR_DTYPE, "bias", "bool");
  BAD(DTYPE(MASK, dtype), SMX_ERROR_DTYPE, "mask", name_of(dtype), "bool");
}

static void check_numbers(smx_dtype dtype) {
  static const size_t sizes[] = {0, 8, sizeof options - 1, sizeof options + 8, SIZE_MAX};
  static const double wrong[] = {NAN, INFINITY, -INFINITY, -1, -1e-300};
  DESCRIBE("numbers of %s", name_of(dtype));
  for (int i = 0; i < 5; i++) {
    BAD(options.size = sizes[i], SMX_ERROR_SIZE, "options.size");
    BAD(options.softcap = wrong[i], SMX_ERROR_VALUE, "softcap");
    if (i < 3) BAD((options.has_scale = 1, options.scale = wrong[i]), SMX_ERROR_VALUE, "scale");
  }
  for (int i = 2; i > -2; i -= 3) {
    BAD(options.layout = i, SMX_ERROR_VALUE, "layout");
    BAD(options.precision = i, SMX_ERROR_VALUE, "precision");
  }
  BAD((give(PAST_KEY), options.past_value = NULL), SMX_ERROR_VALUE, "past_key", "past_value");
  BAD((give(PAST_KEY), options.past_key = NULL), SMX_ERROR_VALUE, "past_key", "past_value");
  for (int i = 0; i < 4; i++) {
    static const char *const four[] = {"query is NULL", "key is NULL", "value is NULL",
                                       "out is NULL"};
    const smx_tensor *kept = given[i];
    given[i] = NULL;
    BAD((void)0, SMX_ERROR_NULL, four[i]);
    given[i] = kept;
  }
  reset(dtype);
  expect_one(PLACE,
             smx_attention_workspace_size(given[0], given[1], given[2], given[3], NULL, NULL),
             SMX_ERROR_NULL, WORDS("size is NULL"), "workspace_size");
}

/* Good but for the workspace; only the call looks at it. */
static void check_workspace(smx_dtype dtype) {
  /* More than fits a thread's own scratch, on every instruction set. */
  static const int64_t q[] = {1, 1, 70, 2048}, o[] = {1, 1, 70, 1}, l[] = {1, 1, 70};
  static double q64[70 * 2048];
  size_t need = 0;
  DESCRIBE("workspace of %s", name_of(dtype));
  reset(dtype);
  for (int k = QUERY; k <= VALUE; k++)
    tensors[k] = (smx_tensor){q64, dtype, 4, k == VALUE ? o : q, NULL};
  tensors[OUT].shape = o, tensors[LSE].shape = l;
  options.weights = NULL;
  smx_set_num_threads(1);
  smx_status status =
      smx_attention_workspace_size(given[0], given[1], given[2], given[3], &options, &need);
  CHECK(status == SMX_OK && need > 0 && need + 64 <= sizeof room, "%zu bytes: %s", need,
        smx_last_error());
  char number[24];
  for (int i = 0; i < 3; i++) {
    options.workspace = room;
    options.workspace_size = i == 0 ? 0 : i == 1 ? 64 : need - 1;
    snprintf(number, sizeof number, "%zu", options.workspace_size);
    char wanted[24];
    snprintf(wanted, sizeof wanted, "%zu", need);
    expect_one(PLACE, smx_attention(given[0], given[1], given[2], given[3], &options),
               SMX_ERROR_VALUE, WORDS("workspace_size", number, wanted), "attention");
  }
  options.workspace_size = need;
  for (int i = 1; i < 64; i *= 2) {
    options.workspace = room + i;
    expect_one(PLACE, smx_attention(given[0], given[1], given[2], given[3], &options),
               SMX_ERROR_VALUE, WORDS("workspace", "64"), "attention");
  }
  options.workspace = room;
  for (int k = QUERY; k <= LSE; k++) {
    if (k > VALUE && k < OUT) continue;
    void *own = tensors[k].data;
    /* It begins within the workspace, or ends there. */
    for (int i = 0; i < 2; i++) {
      tensors[k].data = i ? room + need - 8 : room;
      expect_one(PLACE, smx_attention(given[0], given[1], given[2], given[3], &options),
                 SMX_ERROR_OVERLAP, WORDS("workspace", "overlaps", names[k]), "attention");
    }
    tensors[k].data = own;
  }
  /* Lengths lie in the structure, here in one that is joined to it. */
  static const int64_t batch[] = {1};
  const smx_mask *kept = options.structure;
  smx_tensor lengths = {room, SMX_INT64, 1, batch, (const int64_t[]){8}};
  smx_mask joined = {.size = sizeof joined, .key_lengths = &lengths},
           all = {.size = sizeof all, .also = &joined};
  options.structure = &all, options.workspace_size = sizeof room;
  memset(room, 0, 8);
  expect_one(PLACE, smx_attention(given[0], given[1], given[2], given[3], &options),
             SMX_ERROR_OVERLAP, WORDS("workspace", "overlaps", "key_lengths"), "attention");
  options.structure = kept;
  CHECK(smx_attention(given[0], given[1], given[2], given[3], &options) == SMX_OK, "%s",
        smx_last_error());
}

/* -- outputs that overlap -------------------------------------------------------------------------
 */

static void check_overlaps(smx_dtype dtype) {
  int64_t zero[] = {0, 4, 4, 4};
  for (int k = OUT; k < OPERANDS; k++) {
    DESCRIBE("%s of %s overlaps", names[k], name_of(dtype));
    BAD(tensors[k].strides = zero, SMX_ERROR_OVERLAP, names[k], "stride 0", "axis 0");
    /* Each other operand in the very place, and one element on: neither is allowed. */
    for (int n = 0; n < 2 * OPERANDS; n++) {
      int other = n / 2;
      if (other == k) continue;
      /* A table must hold blocks that there are. */
      canary = other == TABLE ? 0 : 0xa5;
      reset(dtype);
      if (other < OUT) give(other);
      tensors[other].data = bytes[k] + (size_t)(n % 2) * size_of(tensors[k].dtype);
      expect(PLACE, SMX_ERROR_OVERLAP, WORDS(names[k], "overlaps", names[other]));
      canary = 0xa5;
    }
  }
}

/* -- the typed call
 * --------------------------------------------------------------------------------
 */

static void check_typed(void) {
  const float *q = (const float *)(void *)bytes[QUERY], *k = (const float *)(void *)bytes[KEY],
              *v = (const float *)(void *)bytes[VALUE];
  float *out = (float *)(void *)bytes[OUT];
  int64_t most = INT64_MAX;
  reset(SMX_FLOAT32);
  DESCRIBE("attention_f32");
#define TYPED(want, q, k, v, out, b, h, hk, lq, lk, d, dv, ...)                        \
  expect_one(PLACE, smx_attention_f32(q, k, v, out, b, h, hk, lq, lk, d, dv, 1), want, \
             WORDS(__VA_ARGS__), "attention_f32")
  TYPED(SMX_ERROR_NULL, NULL, k, v, out, B, HQ, HKV, LQ, LK, D, DV, "query", "NULL");
  TYPED(SMX_ERROR_NULL, q, NULL, v, out, B, HQ, HKV, LQ, LK, D, DV, "key", "NULL");
  TYPED(SMX_ERROR_NULL, q, k, NULL, out, B, HQ, HKV, LQ, LK, D, DV, "value", "NULL");
  TYPED(SMX_ERROR_NULL, q, k, v, NULL, B, HQ, HKV, LQ, LK, D, DV, "out", "NULL");
  TYPED(SMX_ERROR_SHAPE, q, k, v, out, -1, HQ, HKV, LQ, LK, D, DV, "query", "(-1, 4, 3, 6)");
  TYPED(SMX_ERROR_SHAPE, q, k, v, out, B, HQ, -2, LQ, LK, D, DV, "key", "(2, -2, 5, 6)");
  TYPED(SMX_ERROR_SHAPE, q, k, v, out, B, HQ, HKV, LQ, LK, D, -7, "value", "(2, 2, 5, -7)");
  TYPED(SMX_ERROR_SHAPE, q, k, v, out, B, HQ, 3, LQ, LK, D, DV, "query", "multiple", "key");
  TYPED(SMX_ERROR_SHAPE, q, k, v, out, B, HQ, 0, LQ, LK, D, DV, "query", "multiple", "key");
  TYPED(SMX_ERROR_OVERFLOW, q, k, v, out, most, most, 1, LQ, LK, D, DV, "query", "memory");
  TYPED(SMX_ERROR_OVERFLOW, q, k, v, out, 1, 1, 1, LQ, most / 8, D, DV, "key", "memory");
  TYPED(SMX_ERROR_OVERLAP, q, k, (float *)out + 1, out, B, HQ, HKV, LQ, LK, D, DV, "out", "value");
  TYPED(SMX_OK, NULL, NULL, NULL, NULL, 0, HQ, HKV, LQ, LK, D, DV, "");
  TYPED(SMX_OK, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, "");
  CHECK(smx_attention_f32(NULL, NULL, NULL, out, 1, 1, 1, 1, 0, 0, 2, 0) == SMX_OK && out[0] == 0 &&
            out[1] == 0,
        "no key: %s", smx_last_error());
#undef TYPED
}

int main(void) {
  check_typed();
  for (int d = 0; d < 4; d++) {
    smx_dtype dtype = float_dtypes[d];
    check_good(dtype);
    for (int k = QUERY; k < OPERANDS; k++) check_tensor(dtype, k);
    check_shapes(dtype);
    check_numbers(dtype);
    check_workspace(dtype);
    check_overlaps(dtype);
  }
  return finish("test_attention_errors");
}
