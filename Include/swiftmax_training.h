/* swiftmax_training.h: gradients and losses. A part of swiftmax.h, which says what holds for every function. */
#ifndef SWIFTMAX_TRAINING_H
#define SWIFTMAX_TRAINING_H

#include "swiftmax.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -- gradients -------------------------------------------------------------------------------------------
 *
 *   softmax_vjp      y = softmax(x / T)        dx = y · (dy - sum of y · dy) / T
 *   softmax_jvp      the same y                dy = y · (dx - sum of y · dx) / T
 *   log_softmax_vjp  y = log_softmax(x / T)    dx = (dy - exp(y) · sum of dy) / T
 *   logsumexp_vjp    y = logsumexp(x)          dx = dy · softmax(x), computed as such, not as exp(x - y)
 *
 * where sums take the visible elements of a row. A vjp takes a gradient by the results, dy, to that by the scores, dx
 * (reverse mode); the jvp takes a change of the scores to that of the results (forward mode). The Jacobian of softmax
 * is symmetric, so both are one function of y and another tensor, and smx_softmax_jvp differs in its names alone.
 * The definitions are those of PyTorch's derivatives.yaml (_softmax_backward_data, _log_softmax_backward_data) and of
 * JAX's jax.nn.
 *
 * The options are those of the forward call, so that one struct serves both. A bias shows in y and is not read, but by
 * logsumexp_vjp.
 *
 * Shapes    dy and dx have the shape of y; for logsumexp_vjp that of x, and dy has the kept axes of x, or all of them
 *           with the reduced ones 1 long. Any number of axes, any rank. All tensors have one dtype: float16, bfloat16,
 *           float32 or float64; the first two are computed in float32 and rounded once.
 * Strides   Any, for every operand.
 * Aliasing  dx may be y (x) or dy itself (same data, dtype, shape and strides). Any other overlap of dx with an input is an
 *           error where it can be told from the strides.
 * Special   A masked element has dx 0, beside anything, and neither y nor dy are used there. A row without a visible
 *           element is 0. y = 0 (log y = -inf) with the row's dy finite gives 0 (dy / T).
 *           softmax: a NaN or an infinity in a visible y or dy, or a sum beyond the range, makes dx NaN at every visible
 *           element of that row. log_softmax: likewise for dy; a NaN in y, or a y above 32, which is no logarithm of a
 *           probability, makes dx NaN at that element alone. logsumexp: a row for which softmax is NaN has dx NaN at
 *           every visible element; else NaN where dy is, or dy infinite and softmax 0. A row that a bias has closed is 0.
 *           T = 0 and T = +inf: 0 wherever dx would not be NaN for the reasons above, the limits of softmax being
 *           constant but where two elements tie. T counts as either as in smx_softmax.
 * Accuracy  From the exact values of the formula at the given y and dy, u being 2^-24 for float32 and 2^-53 for float64, and
 *           c, the error of the sum, 2^-44 and 2^-88:
 *             softmax      |error| <= 3u |dx| + c · y · (sum of |y·dy|) / T
 *             log_softmax  |error| <= 3u |dx| + (2u · exp(y) · |sum of dy| + c · exp(y) · sum of |dy|) / T
 *           with one u more where T is not 1, for rows to 2^20 and results in the normal range. So dy - sum may lose 20 (35)
 *           bits to cancellation before the sum shows; a sum of u's precision shows at the first. logsumexp: that
 *           of softmax, 2 ulp, and one rounding. float16, bfloat16: that of float32 and one rounding.
 * Threads   As softmax. No call allocates.
 * Returns   SMX_OK, or SMX_ERROR_NULL, _SIZE, _DTYPE, _SHAPE, _AXIS, _VALUE, _OVERLAP, _OVERFLOW, _ISA, _THREADS. */

/* options may be NULL: the last axis, T = 1, nothing masked. */
smx_status smx_softmax_vjp(const smx_tensor *y, const smx_tensor *dy, const smx_tensor *dx,
                           const smx_softmax_options *options);
smx_status smx_softmax_jvp(const smx_tensor *y, const smx_tensor *dx, const smx_tensor *dy,
                           const smx_softmax_options *options);
smx_status smx_log_softmax_vjp(const smx_tensor *y, const smx_tensor *dy, const smx_tensor *dx,
                               const smx_softmax_options *options);
/* options->weights and options->sign must be NULL. */
smx_status smx_logsumexp_vjp(const smx_tensor *x, const smx_tensor *dy, const smx_tensor *dx,
                             const smx_logsumexp_options *options);

/* The same for `rows` contiguous rows of `cols` elements each, of any alignment; logsumexp's dy has `rows` elements.
 * Special   rows or cols may be 0; pointers may then be NULL.
 * Returns   SMX_OK, or SMX_ERROR_NULL, _SHAPE, _OVERLAP, _OVERFLOW, _ISA, _THREADS. */
smx_status smx_softmax_vjp_f32(const float *y, const float *dy, float *dx, int64_t rows, int64_t cols);
smx_status smx_softmax_vjp_f64(const double *y, const double *dy, double *dx, int64_t rows, int64_t cols);
smx_status smx_log_softmax_vjp_f32(const float *y, const float *dy, float *dx, int64_t rows, int64_t cols);
smx_status smx_log_softmax_vjp_f64(const double *y, const double *dy, double *dx, int64_t rows, int64_t cols);
smx_status smx_logsumexp_vjp_f32(const float *x, const float *dy, float *dx, int64_t rows, int64_t cols);
smx_status smx_logsumexp_vjp_f64(const double *x, const double *dy, double *dx, int64_t rows, int64_t cols);

/* The Jacobian of softmax, a matrix for each row:
 *
 *   out[..., i, j] = d y_i / d x_j = p_i · (δij - p_j) / T = (diag(p) - p pᵀ)[i, j] / T,    p = softmax(x / T)
 *
 * Shapes    out has the kept axes of p and behind them n and n, n being the length of a row (for several reduced axes
 *           their flattening in C order). Its dtype is that of p.
 * Strides   Any, for both.
 * Aliasing  out must not overlap p.
 * Special   A masked element's line and column are 0. A NaN at i makes NaN of line and column i, but for masked elements.
 *           T = 0 and T = +inf: 0 where p is finite.
 * Accuracy  Each entry to 3u of itself in the normal range; float16 and bfloat16 one rounding more.
 * Returns   As above. options as above; its bias is not read. */
smx_status smx_softmax_jacobian(const smx_tensor *p, const smx_tensor *out, const smx_softmax_options *options);

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
 *           mean and sum are 0. Logits are taken to be below 2^20 in magnitude, or infinite: -inf through the bias shuts a class
 *           out, and is +inf as the target's loss. A NaN makes NaN what depends on it.
 * Accuracy  float32: of a logit, the sum's: chains of 128 products, added in order. Of lse, that and a relative error of the
 *           sum of 2^-20 as an absolute one.
 * Threads   By spans of 2048 classes.
 * Memory    At most 64 MB and what one group of 48 tokens needs (about 48 · V numbers), for the call; and V · D numbers where
 *           d_weight is not contiguous float32 or float64 rows of whole vectors (16 or 8 numbers).
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
