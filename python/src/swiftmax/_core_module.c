/* The module: its functions, threads, configuration, and how it comes to life. */
#define _GNU_SOURCE
#define SMXPY_IMPORTS_NUMPY
#include "_core.h"

#include <dlfcn.h>

/* -- threads ----------------------------------------------------------------------------------- */

enum { MOST_THREADS = 256 }; /* swiftmax.h */

static int thread_count(PyObject *given, long least, int32_t *count) {
  PyObject *number = PyNumber_Index(given);
  if (!number) {
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) return -1;
    PyErr_Clear();
    PyErr_Format(PyExc_TypeError, "n must be an integer, but is %.80R", given);
    return -1;
  }
  int overflow = 0;
  long value = PyLong_AsLongAndOverflow(number, &overflow);
  if (overflow || value < least || value > MOST_THREADS)
    PyErr_Format(PyExc_ValueError, "n must be from %ld to %d, but is %S", least, MOST_THREADS,
                 number);
  Py_DECREF(number);
  if (PyErr_Occurred()) return -1;
  *count = (int32_t)value;
  return 0;
}

static PyObject *set_num_threads(PyObject *module, PyObject *given) {
  (void)module;
  int32_t count;
  if (thread_count(given, 1, &count) < 0) return NULL;
  smx_status status = smx_set_num_threads(count);
  if (status != SMX_OK) return smxpy_raise(status);
  Py_RETURN_NONE;
}

static PyObject *get_num_threads(PyObject *module, PyObject *none) {
  (void)module, (void)none;
  int32_t count = 0;
  smx_status status = smx_get_num_threads(&count);
  return status == SMX_OK ? PyLong_FromLong(count) : smxpy_raise(status);
}

/* The count for this thread alone, 0 for none of its own; returns the one before. */
static PyObject *set_num_threads_local(PyObject *module, PyObject *given) {
  (void)module;
  int32_t count, previous = 0;
  if (thread_count(given, 0, &count) < 0) return NULL;
  smx_status status = smx_set_num_threads_local(count, &previous);
  return status == SMX_OK ? PyLong_FromLong(previous) : smxpy_raise(status);
}

/* -- configuration ----------------------------------------------------------------------------- */

static PyObject *isa(PyObject *module, PyObject *none) {
  (void)module, (void)none;
  const char *name = NULL;
  smx_status status = smx_isa(&name);
  return status == SMX_OK ? PyUnicode_FromString(name) : smxpy_raise(status);
}

static PyObject *isa_supported(PyObject *module, PyObject *name) {
  (void)module;
  PyObject *bytes = PyUnicode_AsUTF8String(name);
  const char *text = bytes ? PyBytes_AsString(bytes) : NULL;
  PyObject *result = text ? PyBool_FromLong(smx_isa_supported(text) == 1) : NULL;
  Py_XDECREF(bytes);
  return result;
}

/* The file that the loader took the library from. */
static PyObject *library_path(PyObject *module, PyObject *none) {
  (void)module, (void)none;
  Dl_info info;
  void *symbol = (void *)(uintptr_t)&smx_version;
  if (!dladdr(symbol, &info) || !info.dli_fname) Py_RETURN_NONE;
  return PyUnicode_DecodeFSDefault(info.dli_fname);
}

/* -- the module -------------------------------------------------------------------------------- */

static PyObject *set_doc(PyObject *module, PyObject *args);

#define FAST (METH_FASTCALL | METH_KEYWORDS)
#define CAST(function) ((PyCFunction)(void (*)(void))(function))
static PyMethodDef methods[] = {
    {"softmax", CAST(smxpy_softmax), FAST, NULL},
    {"log_softmax", CAST(smxpy_log_softmax), FAST, NULL},
    {"logsumexp", CAST(smxpy_logsumexp), FAST, NULL},
    {"attention", CAST(smxpy_attention), FAST, NULL},
    {"_attention_vjp", CAST(smxpy_attention_vjp), METH_FASTCALL, NULL},
    {"merge_attention", CAST(smxpy_merge_attention), FAST, NULL},
    {"_softmax_vjp", CAST(smxpy_softmax_vjp), METH_FASTCALL, NULL},
    {"_softmax_jvp", CAST(smxpy_softmax_jvp), METH_FASTCALL, NULL},
    {"_log_softmax_vjp", CAST(smxpy_log_softmax_vjp), METH_FASTCALL, NULL},
    {"_logsumexp_vjp", CAST(smxpy_logsumexp_vjp), METH_FASTCALL, NULL},
    {"_softmax_jacobian", CAST(smxpy_softmax_jacobian), METH_FASTCALL, NULL},
    {"_cross_entropy", CAST(smxpy_cross_entropy), METH_FASTCALL, NULL},
    {"_divergence", CAST(smxpy_divergence), METH_FASTCALL, NULL},
    {"_sample", CAST(smxpy_sample), METH_FASTCALL, NULL},
    {"_filtered_softmax", CAST(smxpy_filtered_softmax), METH_FASTCALL, NULL},
    {"_top_k", CAST(smxpy_top_k), METH_FASTCALL, NULL},
    {"_gumbel_softmax", CAST(smxpy_gumbel_softmax), METH_FASTCALL, NULL},
    {"_linear_cross_entropy", CAST(smxpy_linear_cross_entropy), METH_FASTCALL, NULL},
    {"_additive_attention", CAST(smxpy_additive_attention), METH_FASTCALL, NULL},
    {"_sigmoid", CAST(smxpy_sigmoid), METH_FASTCALL, NULL},
    {"_log_sigmoid", CAST(smxpy_log_sigmoid), METH_FASTCALL, NULL},
    {"_sequence_log_prob", CAST(smxpy_sequence_log_prob), METH_FASTCALL, NULL},
    {"_plackett_luce_log_prob", CAST(smxpy_plackett_luce_log_prob), METH_FASTCALL, NULL},
    {"_calibration_error", CAST(smxpy_calibration_error), METH_FASTCALL, NULL},
    {"_fit_temperature", CAST(smxpy_fit_temperature), METH_FASTCALL, NULL},
    {"set_num_threads", set_num_threads, METH_O, NULL},
    {"get_num_threads", get_num_threads, METH_NOARGS, NULL},
    {"_set_num_threads_local", set_num_threads_local, METH_O, NULL},
    {"_isa", isa, METH_NOARGS, NULL},
    {"_isa_supported", isa_supported, METH_O, NULL},
    {"_library_path", library_path, METH_NOARGS, NULL},
    {"_set_doc", set_doc, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* Gives a function of this module its docstring. The texts stand in _docs.py, where they can be
 * read and their examples run; a builtin reads its text through this table, so it must outlive the
 * module. */
static PyObject *set_doc(PyObject *module, PyObject *args) {
  (void)module;
  PyObject *name, *doc;
  if (!PyArg_ParseTuple(args, "UU", &name, &doc)) return NULL;
  for (PyMethodDef *method = methods; method->ml_name; method++) {
    if (PyUnicode_CompareWithASCIIString(name, method->ml_name) != 0) continue;
    PyObject *bytes = PyUnicode_AsUTF8String(doc); /* kept for good */
    if (!bytes) return NULL;
    method->ml_doc = PyBytes_AsString(bytes);
    Py_RETURN_NONE;
  }
  PyErr_Format(PyExc_ValueError, "swiftmax._core has no function %R", name);
  return NULL;
}

static int execute_module(PyObject *module) {
  import_array1(-1);
  if (smxpy_state_fill(PyModule_GetState(module)) < 0) return -1;
  if (PyModule_AddIntConstant(module, "_MOST_THREADS", MOST_THREADS) < 0) return -1;
  return PyModule_AddStringConstant(module, "__version__", smx_version());
}

static int clear_module(PyObject *module) {
  smxpy_state *state = PyModule_GetState(module);
  if (state) smxpy_state_clear(state);
  return 0;
}

static void free_module(void *module) { clear_module(module); }

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)(uintptr_t)&execute_module},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "swiftmax._core",
    .m_doc = "The functions of swiftmax, on NumPy arrays.",
    .m_size = sizeof(smxpy_state),
    .m_methods = methods,
    .m_slots = slots,
    .m_clear = clear_module,
    .m_free = free_module,
};

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }
