/* Calls at the edge of what a call may be: nothing to do, numbers at the end of their range,
 * operands of a structure that lie where results go, descriptors of more than any memory. Each of
 * them has once crashed, or was answered wrongly. */
#include <math.h>

#include "check.h"

#define SHAPE(...) ((const int64_t[]){__VA_ARGS__})
static smx_tensor tensor(const void *data, smx_dtype dtype, int ndim, const int64_t *shape,
                         const int64_t *strides) {
  return (smx_tensor){(void *)(uintptr_t)data, dtype, ndim, shape, strides};
}
static smx_tensor plain(const void *data, smx_dtype dtype, int ndim, const int64_t *shape) {
  return tensor(data, dtype, ndim, shape, NULL);
}

/* The status, and a sentence that holds a text (NULL for any). */
static void expect(const char *place, smx_status got, smx_status want, const char *text) {
  const char *sentence = got == SMX_OK ? "" : smx_last_error();
  check(got == want && (!text || strstr(sentence, text)), place,
        "status %d, not %d; \"%s\" does not say \"%s\"", got, want, sentence, text ? text : "");
}
#define EXPECT(call, want, text) expect(__FILE__ ":" CHECK_TEXT(__LINE__), call, want, text)

static float f[8192], g[8192];
static double d[64];
static int64_t zeros[4];

/* Head and value sizes of 0 with few queries: there is nothing but out's zeros, and they have no
 * numbers either. */
static void check_sizes_of_zero(void) {
  static const int64_t lengths[] = {0, 1, 15, 16, 17, 64, 130};
  static const smx_dtype dtypes[] = {SMX_FLOAT16, SMX_BFLOAT16, SMX_FLOAT32, SMX_FLOAT64};
  for (int t = 0; t < 4; t++)
    for (int64_t queries = 0; queries < 6; queries++)
      for (int k = 0; k < 7; k++)
        for (int sizes = 0; sizes < 4; sizes++) {
          int64_t size = sizes & 1 ? 32 : 0, value_size = sizes & 2 ? 64 : 0, keys = lengths[k];
          DESCRIBE("dtype %d, %d queries, %d keys, sizes %d and %d", dtypes[t], (int)queries,
                   (int)keys, (int)size, (int)value_size);
          smx_tensor q = plain(f, dtypes[t], 4, SHAPE(1, 2, queries, size));
          smx_tensor key = tensor(f, dtypes[t], 4, SHAPE(1, 1, keys, size), zeros);
          smx_tensor value = tensor(f, dtypes[t], 4, SHAPE(1, 1, keys, value_size), zeros);
          smx_tensor out = plain(g, dtypes[t], 4, SHAPE(1, 2, queries, value_size));
          EXPECT(smx_attention(&q, &key, &value, &out, NULL), SMX_OK, NULL);
        }
}

static void check_tables(void) {
  DESCRIBE("block tables");
  static int32_t table[64];
  smx_tensor q = plain(f, SMX_FLOAT32, 4, SHAPE(1, 1, 2, 4)),
             out = plain(g, SMX_FLOAT32, 4, SHAPE(1, 1, 2, 4));
  smx_tensor none = plain(table, SMX_INT32, 0, NULL), row = plain(table, SMX_INT32, 1, SHAPE(1));
  smx_attention_options options = {.size = sizeof options, .block_table = &none};
  size_t need;
  EXPECT(smx_attention(&q, &q, &q, &out, &options), SMX_ERROR_SHAPE, "block_table of shape ()");
  EXPECT(smx_attention_workspace_size(&q, &q, &q, &out, &options, &need), SMX_ERROR_SHAPE,
         "block_table of shape ()");
  options.block_table = &row;
  EXPECT(smx_attention(&q, &q, &q, &out, &options), SMX_ERROR_SHAPE, "block_table of shape (1,)");
  /* No head: nobody has a length. */
  smx_tensor no_query = plain(NULL, SMX_FLOAT32, 4, SHAPE(1, 0, 2, 4)),
             pool = plain(NULL, SMX_FLOAT32, 4, SHAPE(3, 0, 2, 4));
  smx_tensor blocks = plain(table, SMX_INT32, 2, SHAPE(1, 2)),
             lengths = tensor(NULL, SMX_INT32, 2, SHAPE(1, 0), SHAPE(0, 4));
  smx_mask structure = {.size = sizeof structure, .key_lengths = &lengths};
  options = (smx_attention_options){
      .size = sizeof options, .block_table = &blocks, .structure = &structure};
  EXPECT(smx_attention(&no_query, &pool, &pool, &no_query, &options), SMX_OK, NULL);
  /* A table that repeats one number 2^40 times, of which the lengths leave the first. */
  int32_t one = 1;
  smx_tensor keys = plain(f, SMX_FLOAT32, 4, SHAPE(1, 1, 1, 4)),
             length = plain(&one, SMX_INT32, 0, NULL);
  smx_tensor endless = tensor(table, SMX_INT32, 2, SHAPE(1, (int64_t)1 << 40), SHAPE(0, 0));
  structure = (smx_mask){.size = sizeof structure, .key_lengths = &length};
  options.block_table = &endless;
  EXPECT(smx_attention(&q, &keys, &keys, &out, &options), SMX_OK, NULL);
}

static void check_more_than_memory(void) {
  DESCRIBE("more than memory");
  const int64_t many = (int64_t)1 << 58, groups = ((int64_t)1 << 57) - 1,
                batch = ((int64_t)1 << 59) - 1;
  static int64_t tokens[1], starts[4096];
  smx_tensor scores = tensor(f, SMX_FLOAT32, 1, SHAPE(many), zeros),
             ranking = plain(tokens, SMX_INT64, 1, SHAPE(1));
  smx_tensor sum = plain(d, SMX_FLOAT64, 0, NULL);
  EXPECT(smx_plackett_luce_log_prob(&scores, &ranking, &sum, NULL), SMX_ERROR_MEMORY, NULL);
  smx_tensor probabilities = plain((void *)((uintptr_t)1 << 61), SMX_FLOAT32, 1, SHAPE(many));
  smx_tensor indices = plain((void *)((uintptr_t)1 << 62), SMX_INT64, 1, SHAPE(many));
  EXPECT(smx_top_k(&scores, &probabilities, &indices, NULL), SMX_ERROR_MEMORY, NULL);
  smx_tensor q = tensor(f, SMX_FLOAT32, 4, SHAPE(batch, 1, 1, 1), zeros),
             v = plain(NULL, SMX_FLOAT32, 4, SHAPE(batch, 1, 1, 0));
  smx_tensor w = plain(f, SMX_FLOAT32, 2, SHAPE(1, 1)), vector = plain(f, SMX_FLOAT32, 1, SHAPE(1));
  EXPECT(smx_additive_attention(&q, &q, &v, &w, &w, &vector, &v, NULL), SMX_ERROR_OVERFLOW,
         "query of shape");
  for (int i = 2048; i < 4096; i++) starts[i] = 1;
  smx_tensor packed = tensor(f, SMX_FLOAT32, 3, SHAPE(groups, 1, 1), zeros),
             key = plain(f, SMX_FLOAT32, 3, SHAPE(1, 1, 1));
  smx_tensor value = plain(NULL, SMX_FLOAT32, 3, SHAPE(1, 1, 0)),
             out = plain(NULL, SMX_FLOAT32, 3, SHAPE(groups, 1, 0));
  smx_tensor at = plain(starts, SMX_INT64, 1, SHAPE(4096));
  smx_attention_options options = {.size = sizeof options, .query_starts = &at, .key_starts = &at};
  EXPECT(smx_attention(&packed, &key, &value, &out, &options), SMX_ERROR_OVERFLOW,
         "query of shape");
}

/* A length inside out: the first rows would be written over the lengths of the others. */
static void check_overlap(void) {
  DESCRIBE("overlap");
  static int64_t both[512];
  smx_tensor lengths = tensor(both, SMX_INT64, 1, SHAPE(2), SHAPE(8)),
             scores = plain(f, SMX_FLOAT32, 3, SHAPE(2, 16, 16));
  smx_tensor q = plain(f, SMX_FLOAT32, 4, SHAPE(2, 1, 64, 4)),
             out = plain(both, SMX_FLOAT32, 4, SHAPE(2, 1, 64, 4));
  smx_tensor of_scores = plain(both, SMX_FLOAT32, 3, SHAPE(2, 16, 16)),
             lse = plain(f, SMX_FLOAT32, 3, SHAPE(2, 1, 64));
  smx_mask structure = {.size = sizeof structure, .key_lengths = &lengths}, second = structure;
  smx_mask first = {.size = sizeof first, .causal = 1, .also = &second};
  smx_softmax_options softmax = {.size = sizeof softmax, .structure = &structure};
  smx_attention_options attention = {.size = sizeof attention, .structure = &first};
  EXPECT(smx_softmax(&scores, &of_scores, &softmax), SMX_ERROR_OVERLAP, "key_lengths");
  EXPECT(smx_attention(&q, &q, &q, &out, &attention), SMX_ERROR_OVERLAP, "key_lengths");
  smx_attention_gradients gradients = {.size = sizeof gradients, .d_query = &out};
  EXPECT(smx_attention_vjp(&q, &q, &q, &q, &q, &lse, &gradients, &attention), SMX_ERROR_OVERLAP,
         "key_lengths");
  smx_tensor x = plain(f, SMX_FLOAT32, 1, SHAPE(3)), bias = plain(g, SMX_FLOAT32, 1, SHAPE(3));
  softmax = (smx_softmax_options){.size = sizeof softmax, .bias = &bias};
  EXPECT(smx_softmax(&x, &bias, &softmax), SMX_ERROR_OVERLAP, "bias");
  /* A row of the padded results, broadcast; the same matrix, turned; results one over another. */
  smx_tensor row = tensor(both + 4, SMX_FLOAT32, 2, SHAPE(4, 5), SHAPE(0, 4));
  smx_tensor padded = tensor(both, SMX_FLOAT32, 2, SHAPE(4, 5), SHAPE(32, 4));
  EXPECT(smx_softmax(&row, &padded, NULL), SMX_ERROR_OVERLAP, "overlaps x");
  smx_tensor matrix = tensor(both, SMX_FLOAT32, 2, SHAPE(4, 4), SHAPE(32, 8));
  smx_tensor turned = tensor(both, SMX_FLOAT32, 2, SHAPE(4, 4), SHAPE(8, 32));
  EXPECT(smx_softmax(&matrix, &turned, NULL), SMX_ERROR_OVERLAP, "overlaps x");
  smx_tensor square = plain(f, SMX_FLOAT32, 2, SHAPE(4, 4)),
             over = tensor(both, SMX_FLOAT32, 2, SHAPE(4, 4), SHAPE(16, 2));
  EXPECT(smx_softmax(&square, &over, NULL), SMX_ERROR_OVERLAP,
         "share a place: stride 2 along axis 1");
  over.strides = SHAPE(8, 12);
  EXPECT(smx_softmax(&square, &over, NULL), SMX_ERROR_OVERLAP,
         "share a place: stride 8 along axis 0, 12 along axis 1");
  over.strides = SHAPE(12, 40);
  EXPECT(smx_softmax(&square, &over, NULL), SMX_OK, NULL);
}

/* What float32 cannot hold is no scale and no softcap of it; the least and the largest that it can
 * are. */
static void check_numbers(void) {
  DESCRIBE("scale and softcap");
  static const double scales[] = {1e39, -1e300}, caps[] = {1e-46, 1e-40, 1e39, 1e300};
  smx_tensor q = plain(f, SMX_FLOAT32, 2, SHAPE(3, 4)), out = plain(g, SMX_FLOAT32, 2, SHAPE(3, 4));
  smx_tensor wide = plain(d, SMX_FLOAT64, 2, SHAPE(1, 4)),
             wide_out = plain(d + 8, SMX_FLOAT64, 2, SHAPE(1, 4));
  for (int i = 0; i < 2; i++) {
    smx_attention_options options = {.size = sizeof options, .has_scale = 1, .scale = scales[i]};
    EXPECT(smx_attention(&q, &q, &q, &out, &options), SMX_ERROR_VALUE, "scale");
    EXPECT(smx_attention(&wide, &wide, &wide, &wide_out, &options), SMX_OK, NULL);
  }
  for (int i = 0; i < 4; i++) {
    smx_attention_options options = {.size = sizeof options, .softcap = caps[i]};
    EXPECT(smx_attention(&q, &q, &q, &out, &options), SMX_ERROR_VALUE, "softcap");
    EXPECT(smx_attention(&wide, &wide, &wide, &wide_out, &options), SMX_OK, NULL);
  }
  static const double good[] = {0x1p-126, 0x1.fffffep127};
  for (int i = 0; i < 2; i++) {
    smx_attention_options options = {.size = sizeof options, .softcap = good[i]};
    for (int k = 0; k < 12; k++) f[k] = (float)(k % 5) - 2;
    EXPECT(smx_attention(&q, &q, &q, &out, &options), SMX_OK, NULL);
    for (int k = 0; k < 12; k++) CHECK(isfinite(g[k]), "%g", (double)g[k]);
    memset(f, 0, sizeof f);
  }
}

/* NaN is the positive quiet one, in any layout, and there is none where a number has only
 * overflowed. */
static void check_not_a_number(void) {
  DESCRIBE("NaN");
  static const float scales[] = {INFINITY, -INFINITY, NAN};
  for (int s = 0; s < 3; s++)
    for (int reversed = 0; reversed < 2; reversed++)
      for (int half = 0; half < 2; half++) {
        static const uint16_t halves[2] = {0, 0xfbff}, other[2] = {0xfbff, 0};
        static const float singles[2] = {0, -1e30f}, other_singles[2] = {-1e30f, 0};
        int64_t size = half ? 2 : 4;
        uint16_t of_half[2];
        float of_single[2], loss;
        const int64_t *strides = reversed ? SHAPE(2 * size, -size) : SHAPE(2 * size, size);
        const char *x = half ? (const char *)(reversed ? other : halves)
                             : (const char *)(reversed ? other_singles : singles);
        char *grad = half ? (char *)of_half : (char *)of_single;
        smx_dtype dtype = half ? SMX_FLOAT16 : SMX_FLOAT32;
        smx_tensor logits = tensor(x + (reversed ? size : 0), dtype, 2, SHAPE(1, 2), strides);
        smx_tensor gradient = tensor(grad + (reversed ? size : 0), dtype, 2, SHAPE(1, 2), strides);
        smx_tensor targets = plain(zeros, SMX_INT64, 1, SHAPE(1)),
                   losses = plain(&loss, SMX_FLOAT32, 0, NULL);
        smx_tensor scale = plain(&scales[s], SMX_FLOAT32, 0, NULL);
        smx_cross_entropy_options options = {
            .size = sizeof options, .grad_scale = &scale, .grad = &gradient};
        EXPECT(smx_cross_entropy(&logits, &targets, &losses, &options), SMX_OK, NULL);
        for (int k = 0; k < 2; k++) {
          float single = half ? 0 : of_single[k];
          uint32_t bits;
          memcpy(&bits, &single, 4);
          if (half)
            CHECK(of_half[k] == 0x7e00 || (of_half[k] & 0x7fff) <= 0x7c00, "%04x", of_half[k]);
          else CHECK(bits == 0x7fc00000 || !isnan(single), "%08x", bits);
        }
      }
  double scores[3] = {0, 0, 0x1.fffffffffffffp1023}, sum = 0;
  int64_t ranking[2] = {0, 1};
  smx_tensor of_scores = plain(scores, SMX_FLOAT64, 1, SHAPE(3)),
             order = plain(ranking, SMX_INT64, 1, SHAPE(2));
  smx_tensor total = plain(&sum, SMX_FLOAT64, 0, NULL);
  EXPECT(smx_plackett_luce_log_prob(&of_scores, &order, &total, NULL), SMX_OK, NULL);
  CHECK(sum == -INFINITY, "%g", sum);
}

static void check_sizes_and_sentences(void) {
  DESCRIBE("sizes and sentences");
  static _Alignas(64) char room[64];
  smx_tensor q = plain(f, SMX_FLOAT32, 4, SHAPE(1, 1, 2, 4)),
             out = plain(g, SMX_FLOAT32, 4, SHAPE(1, 1, 2, 4));
  smx_attention_options options = {
      .size = sizeof options, .workspace = room, .workspace_size = SIZE_MAX};
  EXPECT(smx_attention(&q, &q, &q, &out, &options), SMX_OK, NULL);
  options.size = SIZE_MAX;
  EXPECT(smx_attention(&q, &q, &q, &out, &options), SMX_ERROR_SIZE,
         "options.size is 18446744073709551615");
  /* Nothing to do takes no room. */
  size_t need = 1;
  smx_tensor none = plain(NULL, SMX_FLOAT32, 4, SHAPE(1, 1, 0, 2048));
  smx_tensor keys = tensor(f, SMX_FLOAT32, 4, SHAPE(1, 1, 100, 2048), zeros);
  EXPECT(smx_attention_workspace_size(&none, &keys, &keys, &none, NULL, &need), SMX_OK, NULL);
  CHECK(need == 0, "%zu bytes", need);
  EXPECT(smx_logsumexp_vjp_f32(NULL, NULL, NULL, 3, 0), SMX_OK, NULL);
  EXPECT(smx_logsumexp_vjp_f64(NULL, NULL, NULL, 3, 0), SMX_OK, NULL);
  EXPECT(smx_logsumexp_f32(f, f, 2, 1), SMX_ERROR_OVERLAP, "out overlaps x");
  CHECK(!strstr(smx_last_error(), "same rows"), "%s", smx_last_error());
  int64_t starts[2] = {0, 1};
  smx_tensor at = plain(starts, SMX_INT64, 1, SHAPE(2)),
             nowhere = plain(starts, SMX_INT64, 1, SHAPE(0));
  smx_tensor packed = plain(f, SMX_FLOAT32, 3, SHAPE(1, 2, 4)),
             packed_out = plain(g, SMX_FLOAT32, 3, SHAPE(1, 2, 4));
  options = (smx_attention_options){.size = sizeof options, .query_starts = &at, .key_starts = &at};
  EXPECT(smx_attention(&packed, &q, &packed, &packed_out, &options), SMX_ERROR_SHAPE,
         "of key of shape (1, 1, 2, 4)");
  options.query_starts = options.key_starts = &nowhere;
  EXPECT(smx_attention(&packed, &packed, &packed, &packed_out, &options), SMX_ERROR_SHAPE,
         "query_starts must have the shape (B + 1,)");
  /* Windows whose sums with the offset no int64 holds. */
  int64_t offset = INT64_MIN;
  smx_tensor of_offset = plain(&offset, SMX_INT64, 0, NULL);
  smx_tensor x = plain(f, SMX_FLOAT32, 2, SHAPE(2, 3)), y = plain(g, SMX_FLOAT32, 2, SHAPE(2, 3));
  smx_mask window = {
      .size = sizeof window, .window = 1, .window_left = -1, .query_offset = &of_offset};
  window.window_right = (int64_t)1 << 62;
  smx_softmax_options softmax = {.size = sizeof softmax, .structure = &window};
  EXPECT(smx_softmax(&x, &y, &softmax), SMX_OK, NULL);
  for (int i = 0; i < 6; i++) CHECK(g[i] == 0, "%g is seen", (double)g[i]);
  window.window_right = INT64_MAX;
  offset = 0;
  EXPECT(smx_softmax(&x, &y, &softmax), SMX_OK, NULL);
  for (int i = 0; i < 6; i++) CHECK(g[i] > 0, "%g is not seen", (double)g[i]);
}

int main(void) {
  check_sizes_of_zero();
  check_tables();
  check_more_than_memory();
  check_overlap();
  check_numbers();
  check_not_a_number();
  check_sizes_and_sentences();
  return finish("test_edges");
}
