/* Passes over a row that sampling is made of. The ABI has validated everything. */
#ifndef SMXK_SAMPLING_H
#define SMXK_SAMPLING_H

#include <stdint.h>

/* Elements of a row that a pass works on at a time, so that the weights of a block fit into 64
 * bits. No result depends on it: sums of weights are exact. */
enum { SMXK_BLOCK = 1024 };

/* The most elements that one step of a selection takes. */
enum { SMXK_SELECTED_AT_ONCE = 64 };

/* The most numbers that are put into their order by counting what comes before each. */
enum { SMXK_RANKED = 64 };

/* The weight of an element is 2^((x·before - base)·factor) in units of 2^-SMXK_WEIGHT_BITS, a whole
 * number; the largest element's is 2^SMXK_WEIGHT_BITS. */
enum { SMXK_WEIGHT_BITS = 52 };
typedef struct smxk_exponent {
  double before, base, factor;
} smxk_exponent;

/* Elements `at` ..< `to` of a row, of which those above the threshold go to a list. Stops where the
 * list could not take SMXK_SELECTED_AT_ONCE more. */
typedef struct smxk_selection {
  int64_t at, to;
  double threshold; /* taken is what is not <= threshold, a NaN too; a number of the lanes' type */
  int64_t count, capacity;
  double *values;
  int64_t *places;
} smxk_selection;

/* A block of a row: elements from ..< to, of which those up to the threshold are out. */
typedef struct smxk_block {
  int64_t from, to;
  double threshold;
  double hidden; /* what is written in the place of those that are out */
} smxk_block;

/* Bytes of a thread's scratch that the passes use themselves: a block's numbers, and what x + bias
 * rounded away. */
enum {
  SMXK_NUMBERS_BYTES = SMXK_BLOCK * sizeof(double),
  SMXK_ROUNDINGS_BYTES = SMXK_BLOCK * sizeof(double)
};

#endif
