/* The golden check, in pieces: a case from cases.txt (cases.c), its operands from the integer
 * generator (inputs.c), the same values in another place in memory (layout.c), a call of the
 * library (call.c), a slow reference (reference.c), the ways to call that must not show in the
 * bits (variations.c), and what is said about results that differ (compare.c). attention.h has what
 * attention adds. README.md specifies the generator for every other language. */
#ifndef GOLDEN_H
#define GOLDEN_H

#include <stdint.h>
#include <stdio.h>

#include "swiftmax.h"

enum { MAX_RANK = 6, MAX_CONDITIONS = 6, NAME = 64 };

typedef enum { SOFTMAX, LOG_SOFTMAX, LOGSUMEXP } operation;

/* -- a case, as its line has it (cases.c) ---------------------------------------------------------
 */

typedef struct {
  char name[NAME];
  operation op;
  smx_dtype dtype;
  int rank;
  int64_t shape[MAX_RANK];
  int reduced[MAX_RANK];
  char fill[NAME];
  uint64_t seed;
  char temperature[NAME], mask[NAME], bias[NAME], weights[NAME], structure[NAME]; /* "" for none */
} golden_case;

/* What expected.txt holds for a case. */
enum { SAMPLES = 8 };
typedef struct {
  char name[NAME];
  uint64_t hash;
  int samples;
  double sample[SAMPLES];
} expectation;

/* Reads every case; exits with a sentence for a line that it cannot read. */
int read_cases(const char *path, golden_case **cases);
int read_expected(const char *path, expectation **expected);
const expectation *find_expected(const expectation *all, int count, const char *name);

/* -- values (inputs.c) ------------------------------------------------------------------------- */

/* Elements in C order. */
typedef struct {
  smx_dtype dtype;
  int rank;
  int64_t shape[MAX_RANK];
  int64_t count;
  unsigned char *data; /* NULL: the case has no such operand */
} array;

/* One smx_mask and the tensors that it points to. */
typedef struct {
  smx_mask mask;
  smx_tensor offset, lengths, query_lengths, query_ids, key_ids;
  int64_t shape[5][MAX_RANK], strides[5][MAX_RANK];
  int32_t *data[5];
} condition;

typedef struct {
  const golden_case *from;
  array x, mask, bias, weights, temperature;
  int conditions;
  condition condition[MAX_CONDITIONS];
} inputs;

enum {
  OF_X,
  OF_MASK,
  OF_BIAS,
  OF_WEIGHTS,
  OF_STRUCTURE,
  OF_PLACE,
  OF_KEY,
  OF_VALUE,
  OF_SINKS,
  OF_SLOPES
};
uint64_t stream(uint64_t seed, int which, uint64_t index);
/* From -2^e to below 2^e, exact in the dtype. */
double uniform(smx_dtype dtype, int e, uint64_t z);
array new_array(smx_dtype dtype, int rank, const int64_t *shape);
int64_t item_size(smx_dtype dtype);
double get(const array *a, int64_t index);
void set(array *a, int64_t index, double value);
/* Exits where memory is short: a test has no better answer. */
void *allocate(size_t bytes);
void make_inputs(inputs *in, const golden_case *c);
void free_inputs(inputs *in);
/* Room for `length` numbers of a condition, an int32 tensor over at most one axis. */
smx_tensor *integers(condition *k, int slot, smx_tensor *t, int rank, int64_t length);
/* The number of batch entry `entry` in such a tensor. */
int64_t number_of(const condition *k, int slot, const smx_tensor *t, int64_t entry);
/* The out of a case: the shape of x, or with 1 for each reduced axis. */
array new_out(const inputs *in);
uint64_t fnv1a(const void *data, size_t bytes);
int64_t bytes_of(const array *a);

/* -- places (layout.c) ------------------------------------------------------------------------- */

/* How an array lies in memory. All zero: contiguous, C order, axes as they are. */
typedef struct {
  int reduced_first; /* the call sees the reduced axes first, memory unchanged */
  int memory_order;  /* 0: C, 1: first axis fastest, 2: last axis slowest, the others in C order */
  int step;          /* elements from one to the next along the fastest axis; 0 is 1 */
  int backwards;     /* every stride negative */
  int offset;        /* bytes from an aligned address */
} layout;

/* A tensor with room for what it points to. */
typedef struct {
  smx_tensor tensor;
  int64_t shape[MAX_RANK], strides[MAX_RANK];
  unsigned char *memory;
} placed;

/* Lays out room for `a`, and copies its values there. */
void place(placed *p, const array *a, const layout *how, const int *reduced);
/* The elements back in C order of the original axes. */
void collect(const placed *p, array *a, const layout *how, const int *reduced);

/* -- calls (call.c) ---------------------------------------------------------------------------- */

typedef struct {
  placed x, out, mask, bias, weights, temperature;
} operands;

/* Places all operands; with `in_place` out is x. */
void place_operands(operands *o, const inputs *in, const array *out, const layout *how,
                    int in_place);
void free_operands(operands *o);
/* The tensor call; `conditions` NULL for none. */
smx_status call_tensor(const inputs *in, operands *o, const layout *how, const smx_mask *structure);
const smx_mask *structure_of(inputs *in);
/* Whether the typed call can do this case, and that call. */
int is_typed(const inputs *in);
smx_status call_typed(const inputs *in, operands *o);
/* Each row in a call of its own, at most `limit` of them; out's other elements stay. */
smx_status call_alone(inputs *in, operands *o, int64_t limit);

/* -- a slow reference (reference.c) ------------------------------------------------------------ */

/* What an element should be, and the magnitude whose last place errors are counted in: its own, and
 * for logsumexp the larger one of its own and the row's maximum. */
typedef struct {
  long double value, scale;
} exact_value;

/* Each element of the out, from its definition in long double. */
exact_value *reference(const inputs *in);
/* Largest error of `out` in units of the last place; `at` is where. */
double worst_error(const array *out, const exact_value *exact, int64_t *at);
/* Whether element `index` of x takes part: mask and structure. */
int is_visible(const inputs *in, int64_t index);
/* Place in `a`, whose axes have the length of x's or 1, of the element at `index` of x. */
int64_t broadcast(const array *a, const array *x, int64_t index);
/* The unit in the last place of `value` in a dtype. */
long double unit(smx_dtype dtype, long double value);

/* -- results that differ (compare.c) ----------------------------------------------------------- */

void write_expectation(FILE *file, const char *name, const array *out);
/* Whether the plain call gave what is expected (`e` NULL: nothing is). If not, tells all but how
 * wrong that is, without an end of line. */
int meets_expectation(const char *name, uint64_t seed, const array *out, const expectation *e);
/* The same of a variation, against the plain call; `at` is the first place that differs. */
int meets_plain(const char *name, const char *variation, uint64_t seed, const array *plain,
                const array *out, int64_t *at);
/* A file that replaces `path` when it is complete. */
FILE *begin_file(const char *path, const char *cases, const char *names);
int end_file(FILE *file, const char *path, int is_good);

/* -- ways to call (variations.c) --------------------------------------------------------------- */

/* How much is checked: everything; one in four of the other operations' variations; little
 * (golden.c). */
typedef enum { FULL, FEWER, BRIEF } effort;

typedef struct {
  int64_t passed, failed;
} tally;

void print_tally(const char *what, int cases, const tally *t);
/* The plain call on one thread, which everything is compared with; returns its out. */
array plain_call(inputs *in);
/* Every variation of a case; with `brief` a few of them. */
void check_variations(inputs *in, const array *plain, int brief, tally *t);

#endif
