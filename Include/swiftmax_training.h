/* swiftmax_training.h: gradients and losses. A part of swiftmax.h, which says what holds for every
 * function. */
#ifndef SWIFTMAX_TRAINING_H
#define SWIFTMAX_TRAINING_H

#include "swiftmax.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -- gradients ------------------------------------------------------------------------------------
 *
 *   softmax_vjp      y = softmax(x / T)        dx = y · (dy - sum of y · dy) / T
 *   softmax_jvp      the same y                dy = y · (dx - sum of y · dx) / T
 *   log_softmax_vjp  y = log_softmax(x / T)    dx = (dy - exp(y) · sum of dy) / T
 *   logsumexp_vjp    y = logsumexp(x)          dx = dy · softmax(x), not computed as exp(x - y)
 *
 * where sums take the visible elements of a row. A vjp takes a gradient by the results, dy, to that
 * by the scores, dx (reverse mode); the jvp takes a change of the scores to that of the results
 * (forward mode). The Jacobian of softmax is symmetric, so both are one function of y and another
 * tensor, and smx_softmax_jvp differs in its names alone. The definitions are those of PyTorch's
 * derivatives.yaml (_softmax_backward_data, _log_softmax_backward_data) and of JAX's jax.nn.
 *
 * The options are those of the forward call, so that one struct serves both. A bias shows in y and
 * is not read, but by logsumexp_vjp.
 *
 * Shapes    dy and dx have the shape of y; for logsumexp_vjp that of x, and dy has the kept axes of
 *           x, or all of them with the reduced ones 1 long. Any number of axes, any rank. All
 *           tensors have one dtype: float16, bfloat16, float32 or float64; the first two are
 *           computed in float32 and rounded once.
 * Strides   Any, for every operand.
 * Aliasing  dx may be y (x) or dy itself (same data, dtype, shape and strides), but not the dy of
 *           logsumexp_vjp. Any other overlap of dx with an input is an error where it can be told
 *           from the strides (smx_softmax).
 * Special   A masked element has dx 0, beside anything, and neither y nor dy are used there. A row
 *           without a visible element is 0. y = 0 (log y = -inf) with the row's dy finite gives 0
 *           (dy / T). softmax: a NaN or an infinity in a visible y or dy, or a sum beyond the range
 *           of float64, makes dx NaN at every visible element of that row. log_softmax: likewise
 *           for dy; a NaN in y, or a y above 32, which is no logarithm of a probability, makes dx
 *           NaN at that element alone. logsumexp: a row for which softmax is NaN has dx NaN at
 *           every visible element; else NaN where dy is, or dy infinite and softmax 0. A row that a
 *           bias has closed is 0. T = 0 and T = +inf: 0 wherever dx would not be NaN for the
 *           reasons above, the limits of softmax being constant but where two elements tie. T
 *           counts as either as in smx_softmax.
 * Accuracy  From the exact values of the formula at the given y and dy, u being 2^-24 for float32
 *           and 2^-53 for float64, and c, the error of the sum, 2^-44 and 2^-88:
 *             softmax      |error| <= 3u |dx| + c · y · (sum of |y·dy|) / T
 *             log_softmax  |error| <= 3u |dx|
 *                                     + (2u · exp(y) · |sum of dy| + c · exp(y) · sum of |dy|) / T
 *           with one u more where T is not 1, for rows to 2^20 and results in the normal range, of
 *           float64 results times T, too; for log_softmax where exp(y), too, is normal, that is y
 *           above about -87 (-708): below, exp(y) is rounded to a multiple of 2^-149 (2^-1074), and
 *           the sum multiplies that error. So dy - sum may lose 20 (35) bits to cancellation before
 *           the sum shows; a sum of u's precision shows at the first. logsumexp: that of softmax, 2
 *           ulp, and one rounding. float16, bfloat16: that of float32 and one rounding.
 * Threads   As softmax. No call allocates.
 * Returns   SMX_OK, or SMX_ERROR_NULL, _SIZE, _DTYPE, _SHAPE, _AXIS, _VALUE, _OVERLAP, _OVERFLOW,
 *           _ISA, _THREADS. */

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

/* The same for `rows` contiguous rows of `cols` elements each, of any alignment; logsumexp's dy has
 * `rows` elements.
 * Special   rows or cols may be 0; pointers may then be NULL.
 * Returns   SMX_OK, or SMX_ERROR_NULL, _SHAPE, _OVERLAP, _OVERFLOW, _ISA, _THREADS. */
smx_status smx_softmax_vjp_f32(const float *y, const float *dy, float *dx, int64_t rows,
                               int64_t cols);
smx_status smx_softmax_vjp_f64(const double *y, const double *dy, double *dx, int64_t rows,
                               int64_t cols);
smx_status smx_log_softmax_vjp_f32(const float *y, const float *dy, float *dx, int64_t rows,
                                   int64_t cols);
smx_status smx_log_softmax_vjp_f64(const double *y, const double *dy, double *dx, int64_t rows,
                                   int64_t cols);
smx_status smx_logsumexp_vjp_f32(const float *x, const float *dy, float *dx, int64_t rows,
                                 int64_t cols);
smx_status smx_logsumexp_vjp_f64(const double *x, const double *dy, double *dx, int64_t rows,
                                 int64_t cols);

/* The Jacobian of softmax, a matrix for each row:
 *
 *   out[..., i, j] = d y_i / d x_j = p_i · (δij - p_j) / T = (diag(p) - p pᵀ)[i, j] / T
 *
 * with p = softmax(x / T).
 *
 * Shapes    out has the kept axes of p and behind them n and n, n being the length of a row (for
 *           several reduced axes their flattening in C order). Its dtype is that of p.
 * Strides   Any, for both.
 * Aliasing  out must not overlap p.
 * Special   A masked element's line and column are 0. A NaN at i makes NaN of line and column i,
 *           but for masked elements. T = 0 and T = +inf: 0 where p is finite.
 * Accuracy  Each entry to 3u of itself in the normal range; float16 and bfloat16 one rounding more.
 * Returns   As above. options as above; its bias is not read. */
smx_status smx_softmax_jacobian(const smx_tensor *p, const smx_tensor *out,
                                const smx_softmax_options *options);

/* What becomes of the losses of single rows. */
typedef int32_t smx_reduction;
enum {
  SMX_MEAN = 0, /* their sum over the number (or the weight) of those that are not ignored */
  SMX_SUM = 1,
  SMX_NONE = 2  /* each is returned */
};

/* -- linear_cross_entropy -------------------------------------------------------------------------
 *
 *   logits[i] = weight · hidden[i] + bias
 *   loss[i]   = (1 - s) · (lse[i] - logits[i][target[i]]) + s · (lse[i] - mean of logits[i])
 *               + z · lse[i]²
 *
 * with lse[i] = logsumexp(logits[i]), s the label smoothing and z the weight of the z-loss; and the
 * gradients of the reduced loss. The logits, tokens × classes, are never stored as a whole: groups
 * of tokens have theirs in the workspace, one after the other.
 *
 * Shapes    hidden (N, D), weight (V, D), targets (N) of int32 or int64; loss () for SMX_MEAN and
 *           SMX_SUM, (N) for SMX_NONE; lse (N), d_hidden (N, D), d_weight (V, D), d_bias (V).
 * Dtypes    hidden, weight, bias and their gradients have one dtype, float16, bfloat16, float32 or
 *           float64, d_bias aside, which is float32 (float64 for float64) as loss and lse are.
 * Strides   Any.
 * Aliasing  No output may overlap an input or another output, nor the workspace any of them.
 * Special   A token whose target is ignore_index has loss 0, lse 0, gradient 0, and its hidden
 *           state is not read. All ignored: mean and sum are 0, and so are all gradients, whatever
 *           the weights. Logits are taken to be below 2^20 in magnitude, or -inf: that, through the
 *           bias, shuts a class out, and is +inf as the target's loss or, smoothed, as any loss. A
 *           NaN, or a logit of +inf, makes NaN what depends on it. A probability below 2^-100
 *           (2^-960) counts as 0 in the gradients.
 * Accuracy  float32: of a logit, the sum's: chains of 128 products, added in order. Of lse, that
 *           and a relative error of the sum of 2^-20 as an absolute one. A loss below 1 comes from
 *           the distances of the other logits to the target's: relative to itself its error is
 *           theirs and 2^-18, however small it is.
 * Threads   By spans of 2048 classes.
 * Memory    Of T tokens worked on together, 192, or as many 48s as leave their logits within 32 MB,
 *           but at least 48: T · V numbers, and T · D for each 2048 classes if d_hidden is given;
 *           V · D where d_weight is not contiguous float32 or float64 rows of whole vectors (16 or
 *           8 numbers); and little else. The length N adds 8 bytes a token. From the caller's
 *           workspace if there is one, else allocated for the call, in one piece.
 * Returns   SMX_OK, or SMX_ERROR_NULL, _SIZE, _DTYPE, _SHAPE, _VALUE (a target out of range),
 *           _OVERLAP, _OVERFLOW, _ISA, _THREADS, _MEMORY.
 * Source    Wijmans et al., Cut Your Losses in Large-Vocabulary Language Models, 2024, has the
 *           idea. */
typedef struct smx_linear_cross_entropy_options {
  size_t size;                /* sizeof(smx_linear_cross_entropy_options) */
  const smx_tensor *bias;     /* NULL, or (V) */
  smx_reduction reduction;
  int32_t has_ignore_index;   /* not 0: ignore_index is used, else it is -100 */
  int64_t ignore_index;
  double label_smoothing;     /* 0 to 1 */
  double z_loss;              /* 0 or more, finite */
  double grad_scale;          /* 0: 1; else the derivative of what the gradients are of by the
                                 reduced loss, finite */
  const smx_tensor *lse;      /* each NULL where it is not wanted */
  const smx_tensor *d_hidden; /* with SMX_NONE the gradients are those of the sum */
  const smx_tensor *d_weight;
  const smx_tensor *d_bias;
  void *workspace;            /* NULL, or smx_linear_cross_entropy_workspace_size bytes, aligned to
                                 64 */
  size_t workspace_size;
} smx_linear_cross_entropy_options;

/* options may be NULL: the mean alone. */
smx_status smx_linear_cross_entropy(const smx_tensor *hidden, const smx_tensor *weight,
                                    const smx_tensor *targets, const smx_tensor *loss,
                                    const smx_linear_cross_entropy_options *options);

/* How many bytes of workspace the same call needs to allocate nothing, for the threads that it
 * would use now. */
smx_status smx_linear_cross_entropy_workspace_size(const smx_tensor *hidden,
                                                   const smx_tensor *weight,
                                                   const smx_tensor *targets,
                                                   const smx_tensor *loss,
                                                   const smx_linear_cross_entropy_options *options,
                                                   size_t *size);

/* -- cross-entropy --------------------------------------------------------------------------------
 *
 *   p      = softmax(logits / T) over the classes of a row
 *   loss   = sum over classes k of c_k · (-log p_k)  +  z_loss · lse²,       c_k = weight_k · y_k
 *   lse    = logsumexp(logits / T)
 *   grad   = d (loss after reduction) / d logits, times grad_scale; for one row
 *            ((sum of c + 2·z_loss·lse) · p_j - c_j) / T, which for one class, no weights and T = 1
 *            is p - y
 *
 * A row is all logits that differ only along the class axis, K of them. y is the row's target: 1 at
 * its class, or its probabilities; with label smoothing e it is (1 - e)·y + e/K. All as
 * torch.nn.functional.cross_entropy has them; z_loss is PaLM's (Chowdhery et al. 2022, 5), which is
 * not weighted. What is divided by T is the difference to the maximum, as in softmax.
 *
 * Reduction with L_i the rows' losses:
 *   SMX_MEAN  sum of L_i / sum of weight[target_i] over the rows that are not ignored (their
 *             number without weights);
 *             with probabilities as targets, sum of L_i / number of rows, whatever the weights.
 *             Where no row counts, 0 (torch: NaN), and the gradient too.
 *   SMX_SUM   sum of L_i; 0 where no row counts.
 *   SMX_NONE  L_i, and 0 for an ignored row.
 *
 * Shapes    logits any rank from 1. targets: int32 or int64, the shape of logits without the class
 *           axis; or probabilities of the shape of logits, of logits' dtype or float32 beside
 *           narrow logits; they need not have the sum 1. loss: no axis, or with SMX_NONE the shape
 *           of logits without the class axis, which is lse's too. weight: (K). mask broadcasts to
 *           logits, grad_scale to the rows. grad: as logits.
 * Dtypes    loss, lse, weight and grad_scale: float64 for float64 logits, else float32. grad: as
 *           logits.
 * Strides   Any. The class axis last and contiguous is fast; for other layouts rows go through
 *           scratch.
 * Aliasing  grad may be logits itself; no other output may overlap an input or another output.
 * Special   Ignored rows (target == ignore_index): loss 0, gradient 0, nothing in a mean; lse is
 *           theirs all the same. A hidden class (mask false) has p 0, gradient 0 and no share of
 *           the smoothing, whose K counts visible classes. Where the target asks for a hidden
 *           class, or for one of logit -inf, the loss is +inf; 0 · log 0 is 0. Of a hidden class
 *           the logit is not used; a probability there is. A NaN in a row, +inf, or nothing but
 *           -inf: loss and gradient NaN, lse as logsumexp. A row with all classes hidden: lse -inf,
 *           gradient 0.
 * Accuracy  float32 and narrower: loss of a row with one class, neither smoothing nor z_loss, 2
 *           ulp, for any offset common to the logits and however small the loss; lse 1 ulp of the
 *           larger of |lse| and |max| / T at T = 1, 2 at others. Gradient: 4 ulp of each of its
 *           terms, those of c, z_loss and the target, and at a row's one class of the difference.
 *           float64: loss likewise at T = 1 without weights, 3 ulp otherwise; lse 2 ulp; gradient
 *           6 ulp, 7 with weights. z_loss's term has lse's own error besides, times 2·z_loss·p / T:
 *           where lse is near 0 that may be many ulp of it. With smoothing or probabilities the
 *           sums over the classes add K·2^-53 of their terms. Sums over rows are made in float64
 *           and rounded once.
 * Bits      The order of the sums over classes and rows is in docs/numerics.md. One class as an
 *           index and as a row of probabilities give the same loss and lse; the gradient at that
 *           class may differ in its last place.
 * Threads   Rows are shared among threads.
 * Memory    None is allocated.
 * Returns   SMX_OK, or SMX_ERROR_NULL, _SIZE, _DTYPE, _SHAPE, _AXIS, _VALUE (a target that is no
 *           class: its row and value are named), _OVERLAP, _OVERFLOW, _ISA, _THREADS. */

/* Zero everything but size: that is the default. */
typedef struct smx_cross_entropy_options {
  size_t size;                  /* sizeof(smx_cross_entropy_options) */
  const int32_t *axis;          /* the class axis, negative from the end; NULL: the last one */
  smx_reduction reduction;
  int32_t has_ignore_index;     /* not 0: ignore_index is used, else it is -100 */
  int64_t ignore_index;         /* with probabilities as targets it must not be a class, and nothing
                                   is ignored */
  double temperature;           /* 0: 1 (not the limit of smx_softmax). From 2^-126 to 2^126 */
  double label_smoothing;       /* 0 to 1 */
  double z_loss;                /* 0 or more */
  const smx_tensor *weight;     /* each NULL for none */
  const smx_tensor *mask;       /* bool, true takes part */
  const smx_tensor *grad_scale; /* the gradient of what follows, one number or one for each row */
  const smx_tensor *lse;        /* outputs */
  const smx_tensor *grad;
} smx_cross_entropy_options;

/* options may be NULL. */
smx_status smx_cross_entropy(const smx_tensor *logits, const smx_tensor *targets,
                             const smx_tensor *loss, const smx_cross_entropy_options *options);

/* The same of log-probabilities, which are taken as they are: loss = sum of c_k · (-log_probs_k),
 * as torch.nn.functional.nll_loss. It takes the options axis, ignore_index, reduction,
 * label_smoothing and weight; SMX_ERROR_VALUE where another one is set. */
smx_status smx_nll(const smx_tensor *log_probs, const smx_tensor *targets, const smx_tensor *loss,
                   const smx_cross_entropy_options *options);

/* exp of the mean cross-entropy; out has no axis and the dtype of a loss. Of the options axis,
 * ignore_index, temperature, weight and mask are used; SMX_ERROR_VALUE where another one is set. 1
 * where no row counts. Accuracy: exp multiplies the mean's relative error, 2^-53, by the mean;
 * rounded once. */
smx_status smx_perplexity(const smx_tensor *logits, const smx_tensor *targets,
                          const smx_tensor *out, const smx_cross_entropy_options *options);

/* -- entropy and divergence -----------------------------------------------------------------------
 *
 *   smx_entropy        out = -sum of p · log p
 *   smx_kl_divergence  out = sum of p · (log p - log q)         (Kullback and Leibler 1951)
 *
 * over a row along one axis, in natural units. Each operand is a row of probabilities, divided by
 * their sum as scipy.stats.entropy does, or of logits, p = softmax(logits). Both are at least 0; of
 * a row with itself the divergence is exactly 0. out divided by log 2 is in bits. The sum of the
 * divergences by the length of p's first axis is torch's "batchmean"; for p of two axes and rows
 * along the last that is their mean.
 *
 * Shapes    p and q of the same shape, any rank from 1; out that shape without the axis.
 * Dtypes    p and q of one float dtype; out float64 for float64, else float32.
 * Strides   Any, for every operand. Aliasing: out must not overlap p or q.
 * Special   0 · log 0 is 0. A divergence is +inf where q is 0 and p is not. NaN: a NaN or a
 *           negative probability, a row of sum 0 or with inf, logits with +inf or nothing but -inf,
 *           an axis of length 0. Of the numbers of one row that lie more than about 2^2000 apart,
 *           the smallest count as 0.
 * Accuracy  Computed in float64 from the operands as they are and rounded once: an error of about
 *           2^-50 of the sum of the terms' magnitudes, which for near rows the divergence may be
 *           small against. Terms are p · log p and p · log q; of probabilities those of the numbers
 *           as given, over their sum P, and log P (log Q). Of logits x - max is rounded besides, by
 *           half an ulp of its own; p has that as a relative error, up to 2^-43 where it is
 *           smallest.
 * Bits      The order is in docs/numerics.md. Threads: rows are shared. Memory: none is allocated.
 * Returns   SMX_OK, or SMX_ERROR_NULL, _SIZE, _DTYPE, _SHAPE, _AXIS, _OVERLAP, _OVERFLOW, _ISA,
 *           _THREADS. */

typedef struct smx_divergence_options {
  size_t size;         /* sizeof(smx_divergence_options) */
  const int32_t *axis; /* NULL: the last one */
  int32_t p_is_logits; /* not 0: p holds logits */
  int32_t q_is_logits;
} smx_divergence_options;

/* options may be NULL; q_is_logits is of no account to entropy. */
smx_status smx_entropy(const smx_tensor *p, const smx_tensor *out,
                       const smx_divergence_options *options);
smx_status smx_kl_divergence(const smx_tensor *p, const smx_tensor *q, const smx_tensor *out,
                             const smx_divergence_options *options);

#ifdef __cplusplus
}
#endif

#endif /* SWIFTMAX_TRAINING_H */
