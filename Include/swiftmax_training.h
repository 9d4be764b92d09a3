/* swiftmax_training.h: gradients and losses. A part of swiftmax.h, which says what holds for every function. */
#ifndef SWIFTMAX_TRAINING_H
#define SWIFTMAX_TRAINING_H

#include "swiftmax.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What becomes of the losses of single rows. */
typedef int32_t smx_reduction;
enum {
  SMX_MEAN = 0, /* their sum over the number (or the weight) of those that are not ignored */
  SMX_SUM = 1,
  SMX_NONE = 2  /* each is returned */
};

/* -- linear_cross_entropy ----------------------------------------------------------------------------------
 *
 *   logits[i] = weight · hidden[i] + bias
 *   loss[i]   = (1 - s) · (lse[i] - logits[i][target[i]]) + s · (lse[i] - mean of logits[i]) + z · lse[i]²
 *
 * with lse[i] = logsumexp(logits[i]), s the label smoothing and z the weight of the z-loss; and the gradients of the reduced
 * loss. The logits, tokens × classes, are never stored as a whole: groups of tokens have theirs in the workspace, one after
 * the other.
 *
 * Shapes    hidden (N, D), weight (V, D), targets (N) of int32 or int64; loss () for SMX_MEAN and SMX_SUM, (N) for SMX_NONE;
 *           lse (N), d_hidden (N, D), d_weight (V, D), d_bias (V).
 * Dtypes    hidden, weight, bias and their gradients have one dtype, float16, bfloat16, float32 or float64, d_bias aside, which
 *           is float32 (float64 for float64) as loss and lse are.
 * Strides   Any.
 * Aliasing  No output may overlap an input or another output.
 * Special   A token whose target is ignore_index has loss 0, lse 0, gradient 0, and its hidden state is not read. All ignored:
 *           mean and sum are 0, and so are all gradients, whatever the weights. Logits are taken to be below 2^20 in
 *           magnitude, or -inf: that, through the bias, shuts a class out, and is +inf as the target's loss or, smoothed, as
 *           any loss. A NaN, or a logit of +inf, makes NaN what depends on it.
 * Accuracy  float32: of a logit, the sum's: chains of 128 products, added in order. Of lse, that and a relative error of the
 *           sum of 2^-20 as an absolute one.
 * Threads   By spans of 2048 classes.
 * Memory    For the call, in one piece. Of T tokens worked on together, 192, or as many 48s as leave their logits within
 *           32 MB, but at least 48: T · V numbers, and T · D for each 2048 classes if d_hidden is given; V · D where d_weight is
 *           not contiguous float32 or float64 rows of whole vectors (16 or 8 numbers); and little else. The length N adds 8
 *           bytes a token.
 * Returns   SMX_OK, or SMX_ERROR_NULL, _SIZE, _DTYPE, _SHAPE, _VALUE (a target out of range), _OVERLAP, _OVERFLOW, _ISA,
 *           _THREADS, _MEMORY.
 * Source    Wijmans et al., Cut Your Losses in Large-Vocabulary Language Models, 2024, has the idea. */
typedef struct smx_linear_cross_entropy_options {
  size_t size;                /* sizeof(smx_linear_cross_entropy_options) */
  const smx_tensor *bias;     /* NULL, or (V) */
  smx_reduction reduction;
  int32_t has_ignore_index;   /* not 0: ignore_index counts, else it is -100 */
  int64_t ignore_index;
  double label_smoothing;     /* 0 to 1 */
  double z_loss;              /* 0 or more, finite */
  double grad_scale;          /* 0: 1; else the derivative of what the gradients are of by the reduced loss, finite */
  const smx_tensor *lse;      /* each NULL where it is not wanted */
  const smx_tensor *d_hidden; /* with SMX_NONE the gradients are those of the sum */
  const smx_tensor *d_weight;
  const smx_tensor *d_bias;
} smx_linear_cross_entropy_options;

/* options may be NULL: the mean alone. */
smx_status smx_linear_cross_entropy(const smx_tensor *hidden, const smx_tensor *weight, const smx_tensor *targets,
                                    const smx_tensor *loss, const smx_linear_cross_entropy_options *options);

#ifdef __cplusplus
}
#endif

#endif /* SWIFTMAX_TRAINING_H */
