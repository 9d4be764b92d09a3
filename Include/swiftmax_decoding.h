/* swiftmax_decoding.h: sampling, scoring and calibration. A part of swiftmax.h, which says what holds for every function. */
#ifndef SWIFTMAX_DECODING_H
#define SWIFTMAX_DECODING_H

#include "swiftmax.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -- sampling --------------------------------------------------------------------------------------------
 *
 * A row x of logits, along the last axis, is a choice among n tokens with the probabilities softmax(x / T). Filters, in
 * this order, leave some of them, and the token is drawn from those with their probabilities renormalised:
 *
 *   mask         an element with mask false is out, whatever it holds, and so is -inf
 *   temperature  T, as in smx_softmax, except that T = 0 leaves the largest element alone, the first of equal ones
 *   top_k        the k largest; of equal ones the first. 0, and n or more, leave all
 *   top_p        of those the smallest number of largest whose probabilities, renormalised after top_k, add up to
 *                top_p or more, at least one: the element that crosses top_p stays. 1 leaves all
 *   min_p        of those the ones with min_p times the largest probability or more. 0 leaves all
 *
 * Largest first and of equal ones the first: the elements left are always the first so many in this order.
 *
 * Weights   The weight of an element is exp((x - max) / T), computed in float64 to 2^-46 of it and rounded to a multiple
 *           of 2^-52; the largest is 1. Sums of weights are sums of whole numbers, hence exact: no algorithm, number of
 *           threads or instruction set can show in what a filter leaves or which token is drawn. min_p compares
 *           (x - max) / T with log(min_p), in float64. T below 2^-960 counts as 0.
 * Random    Philox4x32-10 (smx_philox): no state, a function of seed, counter and draw number. The drawn token is the
 *           first, in the order of the row, at which the sum of the weights left is above
 *           floor(R · total / 2^64), with R from words 0 (lower half) and 1 of
 *
 *             key = (seed, seed >> 32)
 *             counter words = (draw, draw >> 32, counter, counter >> 32)      32 bits of each
 *
 *           `counter` is a number of the row's own, by default the row's number in C order. So a row alone, given its
 *           counter, has the token that it has in any batch. */

/* Zero everything but size: that is the default. Each tensor may be NULL, and has one number for each row: its shape
 * broadcasts to that of logits without the last axis, or to all its axes with the last 1 long. */
typedef struct smx_filter_options {
  size_t size;                   /* sizeof(smx_filter_options) */
  const smx_tensor *temperature; /* NULL: 1. Float, 0 or more */
  const smx_tensor *top_k;       /* NULL: all. int32 or int64, 0 or more */
  const smx_tensor *top_p;       /* NULL: 1. float32 or float64, from 0 to 1 */
  const smx_tensor *min_p;       /* NULL: 0. float32 or float64, from 0 to 1 */
  const smx_tensor *mask;        /* NULL, or bool that broadcasts to logits; true takes part */
} smx_filter_options;

typedef struct smx_sample_options {
  size_t size;                   /* sizeof(smx_sample_options) */
  const smx_tensor *temperature; /* to mask: as in smx_filter_options */
  const smx_tensor *top_k;
  const smx_tensor *top_p;
  const smx_tensor *min_p;
  const smx_tensor *mask;
  uint64_t seed;
  const smx_tensor *counter;     /* NULL: the row's number. int32 or int64, any */
  const smx_tensor *draw;        /* NULL: 0. int32 or int64, 0 or more: the number of the row's first draw */
  const smx_tensor *log_probs;   /* NULL, or float64 of out's shape: the log-probability of each token among those left */
} smx_sample_options;

/* Draws tokens: indices into the rows of logits.
 *
 * Shapes    out has the axes of logits but the last, or one more behind them, `size` long: that many draws of each row,
 *           with draw numbers draw ..< draw + size. logits has one axis or more, of any float dtype; out is int64.
 * Strides   Any, for every operand.
 * Aliasing  out and log_probs must not overlap an input or one another.
 * Special   A row that has nothing above -inf that is not masked, and a row with NaN or +inf that is not masked, cannot
 *           be drawn from: SMX_ERROR_VALUE, the sentence has the row's number in C order, nothing is written. No row
 *           is looked at where no token is asked for.
 * Accuracy  Each token's probability to 2^-45 of it and n · 2^-53 of the largest. log_probs: 2^-45 absolute where
 *           T is 1 or more, the rounding of (x - max) / T beyond.
 * Threads   Rows are shared among threads.
 * Memory    Allocates 8 bytes for each token (and log_prob) where there are more than 512.
 * Returns   SMX_OK, or SMX_ERROR_NULL, _SIZE, _DTYPE, _SHAPE, _VALUE, _OVERLAP, _OVERFLOW, _ISA, _THREADS, _MEMORY.
 * Source    top_k: Fan, Lewis, Dauphin 2018; top_p: Holtzman et al. 2020; min_p: Nguyen et al. 2024. */
smx_status smx_sample(const smx_tensor *logits, const smx_tensor *out, const smx_sample_options *options);

/* The distribution that smx_sample draws from: smx_softmax of logits with -inf in the place of what the filters take out.
 *
 * Shapes    out has the shape and dtype of logits, which has one axis or more.
 * Strides   Any, for every operand.
 * Aliasing  As smx_softmax.
 * Special   A row without an element above -inf that is not masked is 0. A row with NaN or +inf is NaN where it is not
 *           masked and not filtered, that is everywhere.
 * Accuracy  As smx_softmax, whose bits these are.
 * Threads   Rows are shared among threads.
 * Returns   As smx_softmax. */
smx_status smx_filtered_softmax(const smx_tensor *logits, const smx_tensor *out, const smx_filter_options *options);

typedef struct smx_top_k_options {
  size_t size;                   /* sizeof(smx_top_k_options) */
  const smx_tensor *temperature; /* as in smx_filter_options */
  const smx_tensor *mask;
  int32_t log;                   /* not 0: log_softmax instead of softmax */
} smx_top_k_options;

/* The k largest of each row, largest first and of equal ones the first, with their probabilities among all visible
 * elements of the row (not renormalised): softmax(x / T), or its logarithm, at those places.
 *
 * Shapes    logits (..., n); probabilities and indices (..., k) with k from 0 to n. indices is int64, probabilities
 *           has the dtype of logits.
 * Strides   Any, for every operand.
 * Aliasing  The outputs must not overlap logits, the mask, the temperature or one another.
 * Special   Behind the elements above -inf that are visible: index -1, probability 0 (-inf if log). A row with NaN or
 *           +inf: index -1, NaN throughout.
 * Accuracy  As smx_softmax and smx_log_softmax, whose bits these are.
 * Threads   Rows are shared among threads.
 * Memory    Allocates where k is above 1024: about 64 bytes times k for each thread.
 * Returns   As smx_sample. */
smx_status smx_top_k(const smx_tensor *logits, const smx_tensor *probabilities, const smx_tensor *indices,
                     const smx_top_k_options *options);

typedef struct smx_gumbel_softmax_options {
  size_t size;                   /* sizeof(smx_gumbel_softmax_options) */
  const smx_tensor *temperature; /* as in smx_filter_options */
  const smx_tensor *mask;
  uint64_t seed;
  const smx_tensor *counter;     /* as in smx_sample_options */
  const smx_tensor *draw;        /* NULL: 0. From 0 to 2^31 - 1 */
  int32_t hard;                  /* not 0: 1 at the largest x + g, of equal ones the first, and 0 elsewhere */
} smx_gumbel_softmax_options;

/* Gumbel-softmax (Jang, Gu, Poole 2017; Maddison, Mnih, Teh 2017): out = softmax((x + g) / T) with Gumbel noise
 * g = -log(-log(u)) of each element's own.
 *
 * Random    u = ((R >> 12) + 1/2) · 2^-52. R of element i is words 0 (lower half) and 1 for even i, 2 and 3 for odd i, of
 *           Philox4x32-10 with the key of smx_sample and the counter words
 *           (i >> 1, 2^31 + draw, counter, counter >> 32). No draw of smx_sample has these words.
 * Shapes    out has the shape and dtype of logits, which has one axis or more, its last one shorter than 2^33.
 * Strides   Any, for every operand.
 * Aliasing  As smx_softmax.
 * Special   As smx_softmax with g as the bias; hard leaves NaN rows NaN and masked ones 0.
 * Accuracy  g to 1 ulp of float32, of float64 for float64; the rest as smx_softmax with a bias.
 * Threads   Rows are shared among threads.
 * Memory    Allocates one row of noise for each thread.
 * Returns   As smx_sample. */
smx_status smx_gumbel_softmax(const smx_tensor *logits, const smx_tensor *out, const smx_gumbel_softmax_options *options);

/* Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011), as Random123 has it.
 * Returns   SMX_OK or SMX_ERROR_NULL. */
smx_status smx_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

#ifdef __cplusplus
}
#endif

#endif /* SWIFTMAX_DECODING_H */
