/* The boundary between the ABI and the kernels: what a job is, and the list of all kernels.
 *
 * The ABI has validated everything in a job. Byte strides may be negative or zero. Pointers that
 * an operation does not use are NULL. */
#ifndef SMXK_KERNELS_H
#define SMXK_KERNELS_H

#include "attention.h"
#include "attention_vjp.h"
#include "linear_loss.h"
#include "sampling.h"
#include "scoring.h"

/* Elements in a chunk of a row: the unit of the reduction order, of scratch and of work inside one
 * row. Part of the bits contract (docs/numerics.md). */
enum { SMXK_CHUNK = 4096 };

typedef intptr_t smxk_operation; /* intptr_t: Swift sees enumerators as Int */
/* The gradients take y as x and dy as weights; that of logsumexp is a softmax with factors. */
enum {
  SMXK_SOFTMAX = 0,
  SMXK_LOG_SOFTMAX = 1,
  SMXK_LOGSUMEXP = 2,
  SMXK_SOFTMAX_VJP = 3,
  SMXK_LOG_SOFTMAX_VJP = 4
};

/* One axis: its length, its place in the caller's tensor, and each operand's byte stride along
 * it. */
typedef struct smxk_axis {
  int64_t count;
  int64_t place;
  int64_t x, out, mask, bias, temperature, weights, sign, factor;
} smxk_axis;

/* Rows that the kernels may read and write in place: contiguous float32 or float64, no bias, no
 * weights, no mask but intervals of the row; plain when there is no temperature and no interval
 * either. Narrow: as plain, of float16 or bfloat16. Columns: as plain, but it is the last kept axis
 * that is contiguous: rows lie side by side. Out: softmax or log_softmax of rows that are read some
 * other way, whose results alone lie so. */
enum {
  SMXK_DIRECT_NONE = 0,
  SMXK_DIRECT = 1,
  SMXK_DIRECT_PLAIN = 2,
  SMXK_DIRECT_COLUMNS = 3,
  SMXK_DIRECT_NARROW = 4,
  SMXK_DIRECT_OUT = 5
};

typedef struct smxk_job {
  smxk_operation operation;
  smx_dtype dtype;             /* of x, out, weights and sign */
  smx_dtype bias_dtype;
  smx_dtype temperature_dtype;
  intptr_t direct;
  intptr_t streams;            /* results go past the caches, where they would not stay; of
                                  logsumexp, its rows come from memory (Run.swift) */
  int32_t outer_count, inner_count;
  const smxk_axis *outer;      /* kept axes, slowest first */
  const smxk_axis *inner;      /* reduced axes, slowest first: a row is their flattening */
  int64_t rows, cols;
  const void *x;
  void *out;
  const void *mask, *bias, *temperature, *weights;
  const void *factor;          /* NULL, or by row what the results are multiplied by, of dtype */
  void *sign;
  const smx_mask *structure;   /* NULL, or conditions joined by AND */
  int64_t panel_rows;          /* rows are worked on so many at a time in a panel, where that is
                                  fast (smxk_panel_rows); 0: where they lie */
  int64_t query_place, key_place, query_count, key_count;
} smxk_job;

/* softmax's Jacobian of each row of a job, whose x is the probabilities; its out's axes are the
 * kept ones, and these two behind them. */
typedef struct smxk_jacobian {
  smxk_job job;
  int64_t line, column; /* byte strides */
} smxk_jacobian;

/* What one pass over a row does. */
typedef intptr_t smxk_stage; /* intptr_t: Swift sees enumerators as Int */
enum {
  SMXK_MAXIMUM,        /* largest score */
  SMXK_FIND_NAN,       /* is there a NaN? a weight of either sign at +inf? */
  SMXK_SUM,            /* sum of the exponentials */
  SMXK_SECOND_MAXIMUM, /* largest score other than the maximum, less that */
  SMXK_PRECISE_SUM,    /* sum without the maximum, to 2^-27 */
  SMXK_FINISH,         /* results */
  SMXK_DONE
};

/* What SMXK_FIND_NAN counts, in one number: chunks with a negative and with a positive weight at
 * +inf, and with a NaN. */
enum { SMXK_NEGATIVE = 1, SMXK_POSITIVE = 1 << 20, SMXK_NAN = (intptr_t)1 << 40 };

/* How a row's exponentials are formed. */
typedef intptr_t smxk_form; /* intptr_t: Swift sees enumerators as Int */
enum {
  SMXK_PLAIN,    /* Exp.swift, plain form */
  SMXK_BIASED,   /* the same of x + bias, pairs of numbers */
  SMXK_SCALED,   /* Exp.swift, scaled form */
  SMXK_GREEDY,   /* temperature 0: 1 where the score is the maximum */
  SMXK_UNIFORM,  /* temperature inf: 1 where the score is above -inf */
  SMXK_CONSTANT  /* every visible result is `constant` */
};

/* What a pass over one chunk found; chunks are absorbed in order. */
typedef struct smxk_partial {
  double high, low;
  int64_t count;
} smxk_partial;

/* A row under way. */
typedef struct smxk_row {
  const char *x;
  char *out;
  const char *mask, *bias, *weights;
  char *sign;
  double temperature, factor;
  int64_t lower, upper;    /* visible elements lie in lower..<upper */
  int32_t tests_elements;  /* a structure must be asked for each element */
  int32_t resident;        /* the row is one chunk and stays in scratch between stages */
  smxk_stage stage;
  smxk_form form;
  double maximum, maximum_low;
  double raise,
      ties; /* of the precise sum: the power of two, elements equal to the maximum beyond the
               first */
  double constant;
  double log_sum, log_sum_low, sum_high, sum_low;
  smxk_partial found;
  /* By place, and one for an axis of length 1 that is not the caller's; filled when there is a
   * structure. */
  int64_t index[SMX_MAX_DIMS + 1];
} smxk_row;

/* Room for one thread's chunk, aligned to a cache line where it is declared. */
typedef struct smxk_scratch {
  double high[SMXK_CHUNK];
  double low[SMXK_CHUNK];
  smxk_row row;
  int64_t worker; /* 0 is the calling thread */
  void *panel;    /* SMXK_PANEL_BYTES, aligned to a cache line, where the job has panels */
} smxk_scratch;

/* Rows in a panel (RowPanels.swift): of `cols` numbers of `size` bytes, 4 or 8, with `operands` of
 * them for each row. 64 rows, more of short ones as long as they fit into a first-level cache,
 * fewer of long ones as the room wants it. */
enum { SMXK_PANEL_BYTES = 136 << 10, SMXK_NEAR_PANEL = 32 << 10 };

/* Numbers from one row to the next: whole vectors, an odd number of them so that rows do not meet
 * in a few sets of the cache. Rows of up to four vectors follow one another (FewElements.swift). */
static inline int64_t smxk_panel_pitch(int64_t cols, int64_t lanes) {
  return cols <= 4 * lanes ? cols : ((cols + lanes - 1) / lanes | 1) * lanes;
}
static inline int64_t smxk_panel_rows(int64_t cols, int64_t size, int64_t operands) {
  int64_t lanes = 64 / size;
  /* One number more: a result. Beside the rows there is a square, and a vector behind each
   * operand's. */
  int64_t bytes = (smxk_panel_pitch(cols, lanes) * operands + 1) * size;
  int64_t rows = (SMXK_PANEL_BYTES - (lanes + 2) * 64) / bytes;
  int64_t near = SMXK_NEAR_PANEL / bytes < 64 ? 64 : SMXK_NEAR_PANEL / bytes;
  if (rows > near) rows = near;
  return rows > lanes ? rows / lanes * lanes : rows;
}

/* A number of an int32 or int64 tensor. (The cross-compiled kernels see no libc header.) */
static inline int64_t smxk_integer(smx_dtype dtype, const void *_Nonnull p) {
  int32_t narrow;
  int64_t wide;
  if (dtype == SMX_INT32) {
    __builtin_memcpy(&narrow, p, sizeof narrow);
    return narrow;
  }
  __builtin_memcpy(&wide, p, sizeof wide);
  return wide;
}

/* Swift sees C arrays as tuples; these give their addresses. */
static inline void *_Nonnull smxk_high_of(smxk_scratch *_Nonnull s) { return s->high; }
static inline void *_Nonnull smxk_low_of(smxk_scratch *_Nonnull s) { return s->low; }
static inline smxk_row *_Nonnull smxk_row_of(smxk_scratch *_Nonnull s) { return &s->row; }
static inline int64_t *_Nonnull smxk_index_of(smxk_row *_Nonnull r) { return r->index; }

#include "losses.h"

/* Every kernel, once. KernelTable.swift fills one of these for each instruction set. */
typedef struct smxk_kernels {
  /* Rows first ..< first + count, each on its own. */
  void (*_Nonnull rows_f32)(const smxk_job *_Nonnull, int64_t first, int64_t count,
                            smxk_scratch *_Nonnull);
  void (*_Nonnull rows_f64)(const smxk_job *_Nonnull, int64_t first, int64_t count,
                            smxk_scratch *_Nonnull);
  /* One row in pieces, so that threads can share it: begin, then until the stage is DONE every
   * chunk of the stage (in any order), then absorb the partials (in order) and advance. */
  void (*_Nonnull begin_row)(const smxk_job *_Nonnull, smxk_row *_Nonnull, int64_t row);
  void (*_Nonnull chunk_f32)(const smxk_job *_Nonnull, const smxk_row *_Nonnull, int64_t chunk,
                             smxk_scratch *_Nonnull, smxk_partial *_Nonnull);
  void (*_Nonnull chunk_f64)(const smxk_job *_Nonnull, const smxk_row *_Nonnull, int64_t chunk,
                             smxk_scratch *_Nonnull, smxk_partial *_Nonnull);
  void (*_Nonnull absorb)(smxk_row *_Nonnull, const smxk_partial *_Nonnull);
  void (*_Nonnull advance_f32)(const smxk_job *_Nonnull, smxk_row *_Nonnull);
  void (*_Nonnull advance_f64)(const smxk_job *_Nonnull, smxk_row *_Nonnull);
  /* Lines first ..< first + count of Jacobians, each row of the job having `cols` of them. */
  void (*_Nonnull jacobian_f32)(const smxk_jacobian *_Nonnull, int64_t first, int64_t count,
                                smxk_scratch *_Nonnull);
  void (*_Nonnull jacobian_f64)(const smxk_jacobian *_Nonnull, int64_t first, int64_t count,
                                smxk_scratch *_Nonnull);
  /* One task of a projection. */
  void (*_Nonnull project_f32)(const smxk_projection *_Nonnull, int64_t task,
                               smxk_scratch *_Nonnull);
  void (*_Nonnull project_f64)(const smxk_projection *_Nonnull, int64_t task,
                               smxk_scratch *_Nonnull);
  /* One task of an attention call, and how many lanes its tiles have at most. */
  void (*_Nonnull attention_f32)(const smxk_attention *_Nonnull, int64_t task,
                                 smxk_scratch *_Nonnull);
  void (*_Nonnull attention_f64)(const smxk_attention *_Nonnull, int64_t task,
                                 smxk_scratch *_Nonnull);
  /* Of a call whose tiles are shared span by span, the end of one tile: the spans' sums, merged in
   * order. */
  void (*_Nonnull attention_join_f32)(const smxk_attention *_Nonnull, int64_t tile,
                                      smxk_scratch *_Nonnull);
  void (*_Nonnull attention_join_f64)(const smxk_attention *_Nonnull, int64_t tile,
                                      smxk_scratch *_Nonnull);
  int64_t tile_f32, tile_f64;
  /* Rows first ..< first + count of two results, of all batch entries and heads. */
  void (*_Nonnull merge_f32)(const smxk_merge *_Nonnull, int64_t first, int64_t count,
                             smxk_scratch *_Nonnull);
  void (*_Nonnull merge_f64)(const smxk_merge *_Nonnull, int64_t first, int64_t count,
                             smxk_scratch *_Nonnull);
  /* One task of a phase of attention's gradient. */
  void (*_Nonnull attention_vjp_f32)(const smxk_attention_vjp *_Nonnull, int64_t task,
                                     smxk_scratch *_Nonnull);
  void (*_Nonnull attention_vjp_f64)(const smxk_attention_vjp *_Nonnull, int64_t task,
                                     smxk_scratch *_Nonnull);
  /* One task of a phase of linear_cross_entropy. */
  void (*_Nonnull linear_loss_f32)(const smxk_linear_loss *_Nonnull, int64_t task,
                                   smxk_scratch *_Nonnull);
  void (*_Nonnull linear_loss_f64)(const smxk_linear_loss *_Nonnull, int64_t task,
                                   smxk_scratch *_Nonnull);
  /* Rows first ..< first + count of a cross-entropy, of entropies or divergences. */
  void (*_Nonnull cross_entropy_f32)(const smxk_cross_entropy *_Nonnull, int64_t first,
                                     int64_t count, smxk_scratch *_Nonnull);
  void (*_Nonnull cross_entropy_f64)(const smxk_cross_entropy *_Nonnull, int64_t first,
                                     int64_t count, smxk_scratch *_Nonnull);
  void (*_Nonnull divergence_f32)(const smxk_divergence *_Nonnull, int64_t first, int64_t count,
                                  smxk_scratch *_Nonnull);
  void (*_Nonnull divergence_f64)(const smxk_divergence *_Nonnull, int64_t first, int64_t count,
                                  smxk_scratch *_Nonnull);
  double (*_Nonnull exponential)(double);
  /* Sampling, of the row in a scratch: the k largest of SMXK_BLOCK elements at most, largest first
   * and of equal ones the first, 0 where a number is not below +inf; a bound of the k largest;
   * elements above a threshold; the weights of a block, and their sum; a block with only what is
   * above the threshold left. */
  int32_t (*_Nonnull largest_f32)(const smxk_job *_Nonnull, int64_t k, smxk_selection *_Nonnull,
                                  smxk_scratch *_Nonnull);
  int32_t (*_Nonnull largest_f64)(const smxk_job *_Nonnull, int64_t k, smxk_selection *_Nonnull,
                                  smxk_scratch *_Nonnull);
  double (*_Nonnull bound_f32)(const smxk_job *_Nonnull, int64_t k, smxk_scratch *_Nonnull);
  double (*_Nonnull bound_f64)(const smxk_job *_Nonnull, int64_t k, smxk_scratch *_Nonnull);
  void (*_Nonnull select_f32)(const smxk_job *_Nonnull, smxk_selection *_Nonnull,
                              smxk_scratch *_Nonnull);
  void (*_Nonnull select_f64)(const smxk_job *_Nonnull, smxk_selection *_Nonnull,
                              smxk_scratch *_Nonnull);
  uint64_t (*_Nonnull weigh_f32)(const smxk_job *_Nonnull, const smxk_block *_Nonnull,
                                 const smxk_exponent *_Nonnull, uint64_t *_Nonnull weights,
                                 smxk_scratch *_Nonnull);
  uint64_t (*_Nonnull weigh_f64)(const smxk_job *_Nonnull, const smxk_block *_Nonnull,
                                 const smxk_exponent *_Nonnull, uint64_t *_Nonnull weights,
                                 smxk_scratch *_Nonnull);
  void (*_Nonnull keep_f32)(const smxk_job *_Nonnull, const smxk_block *_Nonnull,
                            smxk_scratch *_Nonnull);
  void (*_Nonnull keep_f64)(const smxk_job *_Nonnull, const smxk_block *_Nonnull,
                            smxk_scratch *_Nonnull);
  /* The weights of numbers that lie side by side. */
  void (*_Nonnull weigh_list)(const double *_Nonnull values, int64_t count,
                              const smxk_exponent *_Nonnull, uint64_t *_Nonnull weights);
  /* How many of up to SMXK_RANKED finite numbers come before each, largest first and of equal ones
   * the first; ranks in whole vectors of 8. */
  void (*_Nonnull rank)(const double *_Nonnull values, int64_t count, double *_Nonnull ranks);
  /* -log(-log(u)) of the uniform u in each of up to SMXK_BLOCK 64-bit numbers, as float32 or
   * float64. */
  void (*_Nonnull gumbel_f32)(const uint64_t *_Nonnull bits, int64_t count, void *_Nonnull noise);
  void (*_Nonnull gumbel_f64)(const uint64_t *_Nonnull bits, int64_t count, void *_Nonnull noise);
  /* log(x), x a positive normal number. */
  double (*_Nonnull log)(double x);
  /* sigmoid or log_sigmoid of chunks first ..< first + count of the job's one row. */
  void (*_Nonnull sigmoid_f32)(const smxk_job *_Nonnull, int64_t first, int64_t count,
                               smxk_scratch *_Nonnull);
  void (*_Nonnull sigmoid_f64)(const smxk_job *_Nonnull, int64_t first, int64_t count,
                               smxk_scratch *_Nonnull);
  /* log_softmax of a row at one element. */
  double (*_Nonnull log_prob_f32)(const smxk_job *_Nonnull, int64_t row, int64_t token,
                                  smxk_scratch *_Nonnull);
  double (*_Nonnull log_prob_f64)(const smxk_job *_Nonnull, int64_t row, int64_t token,
                                  smxk_scratch *_Nonnull);
  /* Of `count` scores, those not ranked first, then the others from the last place to the first. */
  double (*_Nonnull plackett_luce)(const double *_Nonnull scores, int64_t count, int64_t ranked);
  /* Rows first ..< first + count of a calibration. */
  void (*_Nonnull judge_f32)(const smxk_calibration *_Nonnull, int64_t first, int64_t count,
                             smxk_scratch *_Nonnull);
  void (*_Nonnull judge_f64)(const smxk_calibration *_Nonnull, int64_t first, int64_t count,
                             smxk_scratch *_Nonnull);
} smxk_kernels;

/* Each instruction set's getter, KernelTable.swift in its target. */
void smxk_fill_v2(smxk_kernels *_Nonnull);
void smxk_fill_v3(smxk_kernels *_Nonnull);
void smxk_fill_v4(smxk_kernels *_Nonnull);
void smxk_fill_neon(smxk_kernels *_Nonnull);

#endif
