/* Scoring and calibration as the kernels see them. The ABI has validated everything. */
#ifndef SMXK_SCORING_H
#define SMXK_SCORING_H

#include "../../../Include/swiftmax.h"

struct smxk_job;

/* Operations on each element by itself: a job whose axes are all reduced, worked on by chunks. */
enum { SMXK_SIGMOID = 32, SMXK_LOG_SIGMOID = 33 };

/* What one row of logits x comes to at an inverse temperature b, with y = b·(x - max x) and p =
 * softmax(b·x). */
typedef struct smxk_judgement {
  int64_t label;     /* given */
  double distance;   /* x[label] - max x */
  double loss;       /* -log p[label]; NaN for a row with NaN, +inf or -inf alone */
  double slope;      /* b times the derivative of the loss by b: E_p[y] - y[label] */
  double curvature;  /* b² times the second derivative: Var_p[y] */
  double confidence; /* the largest p */
  int64_t is_right;  /* the label is the first place of the maximum */
} smxk_judgement;

typedef struct smxk_calibration {
  const struct smxk_job *_Null_unspecified job;  /* where the rows lie */
  double inverse;              /* b */
  int32_t are_probabilities;   /* the rows are p already: loss, confidence and is_right alone */
  int32_t is_first;            /* distance and is_right are wanted */
  smxk_judgement *_Null_unspecified judgements; /* one for each row */
} smxk_calibration;

/* Swift has no addresses of members. */
static inline smx_calibration *_Nonnull smxk_before_of(smx_temperature_fit *_Nonnull f) {
  return &f->before;
}
static inline smx_calibration *_Nonnull smxk_after_of(smx_temperature_fit *_Nonnull f) {
  return &f->after;
}

#endif
