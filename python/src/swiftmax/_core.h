/* The CPython module over libswiftmax: what its files share.
 *
 *   _core_module.c      the table of functions, threads, configuration, initialisation
 *   _core_operations.c  softmax, log_softmax, logsumexp
 *   _core_attention.c   attention
 *   _core_attention_vjp.c   its gradient
 *   _core_scores.c      what these two share
 *   _core_merge.c       merge_attention
 *   _core_gradients.c   gradients of the softmax family, for _gradients.py
 *   _core_losses.c      cross_entropy and its kin, entropy and divergence
 *   _core_sampling.c    sample, filtered_softmax, top_k, gumbel_softmax
 *   _core_linear.c      cross-entropy of a linear layer, for _linear.py
 *   _core_additive.c    additive_attention
 *   _core_scoring.c     sigmoid, sequences, rankings, calibration
 *   _core_arguments.c   keywords, axis, flags, numbers; a status becomes an exception
 *   _core_tensors.c     an array becomes a tensor; do two of them overlap
 *   _core_mask.c        mask=: a boolean array or the conditions of a Mask
 *
 * The module checks what only Python knows (kinds of objects) and leaves shapes, dtypes, axes and
 * values to the library, whose sentences it shows. What is rare (array-likes, Mask objects) is
 * prepared in Python, _arguments.py. */
#ifndef SMXPY_CORE_H
#define SMXPY_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* A module made with the headers of NumPy 2 runs on NumPy 1.x too; older ones ignore the macro. */
#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL smxpy_numpy_api
#ifndef SMXPY_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include <swiftmax.h>

/* Shapes and strides are handed over where they lie. */
_Static_assert(sizeof(npy_intp) == sizeof(int64_t), "swiftmax needs a 64-bit NumPy");

/* -- arguments --------------------------------------------------------------------------------- */

/* Every name that an argument can have. Those of a function that may be given without their name
 * follow one another in its order; attention's own stand last. */
enum {
  SMXPY_X,
  SMXPY_AXIS,
  SMXPY_TEMPERATURE,
  SMXPY_MASK,
  SMXPY_BIAS,
  SMXPY_OUT,
  SMXPY_B,
  SMXPY_KEEPDIMS,
  SMXPY_RETURN_SIGN,
  SMXPY_OUT_A,
  SMXPY_LSE_A,
  SMXPY_OUT_B,
  SMXPY_LSE_B,
  SMXPY_QUERY,
  SMXPY_KEY,
  SMXPY_VALUE,
  SMXPY_CAUSAL,
  SMXPY_QUERY_OFFSET,
  SMXPY_WINDOW,
  SMXPY_KEY_LENGTHS,
  SMXPY_QUERY_LENGTHS,
  SMXPY_SEGMENT_IDS,
  SMXPY_ALIBI_SLOPES,
  SMXPY_SCALE,
  SMXPY_SOFTCAP,
  SMXPY_SINKS,
  SMXPY_PAST_KEY,
  SMXPY_PAST_VALUE,
  SMXPY_BLOCK_TABLE,
  SMXPY_QUERY_STARTS,
  SMXPY_KEY_STARTS,
  SMXPY_LAYOUT,
  SMXPY_PRECISION,
  SMXPY_RETURN_LSE,
  SMXPY_RETURN_WEIGHTS,
  SMXPY_NAMES
};
_Static_assert(SMXPY_NAMES <= 63, "smxpy_signature.allowed has a bit for each name");

typedef struct smxpy_state {
  PyObject *names[SMXPY_NAMES]; /* interned */
} smxpy_state;

typedef struct smxpy_signature {
  const char *function;
  int first;        /* the name of the first positional argument */
  int positional;   /* how many may be given without their name */
  int required;     /* how many of these must be given */
  uint64_t allowed; /* bit per name */
} smxpy_signature;

typedef struct smxpy_axes {
  int32_t list[SMX_MAX_DIMS];
  int32_t count;
  int32_t all;
} smxpy_axes;

int smxpy_state_fill(smxpy_state *state);
void smxpy_state_clear(smxpy_state *state);

/* Fills given[] with borrowed references, NULL where absent. -1 and TypeError on failure. */
int smxpy_parse(const smxpy_state *state, const smxpy_signature *signature, PyObject *const *args,
                Py_ssize_t count, PyObject *keywords, PyObject *given[SMXPY_NAMES]);

/* axis=: an integer, a tuple or list of them, None for all; absent is the last one. */
int smxpy_axes_of(PyObject *given, smxpy_axes *axes);

/* Not given, or None where None is the default. */
static inline int smxpy_is_absent(PyObject *given) { return !given || given == Py_None; }

/* A truth value; absent is false. -1 on failure. */
int smxpy_flag(PyObject *given, const char *name);

/* A real number: 1 and *value if it was given; 0 where absent or None; -1 on failure. */
int smxpy_number(PyObject *given, const char *name, double *value);

/* 0 for the first of two words and where absent, 1 for the second, -1 on failure. */
int smxpy_choice(PyObject *given, const char *name, const char *first, const char *second);

/* The one place that turns a status into an exception. Returns NULL. */
PyObject *smxpy_raise(smx_status status);

/* Calls a helper of swiftmax._arguments, of the given number of arguments; a new reference. */
PyObject *smxpy_help(const char *function, int count, PyObject *const *args);

/* -- tensors ----------------------------------------------------------------------------------- */

/* An array and how the library sees it; `array` NULL where the argument is absent. Not to be moved:
 * the tensor points into `lengths`, or to `more` where the array has more axes. They are copies,
 * since the array's own go where its shape is set, which code behind a later argument may do. */
enum { SMXPY_USUAL_AXES = 4 };
typedef struct smxpy_operand {
  PyArrayObject *array;
  smx_tensor tensor;
  int64_t lengths[2 * SMXPY_USUAL_AXES];
  int64_t *more;
} smxpy_operand;

/* The smx_dtype of an array in native byte order, 0 where there is none. */
smx_dtype smxpy_dtype_of(PyArrayObject *array);

/* The address of the tensor, NULL for an absent operand. */
const smx_tensor *smxpy_tensor(const smxpy_operand *operand);

/* The shape that the tensor has, as NumPy's functions take it. */
static inline npy_intp *smxpy_dims(const smxpy_operand *operand) {
  return (npy_intp *)operand->tensor.shape;
}

/* The tensor of an array, with the array's own shape and strides. */
smx_tensor smxpy_tensor_of(PyArrayObject *array);
/* Takes over a new reference to an array of a known dtype; NULL stays the failure it is. */
int smxpy_operand_take(smxpy_operand *operand, PyObject *array);
void smxpy_operand_clear(smxpy_operand *operand);

/* An array of floats that keeps its dtype, such as x, of the name that messages use. */
int smxpy_floats(smxpy_operand *operand, PyObject *given, const char *name);
/* An array of floats in the precision that sums with x have: float64 for float64, else float32. */
int smxpy_wide_floats(smxpy_operand *operand, PyObject *given, const char *name, smx_dtype x);
/* out=, which must have the dtype of the input called x. */
int smxpy_out(smxpy_operand *operand, PyObject *given, const char *x);
/* Whether out=, if it was given, has the shape and dtype of x, and a place for each element. -1 and
 * an exception if not. */
int smxpy_out_fits(const smxpy_operand *out, const smxpy_operand *x, const char *name);
int smxpy_bias(smxpy_operand *operand, PyObject *given, smx_dtype x);
/* lse= of an attention call, of which None is not the default. */
int smxpy_lse(smxpy_operand *operand, PyObject *given, const char *name, smx_dtype out);
/* An int32 or int64 array as it is; any other integers become int64. */
int smxpy_integers(smxpy_operand *operand, PyObject *given, const char *name);
/* The longest entry between starts of one axis; some length if they fall, which the library
 * refuses. */
int64_t smxpy_longest(const smxpy_operand *starts);
/* A number is kept in *value; 1 is no temperature at all. */
int smxpy_temperature(smxpy_operand *operand, PyObject *given, double *value);
/* b=: broadcasts x against it where it is the larger one. */
int smxpy_weights(smxpy_operand *operand, PyObject *given, smxpy_operand *x);

/* An uninitialised array in C order with the dtype of another. */
PyObject *smxpy_new_like(PyArrayObject *x, int rank, const npy_intp *shape);

/* One call of the library that writes its result to `out`. */
typedef smx_status (*smxpy_run)(const void *call, const smx_tensor *out);

/* Runs a call into `out`, aside and copied at the end where `out` overlaps an input, absent ones
 * among them. What the call leaves alone stays. -1 and an exception on failure. */
int smxpy_execute(smxpy_run run, const void *call, const smxpy_operand *out,
                  const smxpy_operand *const *inputs, int count);

/* -- mask -------------------------------------------------------------------------------------- */

typedef struct smxpy_mask {
  smxpy_operand array;
  smx_mask *conditions; /* NULL without structure */
  smx_tensor *tensors;  /* five for each condition */
  PyObject *parts;      /* what the tensors point into */
} smxpy_mask;

int smxpy_mask_of(smxpy_mask *mask, PyObject *given, const smxpy_operand *x);
/* mask= and the arguments of attention that mask too, over scores of a shape. */
int smxpy_structure_of(smxpy_mask *mask, PyObject *const given[SMXPY_NAMES], int rank,
                       const npy_intp *scores);
void smxpy_mask_clear(smxpy_mask *mask);

/* -- what attention and its gradient share ----------------------------------------------------- */

typedef struct smxpy_scores {
  smxpy_operand query, key, value, bias, alibi_slopes, sinks;
  smxpy_mask mask; /* left to the caller: smxpy_structure_of, when the shape is known */
  smx_layout layout;
  int has_scale;
  double scale, softcap;
  int rank;
  npy_intp shape[4]; /* heads before lengths, whatever the layout */
} smxpy_scores;

/* Fills all but the mask from the arguments; the keys are those of `key`. */
int smxpy_scores_take(smxpy_scores *s, PyObject *const given[SMXPY_NAMES]);
void smxpy_scores_clear(smxpy_scores *s);
/* The options of the library's calls, as far as they are known here. */
smx_attention_options smxpy_scores_options(const smxpy_scores *s);
/* Whether the GIL is kept. */
int smxpy_scores_are_short(const smxpy_scores *s);
int smxpy_is_short(double scores, double width, double value_width);

/* Where queries, keys and values have their lengths. */
static inline int smxpy_length_axis(const smxpy_scores *s) {
  int rank = s->query.tensor.ndim;
  return s->layout == SMX_BLHD && rank > 2 ? rank - 3 : rank - 2;
}

/* -- results of attention ---------------------------------------------------------------------- */

/* An array of the shape of query but for its last axis, which is value's. */
PyObject *smxpy_attention_out(const smxpy_operand *query, const smxpy_operand *value);
/* out alone, or a tuple of it and what else is there. */
PyObject *smxpy_attention_results(const smxpy_operand *out, const smxpy_operand *lse,
                                  const smxpy_operand *weights);
/* Raises a ValueError of a format that has %S for two shapes (of which it may use one). Returns -1.
 */
int smxpy_refuse(const char *format, const smxpy_operand *a, const smxpy_operand *b);

/* -- operations -------------------------------------------------------------------------------- */

PyObject *smxpy_softmax(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *names);
PyObject *smxpy_log_softmax(PyObject *module, PyObject *const *args, Py_ssize_t count,
                            PyObject *names);
PyObject *smxpy_logsumexp(PyObject *module, PyObject *const *args, Py_ssize_t count,
                          PyObject *names);
PyObject *smxpy_attention(PyObject *module, PyObject *const *args, Py_ssize_t count,
                          PyObject *names);
PyObject *smxpy_attention_vjp(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *smxpy_merge_attention(PyObject *module, PyObject *const *args, Py_ssize_t count,
                                PyObject *names);
PyObject *smxpy_cross_entropy(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *smxpy_divergence(PyObject *module, PyObject *const *args, Py_ssize_t count);

/* Each takes all of its arguments, by place. */
PyObject *smxpy_softmax_vjp(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *smxpy_softmax_jvp(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *smxpy_log_softmax_vjp(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *smxpy_logsumexp_vjp(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *smxpy_softmax_jacobian(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *smxpy_sample(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *smxpy_filtered_softmax(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *smxpy_top_k(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *smxpy_gumbel_softmax(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *smxpy_linear_cross_entropy(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *smxpy_additive_attention(PyObject *module, PyObject *const *args, Py_ssize_t count);
/* Behind _scoring.py and _calibration.py. */
PyObject *smxpy_sigmoid(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *smxpy_log_sigmoid(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *smxpy_sequence_log_prob(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *smxpy_plackett_luce_log_prob(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *smxpy_calibration_error(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *smxpy_fit_temperature(PyObject *module, PyObject *const *args, Py_ssize_t count);

#endif
