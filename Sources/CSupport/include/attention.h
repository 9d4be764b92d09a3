/* An attention call as the kernels see it. The ABI has validated everything; byte strides may be
 * negative or zero. */
#ifndef SMXK_ATTENTION_H
#define SMXK_ATTENTION_H

#include "../../../Include/swiftmax.h"

/* Swift sees an unmarked pointer as one that may be NULL, as those are. */
#pragma clang diagnostic ignored "-Wnullability-completeness"

/* Keys of a block, the unit in which sums of a row are made and its exponent may move; and of a
 * span, whose sums begin anew and are merged in order, so that threads can share a long row. Part
 * of the bits contract (docs/attention.md). */
enum { SMXK_KEY_BLOCK = 64, SMXK_KEY_SPAN = 1024 };

/* Columns of query and key whose products are one chain; a score is the sum of these. Part of it,
 * too. */
enum { SMXK_SCORE_PIECE = 32 };

/* Queries that are worked on as FewQueries.swift does. */
enum { SMXK_FEW = 8 };

/* An operand seen as [batch][head][row][column], strides in bytes; data NULL where it is absent. */
typedef struct smxk_view {
  char *data;
  int64_t batch, head, row, column;
} smxk_view;

/* What each lane of a tile is: query's place and head, first key seen, key behind the last one
 * seen. */
enum { SMXK_PLACE, SMXK_HEAD, SMXK_FIRST, SMXK_LAST, SMXK_PLACES };

/* What each lane has come to: the base, the exponent and the sum of this span, and of the spans
 * before; of the block, the largest score, the factor for what came before, the first key seen and
 * the one behind the last, and the query's distance, all counted from the first key; the ALiBi
 * slope. */
enum {
  SMXK_BASE,
  SMXK_EXPONENT,
  SMXK_WEIGHT,
  SMXK_TOTAL_BASE,
  SMXK_TOTAL_EXPONENT,
  SMXK_TOTAL_WEIGHT,
  SMXK_LARGEST,
  SMXK_FACTOR,
  SMXK_FROM,
  SMXK_TO,
  SMXK_DISTANCE,
  SMXK_SLOPE,
  SMXK_STATES
};

/* The queries that are worked on together. */
typedef struct smxk_tile {
  int64_t lanes, count;        /* how wide the tile is, and how many lanes are queries */
  int64_t lower, upper;        /* keys that any query sees lie in lower ..< upper */
  int64_t all_from,
      all_to; /* keys in all_from ..< all_to every query sees, segments and arrays aside */
  int32_t has_base;            /* the base of some lane is not 0 */
  int32_t has_others;          /* segments may hide a score of the block at hand */
  int32_t has_masked;          /* the mask array hides one */
  int64_t is_apart;            /* the sums stand in `few`, a row for each query
                                  (FewQueries.swift) */
} smxk_tile;

/* Where a thread's workspace holds what, in bytes from its start. Matrices lie with lanes (queries)
 * innermost. */
typedef struct smxk_rooms {
  int64_t scores;       /* a block's scores, then its weights: keys × lanes */
  int64_t bias, shown;  /* the same of the bias, and of the mask as 1 and 0 */
  int64_t turn;         /* a block's numbers for a vector of lanes, before or after they are
                           turned */
  int64_t keys, values; /* a block of each, where they cannot be used in place */
  int64_t fast_values, fast_weights, fast_sums; /* AttentionFast.swift */
  int64_t tiles;        /* the first tile */
  int64_t tile_bytes;
  /* Inside a tile, behind its smxk_tile: */
  int64_t query;        /* head size × lanes, scaled; additive: lanes × head size, and as much again
                           of v */
  int64_t sums, totals; /* value size × lanes: of this span, of the spans before */
  int64_t few;          /* a row of value size for each lane of a vector */
  int64_t pairs;        /* the queries as pairs of bfloat16: half the head size × lanes
                           (AttentionFast.swift) */
  int64_t state;        /* SMXK_STATES rows of lanes */
  int64_t lanes;        /* SMXK_PLACES rows of int64 */
  int64_t bytes;        /* of all */
} smxk_rooms;

/* Rows times a matrix, in the type that sums have:
 *
 *   out[a] = sum over d of matrix[a][d] · row[d]
 *
 * The rows of a batch entry and head take `slots` places, `length` of them rows and the others
 * zeros. The places that use one matrix are a group, batch entries slowest. Results lie in panels
 * of `lanes` places, these innermost: (groups, panels, width, lanes). A task is some panels of one
 * group. */
typedef struct smxk_projection {
  smx_dtype dtype;
  smxk_view rows, matrix; /* the matrix has no batch: head, row (a), column (d) */
  int64_t batch, heads, length, slots, size, width;
  int64_t groups, panels, lanes, panels_per_task;
  char *out;
  /* A thread's workspace, in bytes from its start: a panel's rows, turned; a square to turn; the
   * matrix, where it cannot be used in place. */
  char *workspace;
  int64_t input, turn, matrix_copy, bytes;
} smxk_projection;

typedef struct smxk_attention {
  smx_dtype dtype, bias_dtype;
  int64_t batch, heads, key_heads, queries, keys, past, head_size, value_size;
  smxk_view query, key, value, past_key, past_value, out, lse, weights, mask, bias, slopes, sinks;
  smxk_view query_starts,
      key_starts; /* packed entries: where each begins (column), and how many rows are in all */
  smx_dtype query_starts_dtype, key_starts_dtype;
  smxk_view blocks;     /* the block table: batch, column */
  smx_dtype blocks_dtype;
  int64_t block_size;
  double scale, softcap;
  /* Additive attention: v as head and column, data NULL for any other; queries and keys come
   * projected, and head_size is how many numbers they then have. */
  smxk_view vector;
  smxk_projection query_projection, key_projection;
  const smx_mask *structure;
  const smx_tensor *offset;   /* what ALiBi counts from; NULL: keys - queries */
  int32_t has_segments; /* whether a condition of the structure has them */
  int64_t leading;      /* leading axes of the scores: 2, 1 (heads) or 0 */
  /* The plan. A group is a key head with the rows of all its query heads, or one query head; a task
   * is some tiles of one group. */
  int32_t is_flat;
  int64_t groups, rows, tile_lanes, tile_count, tiles_per_task;
  smxk_rooms rooms;
  int64_t spans;        /* 1, or how many tasks share each tile, a span of keys each */
  char *partials;       /* their sums, tile by tile and span by span, partial_bytes each */
  int64_t partial_bytes;
  char *workspace;      /* NULL: the thread's scratch is enough */
  int32_t unit;         /* what multiplies whole blocks: */
} smxk_attention;

enum { SMXK_EXACT_UNIT = 0, SMXK_AMX_UNIT = 1, SMXK_DOT_UNIT = 2 };

/* Products of bfloat16 on AMX tiles (amx.c). Whether CPU and kernel let this process use them: */
int32_t smxk_amx_is_ready(void);
/* Before the first product of a task on its thread, and after the last. */
void smxk_amx_begin(void);
void smxk_amx_end(void);
/* results (rows × 16·vectors) = left (rows of 32·steps bfloat16, left_stride bytes apart) times
 * right (16·steps rows of 16·vectors pairs): for each pair the left numbers 2k and 2k + 1. rows is
 * a multiple of 16, vectors 1 to 3. */
void smxk_amx_product(const void *_Nonnull left, int64_t left_stride, const void *_Nonnull right,
                      int64_t rows, int64_t steps, int64_t vectors, float *_Nonnull results);

/* The same by the dot products of AVX512-BF16 (dots.c). Whether this CPU has them, and faster than
 * FMAs: */
int32_t smxk_dots_are_fast(void);
/* scores = scale times the product; the largest of each lane, a NaN being passed over. */
void smxk_dot_scores(const void *_Nonnull left, int64_t left_stride, const void *_Nonnull right,
                     int64_t rows, int64_t steps, int64_t vectors, float scale,
                     float *_Nonnull scores, float *_Nonnull largest);
/* sums = factor of the lane times sums, and the product. */
void smxk_dot_sums(const void *_Nonnull left, int64_t left_stride, const void *_Nonnull right,
                   int64_t rows, int64_t steps, int64_t vectors, float *_Nonnull factors,
                   float *_Nonnull sums);

/* Two results of attention and their union; lse.data NULL where it is not wanted. */
typedef struct smxk_merge {
  smx_dtype dtype;
  int64_t batch, heads, rows, columns;
  smxk_view out_a, lse_a, out_b, lse_b, out, lse;
} smxk_merge;

#endif
