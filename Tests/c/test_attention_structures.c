/* Errors of attention's structured masks, with and without a block table, of the table itself, and
 * of sizes that no memory has. Most run in processes of their own. */
#include "attention_errors.h"

static void check_structures(smx_dtype dtype, int isPaged) {
  static int64_t numbers[64], other[64];
  static double real;
  static const int64_t strides[] = {8, 8, 8}, two[] = {B}, three[] = {3}, four[] = {B, HQ, 1},
                       rows[] = {B, LQ}, wrongRows[] = {B, LQ + 1};
  int64_t keys = isPaged ? 6 : LK, idShape[] = {B, keys};
  smx_tensor t, partner = {other, SMX_INT64, 2, idShape, strides};
  smx_tensor good = {numbers, SMX_INT64, 1, two, strides};
  DESCRIBE("structure of %s%s", name_of(dtype), isPaged ? ", with a block table" : "");
#define CASE(change, want, ...)                                                   \
  (reset(dtype), isPaged ? give(TABLE) : (void)0, options.structure = &structure, \
   memset(numbers, 0, sizeof numbers), t = good, change,                          \
   expect_apart(PLACE, want, WORDS(__VA_ARGS__)))
#define LENGTHS(change) (structure.key_lengths = &t, change)
  CASE(structure.size = 8, SMX_ERROR_SIZE, "structure.size", "8");
  CASE(structure.also = &structure, SMX_ERROR_VALUE, "64", "cycle");
  CASE((structure.window = 1, structure.window_left = -2), SMX_ERROR_VALUE, "window_left", "-2");
  CASE((structure.window = 1, structure.window_right = -9), SMX_ERROR_VALUE, "window_right", "-9");
  CASE(LENGTHS(numbers[1] = keys + 1), SMX_ERROR_VALUE, "key_lengths", isPaged ? "7" : "6");
  CASE(LENGTHS(numbers[1] = -3), SMX_ERROR_VALUE, "key_lengths", "-3");
  CASE(LENGTHS(t.data = NULL), SMX_ERROR_NULL, "key_lengths", "data is NULL");
  CASE(LENGTHS((t.data = (void *)8, t.shape = three)), SMX_ERROR_SHAPE, "key_lengths", "(3,)");
  CASE(LENGTHS((t.ndim = 3, t.shape = four)), SMX_ERROR_SHAPE, "key_lengths", "(2, 4, 1)");
  CASE(LENGTHS(t.strides = NULL), SMX_ERROR_NULL, "key_lengths", "strides");
  CASE(LENGTHS((t.dtype = SMX_FLOAT64, t.data = &real)), SMX_ERROR_DTYPE, "key_lengths", "float64");
  CASE(LENGTHS(t.ndim = -1), SMX_ERROR_SHAPE, "key_lengths", "-1 axes");
  CASE((structure.query_lengths = &t, numbers[0] = LQ + 1), SMX_ERROR_VALUE, "query_lengths", "4");
  CASE((structure.query_offset = &t, t.dtype = SMX_BOOL), SMX_ERROR_DTYPE, "query_offset", "bool");
  CASE((structure.query_offset = &t, t.shape = three), SMX_ERROR_SHAPE, "query_offset", "(3,)");
  CASE((structure.key_segments = &partner), SMX_ERROR_NULL, "query_segments", "together");
  CASE((structure.key_segments = &partner, structure.query_segments = &t, t.ndim = 2,
        t.shape = wrongRows),
       SMX_ERROR_SHAPE, "query_segments", "(2, 4)");
  CASE((structure.query_segments = &t, t.ndim = 2, t.shape = rows, structure.key_segments = &good),
       SMX_ERROR_SHAPE, "key_segments", "(2,)");
#undef CASE
#undef LENGTHS
}

static void check_tables(smx_dtype dtype) {
  static const int32_t wrong[] = {-1, 9, INT32_MAX, INT32_MIN};
  int32_t *table = (int32_t *)(void *)bytes[TABLE];
  DESCRIBE("block_table of %s", name_of(dtype));
#define TABLE_BAD(change, want, ...) BAD((give(TABLE), change), want, __VA_ARGS__)
  for (int i = 0; i < 24; i++) {
    char number[16];
    snprintf(number, sizeof number, "%d", wrong[i % 4]);
    TABLE_BAD(table[i / 4] = wrong[i % 4], SMX_ERROR_VALUE, "block_table", number, "9 blocks");
  }
  /* The same places as int64, beyond what an int32 can be. */
  int64_t wide[B * 3] = {0};
  wide[4] = (int64_t)1 << 32;
  TABLE_BAD((tensors[TABLE].dtype = SMX_INT64, tensors[TABLE].data = wide), SMX_ERROR_VALUE,
            "block_table[1, 1] is 4294967296", "9 blocks");
  TABLE_BAD(tensors[TABLE].shape = ((const int64_t[]){3, 3}), SMX_ERROR_SHAPE, "block_table",
            "(3, 3)", "query");
  TABLE_BAD(tensors[VALUE].shape = ((const int64_t[]){8, HKV, 2, DV}), SMX_ERROR_SHAPE, "value",
            "(8, 2, 2, 7)", "key");
  TABLE_BAD((options.past_key = &tensors[PAST_KEY], options.past_value = &tensors[PAST_VALUE]),
            SMX_ERROR_VALUE, "block_table", "past_key");
  /* Entries beyond the key lengths, of a batch entry or of all its heads, are not looked at. */
  static int64_t lengths[B * HQ] = {2, 1, 2, 0, 3, 4, 4, 1};
  static const int64_t shape[] = {B, HQ}, strides[2][2] = {{8 * HQ, 8}, {8 * HQ, 8}};
  for (int i = 0; i < 2; i++) {
    smx_tensor t = {lengths, SMX_INT64, i + 1, shape, strides[i]};
    reset(dtype), give(TABLE);
    structure.key_lengths = &t, options.structure = &structure;
    table[1] = table[2] = -1, table[5] = 9;
    smx_status status = smx_attention(given[0], given[1], given[2], given[3], &options);
    CHECK(status == SMX_OK, "junk behind lengths of %d axes: %s", i + 1, smx_last_error());
    table[4] = 9;
    memset(bytes[OUT], canary, BYTES), memset(bytes[LSE], canary, BYTES);
    memset(bytes[WEIGHTS], canary, BYTES);
    expect(PLACE, SMX_ERROR_VALUE, WORDS("block_table", "9 blocks"));
  }
  /* Sizes that only strides of 0 make possible. */
  enum { POOL = 0, ROW = 2, ONE = 3 };
  static const int64_t none[] = {0, 0, 0, 0};
  static const int64_t shapes[][4] = {{1, HKV, (int64_t)1 << 40, D},
                                      {1, HKV, (int64_t)1 << 40, DV},
                                      {1, 1, 1, (int64_t)1 << 57},
                                      {1, 1, 1, 1}},
                       manyBlocks[] = {B, (int64_t)1 << 24};
  reset(dtype), give(TABLE);
  options.weights = NULL;
  for (int k = KEY; k <= TABLE; k++) tensors[k].strides = none;
  tensors[KEY].shape = shapes[POOL], tensors[VALUE].shape = shapes[POOL + 1];
  tensors[TABLE].shape = manyBlocks;
  expect_apart(PLACE, SMX_ERROR_OVERFLOW, WORDS("memory"));
  reset(dtype);
  options.lse = options.weights = NULL;
  for (int k = QUERY; k <= VALUE; k++)
    tensors[k].strides = none, tensors[k].shape = shapes[k == VALUE ? ONE : ROW];
  tensors[OUT].shape = shapes[ONE];
  expect_apart(PLACE, SMX_ERROR_OVERFLOW, WORDS("memory"));
#undef TABLE_BAD
}

int main(void) {
  for (int d = is_light() ? 2 : 0; d < (is_light() ? 3 : 4); d++) {
    for (int i = 0; i < 2; i++) check_structures(float_dtypes[d], i);
    check_tables(float_dtypes[d]);
  }
  return finish("test_attention_structures");
}
