/* swiftmax.h: softmax, attention, losses and sampling for CPUs, with the same bits everywhere. This
 * header is the manual; it includes its other parts, which stand at its end.
 *
 * What holds for every function
 *
 *   Bits      For given values, options and library version every output element has the same bits:
 *             on every instruction set (x86-64-v2, v3, v4, AArch64), for every number of threads,
 *             for every batch size and place in the batch, for every memory layout (strides,
 *             alignment, axis moved, in place or not), when masked elements are appended to a row,
 *             from every language, and in whatever floating-point mode the calling thread is. NaN
 *             results are the positive quiet NaN. docs/numerics.md has the written order of every
 *             sum.
 *   Mode      Subnormals are kept and rounding is to nearest, whatever MXCSR or FPCR say at the
 *             call; the caller's mode is restored. Exception flags may be raised, no exception is.
 *   Threads   Every function may be called from many threads at once on disjoint outputs. A call
 *             may use several threads of its own (see Threads below). Calls are safe before and
 *             after fork(), in the parent and in the child. After a fork in a signal handler that
 *             interrupts a call, both sides may call on; the child must not return to the call that
 *             was interrupted. A thread that is cancelled (pthread_cancel, deferred) finishes its
 *             call first.
 *   Memory    The softmax family, its gradients and losses of rows allocate nothing. What other
 *             calls need is said under Memory. One with options may be given it as `workspace`,
 *             of as many bytes as its ..._workspace_size tells, aligned to 64, and then allocates
 *             nothing either. A workspace may hold anything, must not overlap an operand, and is
 *             not looked at where 0 bytes are needed. Any call needs up to 240 KB of stack.
 *   Errors    A function returns SMX_OK or the status of the first thing that is wrong; then
 *             nothing has been written to any output, and smx_last_error() has a sentence that
 *             names the argument and the two things that disagree. No function prints, exits or
 *             traps.
 *   Narrow    float16 and bfloat16 are read as float32, computed in float32 and rounded once at the
 *             end, to nearest even.
 *
 * Special values of the softmax family, with T the temperature:
 *
 *   row                                         softmax      log_softmax   logsumexp
 *   a NaN among the visible elements            all NaN      all NaN       NaN
 *   +inf, no NaN                                all NaN      all NaN       +inf
 *   all visible elements -inf, no bias          all NaN      all NaN       -inf
 *   all visible scores -inf, a bias is given    all 0        all -inf      -inf
 *   no visible element (fully masked)           all 0        all -inf      -inf
 *   an element -inf, others finite              exactly 0    -inf          adds nothing
 *   a masked element, whatever its value        exactly 0    -inf          adds nothing
 *   T = 0                                       the maximum, ties sharing equally; else 0 (-inf)
 *   T = +inf                                    uniform over those above -inf; else 0 (-inf)
 *   length 0                                    no output    no output     -inf
 *
 * A masked element is never used: not even a NaN there shows.
 *
 * Since: 0.1.0, all of it. */
#ifndef SWIFTMAX_H
#define SWIFTMAX_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SMX_VERSION_MAJOR 0
#define SMX_VERSION_MINOR 1
#define SMX_VERSION_PATCH 0

/* The most axes that a tensor may have: as many as NumPy allows. */
#define SMX_MAX_DIMS 64

/* -- status ---------------------------------------------------------------------------------------
 * Fixed values, in groups with gaps: 1 to 19 arguments, 20 to 39 environment, 40 to 59
 * resources. */

typedef int32_t smx_status;
enum {
  SMX_OK = 0,
  SMX_ERROR_NULL = 1,     /* a pointer is NULL where it must not be */
  SMX_ERROR_SIZE = 2,     /* a struct's size field is not this version's */
  SMX_ERROR_DTYPE = 3,    /* a dtype is unknown or not allowed here */
  SMX_ERROR_SHAPE = 4,    /* two shapes disagree, or one is not a shape */
  SMX_ERROR_AXIS = 5,     /* an axis is out of range or given twice */
  SMX_ERROR_VALUE = 6,    /* a number is out of its range */
  SMX_ERROR_OVERLAP = 7,  /* an output overlaps an input or another one, or its elements one
                             another; or a workspace an operand */
  SMX_ERROR_OVERFLOW = 8, /* a size is larger than memory can be */
  SMX_ERROR_ISA = 20,     /* SWIFTMAX_ISA is unknown or does not run on this CPU, or no instruction
                             set does */
  SMX_ERROR_THREADS = 21, /* SWIFTMAX_NUM_THREADS is not a number of threads */
  SMX_ERROR_MEMORY = 40   /* out of memory */
};

/* A few words for a status; never NULL. */
const char *smx_status_string(smx_status status);

/* The sentence of this thread's last error, "" before the first; never NULL. It stays until the
 * next error of the same thread and is at most 511 bytes long. A name from the environment may be
 * cut within a character. */
const char *smx_last_error(void);

/* -- tensors ----------------------------------------------------------------------------------- */

typedef int32_t smx_dtype;
enum {
  SMX_BOOL = 1, /* one byte, 0 is false, all else true */
  SMX_INT32 = 2,
  SMX_INT64 = 3,
  SMX_FLOAT16 = 16, /* IEEE 754 binary16 */
  SMX_BFLOAT16 = 17,
  SMX_FLOAT32 = 18,
  SMX_FLOAT64 = 19
};

/* Any array in memory, in native byte order; swiftmax neither copies nor keeps it.
 *
 * Shapes    `ndim` lengths of 0 or more. ndim 0 is a single number; shape may then be NULL.
 * Strides   In bytes, one for each axis; negative, zero, and not a multiple of the element size are
 *           all allowed. NULL means C order without gaps. No two elements of an output may share a
 *           byte: refused are stride 0 along an axis longer than 1, strides less than an element's
 *           size, and two axes that lead to one place; what only three or more axes together do is
 *           undefined.
 * Special   `data` may be NULL when the tensor has no element. */
typedef struct smx_tensor {
  void *data;
  smx_dtype dtype;
  int32_t ndim;
  const int64_t *shape;
  const int64_t *strides;
} smx_tensor;

/* -- structured masks -----------------------------------------------------------------------------
 * Conditions on (query i, key j) by arithmetic: they cost no memory, and what they exclude is not
 * computed. The last two axes of the scores are queries (length Lq) and keys (length Lk). All
 * conditions of one struct, and of the structs behind `also`, hold together.
 *
 *   causal    j <= i + offset
 *   window    i + offset - window_left <= j <= i + offset + window_right; -1 leaves a side open
 *   lengths   j < key_lengths, i < query_lengths
 *   segments  query_segments[i] == key_segments[j]
 *
 * offset is query_offset, by default Lk - Lq, which aligns the last query with the last key:
 *
 *   Lq = 2, Lk = 4    1 1 1 0      Lq = 4, Lk = 2    0 0   (the first two queries see no key)
 *                     1 1 1 1                        0 0
 *                                                    1 0
 *                                                    1 1
 *
 * Shapes    query_offset, key_lengths and query_lengths have one number for each of the leading
 *           axes of the scores that they name: shape () for one for all, (B) for one per batch
 *           entry, (B, H) per head and so on. query_segments and key_segments have one axis more,
 *           Lq and Lk long.
 * Strides   Must be given for every tensor here that has an axis. dtype int32 or int64.
 * Errors    Lengths must lie in 0..Lk and 0..Lq; windows must be -1 or more; offsets may be any
 *           number. */
typedef struct smx_mask {
  size_t size;                   /* sizeof(smx_mask) */
  const struct smx_mask *also;   /* further conditions, or NULL; at most 64 in all */
  int32_t causal;                /* not 0: causal */
  int32_t window;                /* not 0: window_left and window_right count */
  int64_t window_left;
  int64_t window_right;
  const smx_tensor *query_offset;   /* each NULL for none */
  const smx_tensor *key_lengths;
  const smx_tensor *query_lengths;
  const smx_tensor *query_segments; /* both or neither */
  const smx_tensor *key_segments;
} smx_mask;

/* -- softmax and log_softmax ----------------------------------------------------------------------
 *
 *   softmax      out = exp((x + bias) / T) / sum over the row of exp((x + bias) / T)
 *   log_softmax  out = its logarithm, (x + bias) / T - logsumexp((x + bias) / T), computed as such
 *
 * where the sum takes the visible elements of a row, and a row is all elements that differ only
 * along the reduced axes.
 *
 * Shapes    out has the shape of x. Any number of axes, any rank.
 * Strides   Any, for every operand.
 * Aliasing  out may be x itself (same data, strides and dtype). Any other overlap of out with an
 *           input is an error where it can be told from the strides: where their first elements are
 *           one, or where one lies within the other's range and either has no gaps (so what lies in
 *           the gaps of another's rows is taken to overlap it). Where both have gaps it is
 *           undefined.
 * Special   The table at the head of this file. The difference to the row's maximum is taken before
 *           the division by T, so x / T never overflows; x + bias may. For float32 and the narrow
 *           types T below 2^-192 counts as 0 and T above 2^166 as infinite.
 * Accuracy  float32, float64: at most 2 ulp at every element of magnitude 2^-125 (2^-1021) or more,
 *           for every row length to 2^20 and every spread of the scores; with a bias, of the exact
 *           sum x + bias. This is measured (a search found 1.9) and derived but for a little: the
 *           sum of all worst cases on paper is 2.09 (docs/numerics.md). In the lowest binade of
 *           normal numbers, below that, up to 2.4 ulp with a bias or a temperature, 2.1 else. Of
 *           two scores whose results are closer than their rounding, the smaller may have the
 *           larger result. float16, bfloat16: the nearest value but for ties decided by the last
 *           bit of float32.
 * Threads   Rows are shared among threads, and the chunks of a row where rows are fewer than
 *           threads.
 * Returns   SMX_OK, or SMX_ERROR_NULL, _SIZE, _DTYPE, _SHAPE, _AXIS, _VALUE, _OVERLAP, _OVERFLOW,
 *           _ISA, _THREADS. */

/* Zero everything but size: that is the default. */
typedef struct smx_softmax_options {
  size_t size;                   /* sizeof(smx_softmax_options) */
  const int32_t *axes;           /* axes to reduce, negative ones from the end; NULL: the last
                                    one */
  int32_t axis_count;            /* how many; 0 with axes not NULL reduces none */
  int32_t all_axes;              /* not 0: reduce all, whatever axes says */
  const smx_tensor *temperature; /* NULL: 1. Float, 0 or more; one for each row: broadcast against
                                    the kept axes, or with all axes of x, the reduced ones 1 long */
  const smx_tensor *mask;        /* NULL, or bool that broadcasts to x; true takes part */
  const smx_tensor *bias;        /* NULL, or of x's dtype (float32 too for narrow x) that broadcasts
                                    to x */
  const smx_mask *structure;     /* NULL, or structured masks over the last two axes of x */
} smx_softmax_options;

/* options may be NULL: the last axis, T = 1, nothing masked. */
smx_status smx_softmax(const smx_tensor *x, const smx_tensor *out,
                       const smx_softmax_options *options);
smx_status smx_log_softmax(const smx_tensor *x, const smx_tensor *out,
                           const smx_softmax_options *options);

/* The same for `rows` contiguous rows of `cols` elements each: x and out are rows × cols without
 * gaps, of any alignment; out may be x. float16 and bfloat16 are passed as their 16 bits.
 * Special   rows or cols may be 0; pointers may then be NULL.
 * Returns   SMX_OK, or SMX_ERROR_NULL, _SHAPE, _OVERLAP, _OVERFLOW, _ISA, _THREADS. */
smx_status smx_softmax_f32(const float *x, float *out, int64_t rows, int64_t cols);
smx_status smx_softmax_f64(const double *x, double *out, int64_t rows, int64_t cols);
smx_status smx_softmax_f16(const uint16_t *x, uint16_t *out, int64_t rows, int64_t cols);
smx_status smx_softmax_bf16(const uint16_t *x, uint16_t *out, int64_t rows, int64_t cols);
smx_status smx_log_softmax_f32(const float *x, float *out, int64_t rows, int64_t cols);
smx_status smx_log_softmax_f64(const double *x, double *out, int64_t rows, int64_t cols);
smx_status smx_log_softmax_f16(const uint16_t *x, uint16_t *out, int64_t rows, int64_t cols);
smx_status smx_log_softmax_bf16(const uint16_t *x, uint16_t *out, int64_t rows, int64_t cols);

/* -- logsumexp ------------------------------------------------------------------------------------
 *
 *   out = log |sum over the row of weights · exp(x + bias)|
 *
 * Natural logarithm. As scipy.special.logsumexp, with masks.
 *
 * Shapes    out, and sign, have the kept axes of x, or all of them with the reduced ones 1 long.
 * Strides   Any, for every operand.
 * Aliasing  out and sign must not overlap x or one another.
 * Special   The table at the head of this file. With weights: an element of weight 0 does not take
 *           part, whatever its value; a sum of 0 gives -inf and sign 0; a negative sum gives NaN,
 *           unless sign is given, which is then -1. Terms of +inf and of -inf, by x or by weights,
 *           give NaN; an element of -inf adds nothing, unless its weight is NaN. Without weights
 *           sign is 1, or 0 where out is -inf, NaN where NaN.
 * Accuracy  float32, float64: 1 ulp of the larger of |out| and |max x|; for float64, where that is
 *           below 2^-1021, 1.6. With weights that does not hold: the terms are exp(x - max x) in
 *           the precision of x's dtype, each with a relative error of up to 1.31 · 2^-24 (2^-53),
 *           so out has an absolute error of up to 1.4 · 2^-24 (2^-53) beside one ulp if the weights
 *           are positive, and more where signs cancel. A term below exp(max x) · 2^-190 counts as 0
 *           before it is weighted; in float64 terms below 2^-1022 of it lose digits, and below
 *           2^-1075 they count as 0, as in SciPy. Infinite weights, and sums beyond float64, give
 *           inf.
 * Threads   As softmax.
 * Returns   As softmax. */

typedef struct smx_logsumexp_options {
  size_t size;               /* sizeof(smx_logsumexp_options) */
  const int32_t *axes;       /* as in smx_softmax_options */
  int32_t axis_count;
  int32_t all_axes;
  const smx_tensor *weights; /* NULL, or of x's dtype that broadcasts to x */
  const smx_tensor *mask;
  const smx_tensor *bias;
  const smx_mask *structure;
  const smx_tensor *sign;    /* NULL, or where to write the sign of the sum: -1, 0 or 1, in x's
                                dtype */
} smx_logsumexp_options;

smx_status smx_logsumexp(const smx_tensor *x, const smx_tensor *out,
                         const smx_logsumexp_options *options);

/* The same for contiguous rows: x is rows × cols, out has `rows` elements. */
smx_status smx_logsumexp_f32(const float *x, float *out, int64_t rows, int64_t cols);
smx_status smx_logsumexp_f64(const double *x, double *out, int64_t rows, int64_t cols);
smx_status smx_logsumexp_f16(const uint16_t *x, uint16_t *out, int64_t rows, int64_t cols);
smx_status smx_logsumexp_bf16(const uint16_t *x, uint16_t *out, int64_t rows, int64_t cols);

/* -- threads --------------------------------------------------------------------------------------
 * A call uses at most the number of threads set for its own thread, else for the process, else
 * SWIFTMAX_NUM_THREADS, else OMP_NUM_THREADS (the first of its list; what is no count from 1 on is
 * passed over), else the CPUs that this process may use (affinity of its first thread, and cgroup
 * quota). Small calls stay on their thread. Workers start at the first call that wants them, with
 * the affinity of the thread that calls, and keep it, but for the moment of waking up: not on the
 * CPU of the thread that wakes them. Where the system gives no thread, fewer do the work. The
 * number never changes a bit of a result. */

/* Sets the number for the process, 1 to 256. Returns SMX_OK or SMX_ERROR_VALUE. */
smx_status smx_set_num_threads(int32_t count);

/* The number that a call of this thread would use. Returns SMX_OK, SMX_ERROR_NULL or _THREADS. */
smx_status smx_get_num_threads(int32_t *count);

/* Sets the number for calls of this thread alone, 1 to 256, or 0 to follow the process again.
 * `previous`, unless NULL, receives the number before. Returns SMX_OK or SMX_ERROR_VALUE. */
smx_status smx_set_num_threads_local(int32_t count, int32_t *previous);

/* -- version and instruction set --------------------------------------------------------------- */

/* "major.minor.patch" of the library, which may differ from the header's. */
const char *smx_version(void);

/* The name of the instruction set in use: "v2", "v3", "v4" (x86-64 levels) or "neon". It is chosen
 * at the first call, the best that the CPU runs, or the one that the environment variable
 * SWIFTMAX_ISA names. Returns SMX_OK, SMX_ERROR_NULL or _ISA. */
smx_status smx_isa(const char **name);

/* 1 if this CPU runs the instruction set of that name, 0 if it does not, -1 if the name is
 * unknown. */
int32_t smx_isa_supported(const char *name);

#ifdef __cplusplus
}
#endif

/* The other parts of the manual. */
#include "swiftmax_attention.h" /* attention in all its forms */
#include "swiftmax_decoding.h"  /* sampling, scoring, calibration */
#include "swiftmax_training.h"  /* gradients, losses */

#endif /* SWIFTMAX_H */
