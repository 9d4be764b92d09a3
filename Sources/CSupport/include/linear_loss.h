/* Cross-entropy of a linear layer's logits as the kernels see it. The ABI has validated
 * everything. */
#ifndef SMXK_LINEAR_LOSS_H
#define SMXK_LINEAR_LOSS_H

#include "attention_vjp.h"

/* Classes of a block, of a span of blocks whose sums begin anew, and columns of a piece of an inner
 * product. Tokens go in blocks of SMXK_QUERY_BLOCK. Part of the bits contract
 * (docs/training.md). */
enum { SMXK_CLASS_BLOCK = 128, SMXK_CLASS_SPAN = 2048, SMXK_COLUMN_BLOCK = 128 };

/* What a task does: turn a block of tokens; logits of a span of classes, for all tokens of the
 * group; losses of a block of tokens; gradients of a span of classes, and its part of those of the
 * tokens; these, of a block of tokens. */
typedef intptr_t smxk_loss_phase; /* intptr_t: Swift sees enumerators as Int */
enum { SMXK_LOSS_TURN, SMXK_LOSS_LOGITS, SMXK_LOSS_ROWS, SMXK_LOSS_CLASSES, SMXK_LOSS_TOKENS };

/* A matrix, byte strides. */
typedef struct smxk_matrix {
  char *data; /* NULL where it is absent */
  int64_t row, column;
} smxk_matrix;

/* What each token of the group has come to, a row of the group's tokens each: lse·log2(e) in two
 * parts, and what its weights and its target count in the gradient. */
enum { SMXK_LOSS_HIGH, SMXK_LOSS_LOW, SMXK_LOSS_WEIGHT, SMXK_LOSS_TARGET, SMXK_LOSS_STATES };

/* Of a span, for each token: exponent, sum of the weights, sum of the logits. */
enum { SMXK_SPAN_EXPONENT, SMXK_SPAN_WEIGHT, SMXK_SPAN_LOGITS, SMXK_SPAN_STATES };

typedef struct smxk_linear_loss {
  smx_dtype dtype, target_dtype;
  int64_t tokens, columns, classes;
  smxk_matrix hidden, weight, bias; /* bias: column is the stride along the classes */
  smxk_matrix targets;              /* row is the stride along the tokens */
  smxk_matrix d_hidden, d_weight, d_bias;
  int64_t ignore_index;
  double label_smoothing, z_loss;
  double factor;                    /* of each token in the gradients */
  double *losses;                   /* each token's, before reduction */
  smxk_matrix lse;
  /* The plan. */
  smxk_loss_phase phase;
  int32_t is_weight_direct;         /* used in place: rows of numbers of the lanes' own type */
  int32_t is_gradient_direct;       /* the weight's gradients are summed where they stand */
  int64_t gradient_pitch;
  int64_t group_tokens;             /* tokens worked on together: whole blocks */
  int64_t first, count;             /* of the group under way */
  int64_t span_count;
  /* Rooms, numbers of the lanes' type unless said. */
  char *logits;                     /* block of tokens, class, token */
  char *turned;                     /* block, tile, column, lane */
  char *panels;                     /* block, the tokens' rows in panels */
  char *states;                     /* SMXK_LOSS_STATES × group_tokens */
  char *spans;                      /* span, SMXK_SPAN_STATES × group_tokens */
  char *parts;                      /* span, block, tile, column, lane: parts of the tokens'
                                       gradients */
  char *sums;                       /* classes × gradient_pitch, where they are not direct */
  char *own;                        /* of each thread, own_bytes: a block of classes, and a vector
                                       of rows */
  int64_t own_bytes, padded;        /* columns, in whole vectors */
} smxk_linear_loss;

#endif
