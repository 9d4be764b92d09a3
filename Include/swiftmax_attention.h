/* swiftmax_attention.h: attention. A part of swiftmax.h, which says what holds for every
 * function. */
#ifndef SWIFTMAX_ATTENTION_H
#define SWIFTMAX_ATTENTION_H

#include "swiftmax.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -- attention ------------------------------------------------------------------------------------
 *
 *   score[i][j] = softcap(scale · sum over d of query[i][d] · key[j][d]) + bias[i][j]
 *                 - slope · |i + offset - j|
 *   weight[i]   = softmax over the visible j of score[i]
 *   out[i]      = sum over j of weight[i][j] · value[j]
 *
 * with softcap(s) = c · tanh(s / c), for each batch entry and head. Scores are computed tile by
 * tile and never stored; what a structured mask excludes is not computed.
 *
 * Shapes    B batch entries, Hq query heads, Hkv key heads, Lq queries, Lk keys, head size D, value
 *           size Dv:
 *             layout   query           key              value             out
 *             BHLD     (B, Hq, Lq, D)  (B, Hkv, Lk, D)  (B, Hkv, Lk, Dv)  (B, Hq, Lq, Dv)
 *             BLHD     (B, Lq, Hq, D)  (B, Lk, Hkv, D)  (B, Lk, Hkv, Dv)  (B, Lq, Hq, Dv)
 *           All of 4 axes, of 3 without B, or of 2 without B and heads. A key or value batch of 1
 *           serves every query batch. Hq must be a multiple of Hkv: query head h uses key head h /
 *           (Hq / Hkv). "The scores" are (B, Hq, Lq, Lk) in both layouts; mask and bias broadcast
 *           to them, and structured masks count their leading axes.
 * Strides   Any, for every operand: transposed and sliced views are read in place.
 * Aliasing  out, lse and weights must not overlap an input or one another, nor the workspace any of
 *           them.
 * Special   No visible key: out 0, weights 0, lse -inf or, if there is one, the sink (NaN for one
 *           of +inf or NaN, which make NaN of all results where a key is visible). So also where
 *           all visible scores are -inf. A masked slot is never used, whatever key and value hold
 *           there. A NaN in a query, key or value that takes part makes NaN what depends on it and
 *           nothing else. Lk = 0 gives 0. A score of magnitude 2^126 (2^1022) or more counts as
 *           that; an infinite product of query and key makes the row NaN if it is +inf. Sums of
 *           weights times values are made before the division, a row's largest weight being from 1
 *           to 2. So finite values of magnitude up to 2^126 / Lk (2^1022 / Lk) never overflow;
 *           beyond, inf may result although the average is finite. A finite sink beyond 2^126
 *           (2^1022) in magnitude counts as that, as scores do. A weight below some 2^-100 (2^-960)
 *           of the largest counts as 0 in out, which keeps subnormal numbers and their slowness out
 *           of the sums; weights that are returned go on to the smallest number there is.
 * Accuracy  float32: the error against a float64 computation is that of the sums: blocks of 64
 *           keys, each a chain of fused multiply-adds, added in order (docs/attention.md). lse has,
 *           beside the scores' own error and one rounding, the relative error of the sum as an
 *           absolute one: about 2^-22 (2^-51) for scores that differ, up to (80 + Lk / 1024) ·
 *           2^-24 (2^-53) for constant ones.
 * Bits      As for every function; moreover a query has the same bits in any chunk of queries,
 *           alone as a decode step, and whatever keys are appended behind a mask.
 * Threads   Tiles of queries are shared among threads, and spans of 1024 keys where tiles are too
 *           few.
 * Memory    For each thread up to about 0.6 MB where D and Dv are at most 512, more beyond (D =
 *           4096: 2.4 MB, narrow types 4.5 MB), from the caller's workspace if there is one, else
 *           allocated for the call. Small calls need none.
 * Returns   SMX_OK, or SMX_ERROR_NULL, _SIZE, _DTYPE, _SHAPE, _VALUE, _OVERLAP, _OVERFLOW, _ISA,
 *           _THREADS, _MEMORY. */

typedef int32_t smx_layout;
enum { SMX_BHLD = 0, SMX_BLHD = 1 };

/* SMX_FAST allows bfloat16 to be multiplied as it is, on x86-64-v4 by AMX tiles where CPU and
 * operating system have them (AMX-BF16), else by dot products (AVX512-BF16) where they are faster
 * than float32, as on AMD's CPUs: scores and sums stay float32, weights are rounded to bfloat16 for
 * the product with the values. The error is then that of 2^-8 in each weight, averaged over the
 * keys; results are outside the contract of bits. It is a permission: the call computes as with
 * SMX_EXACT for other dtypes and CPUs; for up to eight queries that share keys (Lq times the heads
 * of a group); for a D or Dv that is 0 or no multiple of 32; where the last axis of query, key or
 * value is not contiguous; and with a mask, bias, softcap, slopes, segments, weights, past keys or
 * a block table. */
typedef int32_t smx_precision;
enum { SMX_EXACT = 0, SMX_FAST = 1 };

/* Zero everything but size: that is the default. */
typedef struct smx_attention_options {
  size_t size;                    /* sizeof(smx_attention_options) */
  smx_layout layout;
  smx_precision precision;
  int32_t has_scale;              /* not 0: `scale` is used, else it is 1 / sqrt(D) */
  double scale;                   /* any finite number; of float32, but for float64 operands */
  double softcap;                 /* 0: none; else more than 0 and finite; a normal number of
                                     float32, likewise */
  const smx_tensor *mask;         /* NULL, or bool that broadcasts to the scores; true takes part */
  const smx_tensor *bias;         /* NULL, or of query's dtype (float32 too for a narrow query) that
                                     broadcasts to the scores */
  const smx_mask *structure;      /* NULL, or structured masks */
  const smx_tensor *alibi_slopes; /* NULL, or float32 (float64 for float64), (Hq) or (B, Hq). offset
                                     is the first query_offset in `structure`, else Lk - Lq */
  const smx_tensor *sinks;        /* NULL, or float32 (float64 for float64), (Hq): a logit that
                                     takes part in each row's sum, and in lse, but has no value */
  const smx_tensor *past_key;     /* both or neither: keys and values that stand before those of */
  const smx_tensor *past_value;   /* key and value, (B, Hkv, Lp, ...); Lk is then Lp and key's own
                                     length together */
  const smx_tensor *block_table;  /* NULL, or int32 or int64, (B, N): key and value are then pools
                                     of blocks, (blocks, Hkv, size, D) or, in BLHD, (blocks, size,
                                     Hkv, D), and key j of entry b lies in block
                                     block_table[b][j / size]. Lk is N · size. Entries beyond the
                                     key lengths are not read. A query batch is needed; past keys
                                     are not allowed */
  const smx_tensor *query_starts; /* both or neither, int32 or int64, (B + 1), not falling: */
  const smx_tensor *key_starts;   /* entries of many lengths, packed one behind the other. query and
                                     out are then (Hq, T, ...) or, in BLHD, (T, Hq, ...), key and
                                     value alike; rows starts[b] to starts[b + 1] - 1 are entry b's,
                                     and other rows of out and lse are left alone. The scores are
                                     (B, Hq, Lq, Lk) with the longest lengths; the default offset is
                                     that of each entry; lse is (Hq, T). mask, bias, weights, past
                                     keys and a block table are not allowed */
  const smx_tensor *lse;          /* NULL, or where to write the logarithm of each row's sum,
                                     natural, (B, Hq, Lq), float32 (float64 for float64) */
  const smx_tensor *weights;      /* NULL, or where to write the weights, (B, Hq, Lq, Lk), of
                                     query's dtype */
  void *workspace;                /* NULL, or smx_attention_workspace_size bytes, aligned to 64 */
  size_t workspace_size;
} smx_attention_options;

/* options may be NULL. All four tensors have one dtype, float16, bfloat16, float32 or float64;
 * float16 and bfloat16 are computed in float32. */
smx_status smx_attention(const smx_tensor *query, const smx_tensor *key, const smx_tensor *value,
                         const smx_tensor *out, const smx_attention_options *options);

/* Joins the results of attention over two sets of keys that have none in common:
 *
 *   lse = log(exp(lse_a) + exp(lse_b))
 *   out = out_a · exp(lse_a - lse) + out_b · exp(lse_b - lse)
 *
 * Shapes    out_a, out_b and out as smx_attention's out in the same layout, lse_a, lse_b and lse as
 *           its lse.
 * Strides   Any.
 * Aliasing  out may be out_a or out_b, lse may be lse_a or lse_b.
 * Special   A side whose lse is -inf adds nothing, whatever its out holds; both: out 0, lse -inf. A
 *           NaN in an lse makes the row NaN.
 * Accuracy  float32: out 3.5 units in the last place of the larger term, lse 1 ulp of the larger of
 *           |lse| and |lse_a|, |lse_b|. A sink must be in one of the two only.
 * Returns   As smx_attention. `lse` may be NULL. */
smx_status smx_merge_attention(const smx_tensor *out_a, const smx_tensor *lse_a,
                               const smx_tensor *out_b, const smx_tensor *lse_b,
                               const smx_tensor *out, const smx_tensor *lse, smx_layout layout);

/* How many bytes of workspace the same call needs to allocate nothing, for the threads that it
 * would use now; 0 where it needs none. */
smx_status smx_attention_workspace_size(const smx_tensor *query, const smx_tensor *key,
                                        const smx_tensor *value, const smx_tensor *out,
                                        const smx_attention_options *options, size_t *size);

/* The same for contiguous float32 arrays in layout BHLD, scale 1 / sqrt(D): query and out (batch,
 * heads, lq, ...), key and value (batch, key_heads, lk, ...); causal as in smx_mask where not 0.
 * Allocates what smx_attention would without a workspace. Returns as smx_attention. */
smx_status smx_attention_f32(const float *query, const float *key, const float *value, float *out,
                             int64_t batch, int64_t heads, int64_t key_heads, int64_t lq,
                             int64_t lk, int64_t head_size, int64_t value_size, int32_t causal);

/* -- the gradient of attention --------------------------------------------------------------------
 *
 * From d_out, the derivative of some number by out, those by query, key, value, bias and sinks:
 *
 *   d_value[j]  = sum over i of weight[i][j] · d_out[i]
 *   d_score     = weight[i][j] · (d_out[i] · value[j] - d_out[i] · out[i]),   also the bias's
 *   d_query[i]  = scale · sum over j of d_score[i][j] · key[j]
 *   d_key[j]    = scale · sum over i of d_score[i][j] · query[i]
 *   d_sink      = -sum over i of exp(sink - lse[i]) · (d_out[i] · out[i])
 *
 * with softcap's derivative in d_score where that is given. Weights are computed again from lse,
 * tile by tile; nothing of the size Lq × Lk is ever stored.
 *
 * Shapes    query, key, value, out, options: those of the smx_attention call. lse: what that call
 *           wrote. d_out as out; d_query, d_key, d_value as query, key, value; d_bias as bias,
 *           d_sinks as sinks. Gradients of what was broadcast, and of keys that several heads
 *           share, are summed.
 * Dtypes    d_out, d_query, d_key, d_value as query; d_bias and d_sinks as lse, float32 (float64
 *           for float64). float16 and bfloat16 are computed in float32 and rounded once.
 * Strides   Any.
 * Aliasing  No gradient may overlap an input or another gradient, nor the workspace any of them.
 * Special   A masked slot adds nothing, whatever key, value, query and d_out hold there; a query
 *           that sees no key has gradient
 *           0. Weights of exactly 0 add nothing, and one below 2^-100 (2^-960) counts as 0. A NaN
 *           makes NaN what depends on it. An lse that is more than about 43 below one of its row's
 *           scores is not that call's: the gradients of that row, and what sums over it, are NaN.
 * Accuracy  float32: the error against a float64 computation is that of the sums: blocks of 48
 *           queries and 64 keys, each a chain of fused multiply-adds, added in order
 *           (docs/training.md), and of lse, out as they are given: weights are as coarse as lse, so
 *           a row that a bias of -1e9 hides whole has gradients that are not right (hide it by a
 *           mask or by -inf).
 * Bits      As for every function. Gradients of keys and values depend on all queries.
 * Threads   By key heads; where these are fewer than threads, by blocks of queries and of keys, at
 *           7/5 of the work.
 * Memory    Up to 1.2 MB for each thread, and for gradients that are not contiguous float32 or
 *           float64 rows of whole vectors (16 or 8 numbers) the sums of a key head; from the
 *           caller's workspace if there is one, else allocated.
 * Returns   As smx_attention. lse, weights, past_key, past_value, block_table, query_starts and
 *           key_starts of the options must be NULL: SMX_ERROR_VALUE.
 * Source    Dao et al., FlashAttention, 2022, algorithm 4. */
typedef struct smx_attention_gradients {
  size_t size;               /* sizeof(smx_attention_gradients) */
  const smx_tensor *d_query; /* each NULL where it is not wanted */
  const smx_tensor *d_key;
  const smx_tensor *d_value;
  const smx_tensor *d_bias;
  const smx_tensor *d_sinks;
} smx_attention_gradients;

smx_status smx_attention_vjp(const smx_tensor *d_out, const smx_tensor *query,
                             const smx_tensor *key, const smx_tensor *value, const smx_tensor *out,
                             const smx_tensor *lse, const smx_attention_gradients *gradients,
                             const smx_attention_options *options);

/* How many bytes of workspace the same call needs to allocate nothing, for the threads that it
 * would use now. */
smx_status smx_attention_vjp_workspace_size(const smx_tensor *d_out, const smx_tensor *query,
                                            const smx_tensor *key, const smx_tensor *value,
                                            const smx_tensor *out, const smx_tensor *lse,
                                            const smx_attention_gradients *gradients,
                                            const smx_attention_options *options, size_t *size);

/* -- additive attention ---------------------------------------------------------------------------
 *
 *   score[i][j] = sum over a of v[a] · tanh((W query[i])[a] + (U key[j])[a]) + bias[i][j]
 *   weight[i]   = softmax over the visible j of score[i]
 *   out[i]      = sum over j of weight[i][j] · value[j]
 *
 * for each batch entry and head, W being w_query and U w_key: the alignment model of Bahdanau, Cho
 * and Bengio (2015), whose decoder asks with one query a step. Scores are not scaled. Each query
 * and each key is projected once.
 *
 * Shapes    query (B, Hq, Lq, Dq), key (B, Hkv, Lk, Dk), value (B, Hkv, Lk, Dv) and out (B, Hq, Lq,
 *           Dv), in both layouts and of 2 to 4 axes as for smx_attention; Dq and Dk may differ.
 *           w_query (A, Dq) or (Hq, A, Dq), w_key (A, Dk) or (Hkv, A, Dk), v (A) or (Hq, A):
 *           without their first axis they serve every head. A may be any number; where it is 0 all
 *           scores are.
 * Strides   Any, for every operand. Parameters whose rows are contiguous float32 or float64 are
 *           read in place.
 * Aliasing  out, lse and weights must not overlap an input or one another.
 * Special   As smx_attention. tanh of an infinite sum is 1 or -1, so an infinite number in a query
 *           or key need not make anything infinite or NaN; 0 · infinity and infinity - infinity in
 *           a projection do make a NaN.
 * Accuracy  tanh to 2 ulp (1.74 found for float32, over all of its numbers; 1.78 for float64). A
 *           projection is a sum of Dq (Dk) products, a score one of A, both in chains of 32; then
 *           as smx_attention.
 * Bits      As smx_attention.
 * Threads   Rows to be projected are shared among threads, then tiles as in smx_attention.
 * Memory    The projected queries and keys, (B · Hq · Lq + B · Hkv · Lk) · A numbers of float32
 *           (float64), and what smx_attention needs; from the caller's workspace if there is one,
 *           else allocated for the call. Never Lq · Lk numbers, unless weights are asked for.
 * Returns   As smx_attention. */

/* Zero everything but size: that is the default. Of smx_attention_options what has a meaning here,
 * with that meaning. */
typedef struct smx_additive_attention_options {
  size_t size;               /* sizeof(smx_additive_attention_options) */
  smx_layout layout;
  const smx_tensor *mask;
  const smx_tensor *bias;
  const smx_mask *structure;
  const smx_tensor *lse;     /* as in smx_attention_options: NULL, or where to write it */
  const smx_tensor *weights;
  void *workspace;           /* NULL, or smx_additive_attention_workspace_size bytes, aligned to
                                64 */
  size_t workspace_size;
} smx_additive_attention_options;

/* options may be NULL. All seven tensors have one dtype, float16, bfloat16, float32 or float64;
 * float16 and bfloat16 are computed in float32. */
smx_status smx_additive_attention(const smx_tensor *query, const smx_tensor *key,
                                  const smx_tensor *value, const smx_tensor *w_query,
                                  const smx_tensor *w_key, const smx_tensor *v,
                                  const smx_tensor *out,
                                  const smx_additive_attention_options *options);

/* How many bytes of workspace the same call needs to allocate nothing, for the threads that it
 * would use now. */
smx_status smx_additive_attention_workspace_size(const smx_tensor *query, const smx_tensor *key,
                                                 const smx_tensor *value, const smx_tensor *w_query,
                                                 const smx_tensor *w_key, const smx_tensor *v,
                                                 const smx_tensor *out,
                                                 const smx_additive_attention_options *options,
                                                 size_t *size);

#ifdef __cplusplus
}
#endif

#endif /* SWIFTMAX_ATTENTION_H */
