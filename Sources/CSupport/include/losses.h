/* A cross-entropy, an entropy or a divergence as the kernels see it. The ABI has validated
 * everything; byte strides may be negative or zero. Included by kernels.h, which has smxk_job. */
#ifndef SMXK_LOSSES_H
#define SMXK_LOSSES_H

/* Rows are located twice, by two jobs over the same rows. */
typedef struct smxk_cross_entropy {
  smxk_job logits;          /* x: logits; out: their gradient (x again where none is wanted);
                               mask */
  smxk_job rows;            /* one place a row, x: targets; out: loss; sign: lse; bias: factor of
                               the gradient */
  int64_t is_classes;       /* targets are class numbers, not probabilities */
  smx_dtype target_dtype;
  int64_t has_grad, has_loss;
  int64_t is_log;           /* x holds log-probabilities: nothing is normalised */
  int64_t ignore_index;
  const void *weights;      /* one for each class, of the loss's dtype, or NULL */
  int64_t weights_stride;
  double temperature, smoothing, z_loss;
  double factor;            /* of every gradient: what the reduction divides by */
  smxk_partial *losses;     /* sums of 2^sum_shift rows each, those of `row` at [(row - first) >>
                               sum_shift]; or NULL */
  int64_t first, sum_shift;
} smxk_cross_entropy;

/* Entropies of rows of p, or divergences of p from q. */
typedef struct smxk_divergence {
  smxk_job p, q;            /* x; p.out: the result; q.x NULL for entropies */
  smx_dtype dtype;          /* of the result */
  int64_t p_is_logits, q_is_logits;
} smxk_divergence;

static inline const smxk_job *_Nonnull smxk_logits_of(const smxk_cross_entropy *_Nonnull j) {
  return &j->logits;
}
static inline const smxk_job *_Nonnull smxk_rows_of(const smxk_cross_entropy *_Nonnull j) {
  return &j->rows;
}
static inline const smxk_job *_Nonnull smxk_p_of(const smxk_divergence *_Nonnull j) {
  return &j->p;
}
static inline const smxk_job *_Nonnull smxk_q_of(const smxk_divergence *_Nonnull j) {
  return &j->q;
}

#endif
