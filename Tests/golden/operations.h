/* The golden check of the other operations: gradients, losses, sampling and so on, a file of cases
 * each.
 *
 * A case computes something from the generator (inputs.c) and emits its results by name. It is run
 * plainly on one thread, where each result must have the hash of operations_expected.txt, and again
 * in every variation of its own (0 is the plain one; another may be one row alone, other strides,
 * in place) on 1, 2, 3 and 7 threads, where all results must be what the plain run gave. Under an
 * emulator each variation has one of these numbers of threads, or only the plain runs of the
 * shorter cases are made. */
#ifndef GOLDEN_OPERATIONS_H
#define GOLDEN_OPERATIONS_H

#include "golden.h"

typedef struct operation_run operation_run;

typedef struct {
  const char *name;
  int variations; /* how many, the plain one among them */
  void (*run)(operation_run *run, int variation);
} operation_case;

/* Hands a result over; the array stays the caller's. `name` is at most 31 characters long. */
void emit(operation_run *run, const char *name, const array *result);
/* Fails the case with the library's sentence if the status is not SMX_OK; returns whether it is. */
int succeeded(operation_run *run, smx_status status);

/* An array of numbers uniform(e, number i of stream `which`). */
array uniform_array(smx_dtype dtype, int rank, const int64_t *shape, int e, uint64_t seed,
                    int which);
/* The array as a contiguous tensor; it points into the array. */
smx_tensor tensor_of(array *a);

/* Each ends with an empty name. */
extern const operation_case *const operation_files[];

int generate_operations(const char *folder);
int check_operations(const char *folder, effort effort);

#endif
