/* swiftmax_decoding.h: sampling, scoring and calibration. A part of swiftmax.h, which says what
 * holds for every function. */
#ifndef SWIFTMAX_DECODING_H
#define SWIFTMAX_DECODING_H

#include "swiftmax.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -- sampling -------------------------------------------------------------------------------------
 *
 * A row x of logits, along the last axis, is a choice among n tokens with the probabilities
 * softmax(x / T). Filters, in this order, leave some of them, and the token is drawn from those
 * with their probabilities renormalised:
 *
 *   mask         an element with mask false is out, whatever it holds, and so is -inf
 *   temperature  T, as in smx_softmax, except that T = 0 leaves the largest element alone, the
 *                first of equal ones
 *   top_k        the k largest; of equal ones the first. 0, and n or more, leave all
 *   top_p        of those the smallest number of largest whose probabilities, renormalised after
 *                top_k, add up to top_p or more, at least one: the element that crosses top_p
 *                stays. 1 leaves all
 *   min_p        of those the ones with min_p times the largest probability or more. 0 leaves all
 *
 * Largest first and of equal ones the first: the elements left are always the first so many in this
 * order.
 *
 * Weights   The weight of an element is exp((x - max) / T), computed in float64 to 2^-46 of it and
 *           rounded to a multiple of 2^-52; the largest is 1. Sums of weights are sums of whole
 *           numbers, hence exact: no algorithm, number of threads or instruction set can show in
 *           what a filter leaves or which token is drawn. min_p compares (x - max) / T with
 *           log(min_p), in float64. T below 2^-960 counts as 0.
 * Random    Philox4x32-10 (smx_philox): no state, a function of seed, counter and draw number. The
 *           drawn token is the first, in the order of the row, at which the sum of the weights left
 *           is above floor(R · total / 2^64), with R from words 0 (lower half) and 1 of
 *
 *             key = (seed, seed >> 32)
 *             counter words = (draw, draw >> 32, counter, counter >> 32)      32 bits of each
 *
 *           `counter` is a number of the row's own, by default the row's number in C order. So a
 *           row alone, given its counter, has the token that it has in any batch. */

/* Zero everything but size: that is the default. Each tensor may be NULL, and has one number for
 * each row: its shape broadcasts to that of logits without the last axis, or to all its axes with
 * the last 1 long. */
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
  const smx_tensor *draw;        /* NULL: 0. int32 or int64, 0 or more: the number of the row's
                                    first draw */
  const smx_tensor *log_probs;   /* NULL, or float64 of out's shape: the log-probability of each
                                    token among those left */
  void *workspace;               /* NULL, or smx_sample_workspace_size bytes, aligned to 64 */
  size_t workspace_size;
} smx_sample_options;

/* Draws tokens: indices into the rows of logits.
 *
 * Shapes    out has the axes of logits but the last, or one more behind them, `size` long: that
 *           many draws of each row, with draw numbers draw ..< draw + size. logits has one axis or
 *           more, of any float dtype; out is int64.
 * Strides   Any, for every operand.
 * Aliasing  out and log_probs must not overlap an input or one another.
 * Special   A row that has nothing above -inf that is not masked, and a row with NaN or +inf that
 *           is not masked, cannot be drawn from: SMX_ERROR_VALUE, the sentence has the row's number
 *           in C order, nothing is written. No row is looked at where no token is asked for.
 * Accuracy  Each token's probability to 2^-45 of it and n · 2^-53 of the largest. log_probs: 2^-45
 *           absolute where T is 1 or more, the rounding of (x - max) / T beyond.
 * Threads   Rows are shared among threads.
 * Memory    8 bytes for each token (and log_prob) where there are more than 512, from the caller's
 *           workspace if there is one, else allocated for the call.
 * Returns   SMX_OK, or SMX_ERROR_NULL, _SIZE, _DTYPE, _SHAPE, _VALUE, _OVERLAP, _OVERFLOW, _ISA,
 *           _THREADS, _MEMORY.
 * Source    top_k: Fan, Lewis, Dauphin 2018; top_p: Holtzman et al. 2020; min_p: Nguyen et al.
 *           2024. */
smx_status smx_sample(const smx_tensor *logits, const smx_tensor *out,
                      const smx_sample_options *options);

/* How many bytes of workspace the same call needs to allocate nothing, for the threads that it
 * would use now; 0 where it needs none. So for every function of this name. */
smx_status smx_sample_workspace_size(const smx_tensor *logits, const smx_tensor *out,
                                     const smx_sample_options *options, size_t *size);

/* The distribution that smx_sample draws from: smx_softmax of logits with -inf in the place of what
 * the filters take out.
 *
 * Shapes    out has the shape and dtype of logits, which has one axis or more.
 * Strides   Any, for every operand.
 * Aliasing  As smx_softmax.
 * Special   A row without an element above -inf that is not masked is 0. A row with NaN or +inf is
 *           NaN where it is not masked and not filtered, that is everywhere.
 * Accuracy  As smx_softmax, whose bits these are.
 * Threads   Rows are shared among threads.
 * Returns   As smx_softmax. */
smx_status smx_filtered_softmax(const smx_tensor *logits, const smx_tensor *out,
                                const smx_filter_options *options);

typedef struct smx_top_k_options {
  size_t size;                   /* sizeof(smx_top_k_options) */
  const smx_tensor *temperature; /* as in smx_filter_options */
  const smx_tensor *mask;
  int32_t log;                   /* not 0: log_softmax instead of softmax */
  void *workspace;               /* NULL, or smx_top_k_workspace_size bytes, aligned to 64 */
  size_t workspace_size;
} smx_top_k_options;

/* The k largest of each row, largest first and of equal ones the first, with their probabilities
 * among all visible elements of the row (not renormalised): softmax(x / T), or its logarithm, at
 * those places.
 *
 * Shapes    logits (..., n); probabilities and indices (..., k) with k from 0 to n. indices is
 *           int64, probabilities has the dtype of logits.
 * Strides   Any, for every operand.
 * Aliasing  The outputs must not overlap logits, the mask, the temperature or one another.
 * Special   Behind the elements above -inf that are visible: index -1, probability 0 (-inf if log).
 *           A row with NaN or +inf: index -1, NaN throughout.
 * Accuracy  As smx_softmax and smx_log_softmax, whose bits these are.
 * Threads   Rows are shared among threads.
 * Memory    None where k is 1024 or less, else 48 bytes times k and 1.5 KB for each thread, from
 *           the caller's workspace if there is one, else allocated for the call.
 * Returns   As smx_sample. */
smx_status smx_top_k(const smx_tensor *logits, const smx_tensor *probabilities,
                     const smx_tensor *indices, const smx_top_k_options *options);
smx_status smx_top_k_workspace_size(const smx_tensor *logits, const smx_tensor *probabilities,
                                    const smx_tensor *indices, const smx_top_k_options *options,
                                    size_t *size);

typedef struct smx_gumbel_softmax_options {
  size_t size;                   /* sizeof(smx_gumbel_softmax_options) */
  const smx_tensor *temperature; /* as in smx_filter_options */
  const smx_tensor *mask;
  uint64_t seed;
  const smx_tensor *counter;     /* as in smx_sample_options */
  const smx_tensor *draw;        /* NULL: 0. From 0 to 2^31 - 1 */
  int32_t hard;                  /* not 0: 1 at the largest x + g, of equal ones the first, and 0
                                    elsewhere */
  void *workspace;               /* NULL, or smx_gumbel_softmax_workspace_size bytes, aligned to
                                    64 */
  size_t workspace_size;
} smx_gumbel_softmax_options;

/* Gumbel-softmax (Jang, Gu, Poole 2017; Maddison, Mnih, Teh 2017): out = softmax((x + g) / T) with
 * Gumbel noise g = -log(-log(u)) of each element's own.
 *
 * Random    u = ((R >> 12) + 1/2) · 2^-52. R of element i is words 0 (lower half) and 1 for even i,
 *           2 and 3 for odd i, of Philox4x32-10 with the key of smx_sample and the counter words
 *           (i >> 1, 2^31 + draw, counter, counter >> 32). No draw of smx_sample has these words.
 * Shapes    out has the shape and dtype of logits, which has one axis or more, its last one shorter
 *           than 2^33.
 * Strides   Any, for every operand.
 * Aliasing  As smx_softmax.
 * Special   As smx_softmax with g as the bias; hard leaves NaN rows NaN and masked ones 0.
 * Accuracy  g to 1 ulp of float32, of float64 for float64; the rest as smx_softmax with a bias.
 * Threads   Rows are shared among threads.
 * Memory    One row of noise for each thread, from the caller's workspace if there is one, else
 *           allocated for the call.
 * Returns   As smx_sample. */
smx_status smx_gumbel_softmax(const smx_tensor *logits, const smx_tensor *out,
                              const smx_gumbel_softmax_options *options);
smx_status smx_gumbel_softmax_workspace_size(const smx_tensor *logits, const smx_tensor *out,
                                             const smx_gumbel_softmax_options *options,
                                             size_t *size);

/* Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011),
 * as Random123 has it.
 * Returns   SMX_OK or SMX_ERROR_NULL. */
smx_status smx_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* -- sigmoid and log_sigmoid ----------------------------------------------------------------------
 *
 *   sigmoid      out = 1 / (1 + exp(-x))
 *   log_sigmoid  out = -log(1 + exp(-x)), computed as such
 *
 * Softmax of two classes: sigmoid(a - b) is the first element of softmax([a, b]), and log_sigmoid(a
 * - b) of log_softmax([a, b]); each is within its bound of that number wherever a - b is exact (the
 *   results are then at
 * most 2 ulp apart), while softmax needs no such condition.
 *
 * Shapes    out has the shape of x. Any number of axes.
 * Strides   Any.
 * Aliasing  out may be x itself; any other overlap is an error where it can be told from the
 *           strides.
 * Special   sigmoid(-inf) is 0, sigmoid(inf) 1; log_sigmoid(-inf) is -inf, log_sigmoid(inf) 0; NaN
 *           for NaN. Results that are subnormal are kept: sigmoid to -103.97 (-745.1), log_sigmoid
 *           to 103.97 (745.1).
 * Accuracy  float32, float64: 2 ulp at every x, subnormal results among them. float16, bfloat16:
 *           the nearest value but for ties decided by the last bit of float32.
 * Threads   Pieces of 4096 elements are shared among threads.
 * Memory    Nothing is allocated.
 * Returns   SMX_OK, or SMX_ERROR_NULL, _DTYPE, _SHAPE, _OVERLAP, _OVERFLOW, _ISA, _THREADS. */
smx_status smx_sigmoid(const smx_tensor *x, const smx_tensor *out);
smx_status smx_log_sigmoid(const smx_tensor *x, const smx_tensor *out);

/* -- log-probability of a sequence ----------------------------------------------------------------
 *
 *   out = sum over i < length of log_softmax(logits[i] / T)[tokens[i]]
 *
 * for each sequence; with `normalize` divided by the length, which makes sequences of different
 * lengths comparable. A product of probabilities underflows after about 45 tokens of p = 0.1 in
 * float32; this sum does not. No array of the size of the logits is made, and they are read from
 * memory once if V is at most about 100,000: a row is read twice, the second time from cache.
 *
 * Shapes    logits is (..., L, V); tokens, and token_log_probs if given, are (..., L); lengths and
 *           out are (...). For a language model logits[i] must be what was computed before token i
 *           was known: give the logits from the first to the one before the last and the tokens
 *           from the second on, by pointer and shape.
 * Strides   Any, for every operand.
 * Aliasing  out and token_log_probs must not overlap an input or one another.
 * Special   Positions from the length on are not read, neither logits nor tokens; token_log_probs
 *           is 0 there. A sequence of no tokens gives 0. A token that is masked or whose logit is
 *           -inf has log-probability -inf. Rows with NaN, +inf or -inf alone, and temperatures 0
 *           and inf, as in log_softmax.
 * Accuracy  token_log_probs has the bits of log_softmax at that element (for float16 and bfloat16
 *           of the float32 values, unrounded): 2 ulp, a dominant token or a common offset of the
 *           logits losing nothing. out is their sum in float64, in their order; all have one sign,
 *           so its error is at most 2 ulp of the same type beside (L - 1) · 2^-53 of it.
 * Threads   Rows are shared among threads.
 * Memory    8 bytes for each token, from the caller's workspace if there is one, else allocated
 *           for the call.
 * Returns   SMX_OK, or SMX_ERROR_NULL, _SIZE, _DTYPE, _SHAPE, _VALUE (a length or, with its place,
 *           a token out of range; a negative temperature), _OVERLAP, _OVERFLOW, _ISA, _THREADS,
 *           _MEMORY. */

/* Zero everything but size: that is the default. */
typedef struct smx_sequence_options {
  size_t size;                       /* sizeof(smx_sequence_options) */
  const smx_tensor *lengths;         /* NULL: L for all; int32 or int64 from 0 to L */
  const smx_tensor *temperature;     /* as in smx_softmax_options, one for each row of logits */
  const smx_tensor *mask;            /* NULL, or bool that broadcasts to logits; true takes part */
  const smx_tensor *token_log_probs; /* NULL, or where to write them: float64 for float64 logits,
                                        else float32 */
  int32_t normalize;                 /* not 0: divide by the length */
  void *workspace;                   /* NULL, or smx_sequence_log_prob_workspace_size bytes,
                                        aligned to 64 */
  size_t workspace_size;
} smx_sequence_options;

/* tokens is int32 or int64, out float64. options may be NULL. */
smx_status smx_sequence_log_prob(const smx_tensor *logits, const smx_tensor *tokens,
                                 const smx_tensor *out, const smx_sequence_options *options);
smx_status smx_sequence_log_prob_workspace_size(const smx_tensor *logits, const smx_tensor *tokens,
                                                const smx_tensor *out,
                                                const smx_sequence_options *options, size_t *size);

/* -- log-probability of a ranking -----------------------------------------------------------------
 *
 *   out = sum over places i of  scores[ranking[i]] - logsumexp of the scores of all items not in
 *   ranking[:i]
 *
 * the Plackett–Luce model: each place is a softmax choice among the items that are left (Plackett
 * 1975, The Analysis of Permutations). A ranking may be of all items, or of the first k places.
 *
 * Shapes    scores is (..., n), ranking (..., k) with k <= n, out (...). A ranking of no places
 *           gives 0, but for NaN.
 * Strides   Any, for every operand.
 * Aliasing  out must not overlap scores or ranking.
 * Special   NaN or +inf among the scores gives NaN. An item of -inf is never chosen while another
 *           is left: a ranking that has it earlier gives -inf; the last item left is certain
 *           whatever its score; a choice among several of -inf alone gives NaN.
 * Accuracy  The sum runs from the last place to the first, in float64, its largest term kept apart:
 *           relative error below (n + 4) · 2^-52, also where every place is nearly certain. O(n)
 *           for each ranking.
 * Threads   Rankings are shared among threads.
 * Memory    16 bytes for each item and thread, from the caller's workspace if there is one, else
 *           allocated for the call.
 * Returns   SMX_OK, or SMX_ERROR_NULL, _SIZE, _DTYPE, _SHAPE, _VALUE (with its place, an item out
 *           of range or ranked twice), _OVERLAP, _OVERFLOW, _ISA, _THREADS, _MEMORY. */

typedef struct smx_plackett_luce_options {
  size_t size;     /* sizeof(smx_plackett_luce_options) */
  void *workspace; /* NULL, or smx_plackett_luce_log_prob_workspace_size bytes, aligned to 64 */
  size_t workspace_size;
} smx_plackett_luce_options;

/* scores of any float dtype, ranking int32 or int64, out float64. options may be NULL. */
smx_status smx_plackett_luce_log_prob(const smx_tensor *scores, const smx_tensor *ranking,
                                      const smx_tensor *out,
                                      const smx_plackett_luce_options *options);
smx_status smx_plackett_luce_log_prob_workspace_size(const smx_tensor *scores,
                                                     const smx_tensor *ranking,
                                                     const smx_tensor *out,
                                                     const smx_plackett_luce_options *options,
                                                     size_t *size);

/* -- calibration ----------------------------------------------------------------------------------
 * A classifier is calibrated when of all answers that it gives with confidence 0.8, 80 % are right.
 * The answer to a row is its largest element (the first of equals), the confidence that element's
 * probability.
 *
 *   expected_error = sum over bins of (rows in the bin / all rows) · |accuracy - confidence| of the
 *   bin
 *
 * with bins of equal width, bin b holding the confidences above b / bins up to (b + 1) / bins: the
 * expected calibration error of Guo, Pleiss, Sun and Weinberger 2017, On Calibration of Modern
 * Neural Networks.
 *
 * smx_fit_temperature finds the one number that repairs most of what training leaves (section 4.2
 * there),
 *
 *   T = argmin of the mean over rows of  -log softmax(logits / T)[label]
 *
 * without changing an answer. In 1/T the mean is convex, in T it need not be; so it is minimised
 * over 1/T, by Newton's method with both derivatives exact, E[x] - x[label] and Var[x] under
 * softmax(logits / T), inside a bracket that always holds the minimum. It always ends, usually
 * after 5 to 10 passes over the logits.
 *
 * Where there is no finite minimum a bound is the answer, and `bound` says which: if every label is
 * its row's largest logit the likelihood grows for T -> 0, and T is `lowest`; if the labels are no
 * likelier than chance it grows for T -> inf, and T is `highest`. If it does not depend on T at all
 * (rows of equal logits; rows so certain at T = 1 that their derivatives are 0), T is the number
 * nearest to 1.
 *
 * Shapes    logits is (..., n), labels (...), neither empty.
 * Strides   Any.
 * Special   NaN, +inf, or -inf for a row's label is an error that names the row. Other logits may
 *           be -inf.
 * Accuracy  Everything is computed in float64, whatever the dtype of the logits: loss and
 *           confidence to (n + 16) · 2^-52, the temperature to about 2^-40. The same numbers in
 *           float32 and float64 give the same bits.
 * Threads   Rows are shared among threads.
 * Memory    56 bytes for each row, 24 for each bin, 16 KB, from the caller's workspace if there is
 *           one, else allocated for the call.
 * Aliasing  The workspace must not overlap logits or labels, nor, which is not looked at, a result
 *           or its arrays.
 * Returns   SMX_OK, or SMX_ERROR_NULL, _SIZE, _DTYPE, _SHAPE, _VALUE, _OVERLAP, _OVERFLOW, _ISA,
 *           _THREADS, _MEMORY; then no result has been written, nor an array of it. */

/* What rows come to at one temperature. The arrays are the caller's; each may be NULL. */
typedef struct smx_calibration {
  size_t size;           /* sizeof(smx_calibration), given */
  double *edges;         /* bins + 1 numbers: the reliability diagram */
  int64_t *counts;       /* rows in each of the bins */
  double *confidences;   /* their mean confidence, 0 where there is none */
  double *accuracies;    /* how many of them are right, as a share, 0 where there is none */
  double expected_error;
  double loss;           /* mean of -log p[label], in nats */
  double accuracy;       /* share of right answers */
  double confidence;     /* mean confidence */
} smx_calibration;

/* Zero everything but size: that is the default. */
typedef struct smx_calibration_options {
  size_t size;           /* sizeof(smx_calibration_options) */
  double temperature;    /* positive; 0: 1 */
  int32_t bins;          /* 1 to 2^20; 0: 15 */
  int32_t probabilities; /* not 0: logits holds probabilities, which are taken as they are, at no
                            temperature; a loss
                            is inf where a label's is 0 */
  void *workspace;       /* NULL, or smx_calibration_error_workspace_size bytes, aligned to 64 */
  size_t workspace_size;
} smx_calibration_options;

/* labels is int32 or int64. options may be NULL. */
smx_status smx_calibration_error(const smx_tensor *logits, const smx_tensor *labels,
                                 const smx_calibration_options *options, smx_calibration *result);
smx_status smx_calibration_error_workspace_size(const smx_tensor *logits, const smx_tensor *labels,
                                                const smx_calibration_options *options,
                                                size_t *size);

/* Zero everything but size: that is the default. */
typedef struct smx_fit_options {
  size_t size;    /* sizeof(smx_fit_options) */
  double lowest;  /* the temperature is at least this; 0: 0.001 */
  double highest; /* and at most this; 0: 1000 */
  int32_t bins;   /* of both diagrams, as above */
  void *workspace; /* as above, of smx_fit_temperature_workspace_size bytes */
  size_t workspace_size;
} smx_fit_options;

typedef struct smx_temperature_fit {
  size_t size;            /* sizeof(smx_temperature_fit), given */
  double temperature;
  int32_t bound;          /* -1: `lowest`, 1: `highest`, where the likelihood still grows beyond;
                             else 0 */
  int32_t iterations;     /* passes over the logits beyond the first */
  smx_calibration before; /* at T = 1; size and arrays given */
  smx_calibration after;  /* at the temperature found */
} smx_temperature_fit;

/* labels is int32 or int64. options may be NULL. */
smx_status smx_fit_temperature(const smx_tensor *logits, const smx_tensor *labels,
                               const smx_fit_options *options, smx_temperature_fit *result);
smx_status smx_fit_temperature_workspace_size(const smx_tensor *logits, const smx_tensor *labels,
                                              const smx_fit_options *options, size_t *size);

#ifdef __cplusplus
}
#endif

#endif /* SWIFTMAX_DECODING_H */
