/* The CPython module over libswiftmax: what its files share.
 *
 *   _core_module.c      the table of functions, threads, configuration, initialisation
 *   _core_operations.c  softmax, log_softmax, logsumexp
 *   _core_arguments.c   keywords, axis, flags; a status becomes an exception
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

/* -- arguments ------------------------------------------------------------------------------- */

/* Every name that an argument can have; the order is that of the positional ones. */
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
  SMXPY_NAMES
};

typedef struct smxpy_state {
  PyObject *names[SMXPY_NAMES]; /* interned */
} smxpy_state;

typedef struct smxpy_signature {
  const char *function;
  int positional;   /* how many may be given without their name */
  uint32_t allowed; /* bit per name */
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

/* A truth value; absent is false. -1 on failure. */
int smxpy_flag(PyObject *given);

/* The one place that turns a status into an exception. Returns NULL. */
PyObject *smxpy_raise(smx_status status);

/* Calls a helper of swiftmax._arguments, of the given number of arguments; a new reference. */
PyObject *smxpy_help(const char *function, int count, PyObject *const *args);

/* -- tensors --------------------------------------------------------------------------------- */

/* An array and how the library sees it; `array` NULL where the argument is absent. */
typedef struct smxpy_operand {
  PyArrayObject *array;
  smx_tensor tensor;
} smxpy_operand;

/* The smx_dtype of an array in native byte order, 0 where there is none. */
smx_dtype smxpy_dtype_of(PyArrayObject *array);

/* The address of the tensor, NULL for an absent operand. */
const smx_tensor *smxpy_tensor(const smxpy_operand *operand);

/* Takes over a new reference to an array of a known dtype; NULL stays the failure it is. */
int smxpy_operand_take(smxpy_operand *operand, PyObject *array);
void smxpy_operand_clear(smxpy_operand *operand);

int smxpy_x(smxpy_operand *operand, PyObject *given);
int smxpy_out(smxpy_operand *operand, PyObject *given);
int smxpy_bias(smxpy_operand *operand, PyObject *given, smx_dtype x);
/* A number is kept in *value; 1 is no temperature at all. */
int smxpy_temperature(smxpy_operand *operand, PyObject *given, double *value);
/* b=: broadcasts x against it where it is the larger one. */
int smxpy_weights(smxpy_operand *operand, PyObject *given, smxpy_operand *x);

/* 1 if writing `out` would change `input` before it is read, 0 if not, -1 on failure. */
int smxpy_overlaps(const smxpy_operand *out, const smxpy_operand *input);
int smxpy_has_own_places(const smxpy_operand *out);

/* -- mask ------------------------------------------------------------------------------------ */

typedef struct smxpy_mask {
  smxpy_operand array;
  smx_mask *conditions; /* NULL without structure */
  smx_tensor *tensors;  /* five for each condition */
  PyObject *parts;      /* what the tensors point into */
} smxpy_mask;

int smxpy_mask_of(smxpy_mask *mask, PyObject *given, const smxpy_operand *x);
void smxpy_mask_clear(smxpy_mask *mask);

/* -- operations ------------------------------------------------------------------------------ */

PyObject *smxpy_softmax(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *names);
PyObject *smxpy_log_softmax(PyObject *module, PyObject *const *args, Py_ssize_t count,
                            PyObject *names);
PyObject *smxpy_logsumexp(PyObject *module, PyObject *const *args, Py_ssize_t count,
                          PyObject *names);

#endif
