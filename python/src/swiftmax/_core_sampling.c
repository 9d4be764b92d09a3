/* sample, filtered_softmax, top_k, gumbel_softmax: the calls themselves. _sampling.py, which has
 * the public functions, makes the arrays. */
#include "_core.h"

/* Up to this many elements a call ends within about 2 microseconds (_core_operations.c says what
 * giving the GIL up costs). */
enum { GIL_THRESHOLD = 2048 };

enum {
  LOGITS,
  OUT,
  BESIDE, /* log_probs, indices */
  TEMPERATURE,
  TOP_K,
  TOP_P,
  MIN_P,
  MASK,
  COUNTER,
  DRAW,
  OPERANDS
};

typedef struct call {
  smxpy_operand of[OPERANDS];
  uint64_t seed;
  int32_t flag; /* log, hard */
  smx_status (*run)(const struct call *call, const smx_tensor *out);
} call;

static const smx_tensor *tensor(const call *c, int which) {
  return c->of[which].array ? &c->of[which].tensor : NULL;
}

static smx_status run_sample(const call *c, const smx_tensor *out) {
  smx_sample_options options = {.size = sizeof options,
                                .temperature = tensor(c, TEMPERATURE),
                                .top_k = tensor(c, TOP_K),
                                .top_p = tensor(c, TOP_P),
                                .min_p = tensor(c, MIN_P),
                                .mask = tensor(c, MASK),
                                .seed = c->seed,
                                .counter = tensor(c, COUNTER),
                                .draw = tensor(c, DRAW),
                                .log_probs = tensor(c, BESIDE)};
  return smx_sample(tensor(c, LOGITS), out, &options);
}

static smx_status run_filtered_softmax(const call *c, const smx_tensor *out) {
  smx_filter_options options = {.size = sizeof options,
                                .temperature = tensor(c, TEMPERATURE),
                                .top_k = tensor(c, TOP_K),
                                .top_p = tensor(c, TOP_P),
                                .min_p = tensor(c, MIN_P),
                                .mask = tensor(c, MASK)};
  return smx_filtered_softmax(tensor(c, LOGITS), out, &options);
}

static smx_status run_top_k(const call *c, const smx_tensor *out) {
  smx_top_k_options options = {.size = sizeof options,
                               .temperature = tensor(c, TEMPERATURE),
                               .mask = tensor(c, MASK),
                               .log = c->flag};
  return smx_top_k(tensor(c, LOGITS), out, tensor(c, BESIDE), &options);
}

static smx_status run_gumbel_softmax(const call *c, const smx_tensor *out) {
  smx_gumbel_softmax_options options = {.size = sizeof options,
                                        .temperature = tensor(c, TEMPERATURE),
                                        .mask = tensor(c, MASK),
                                        .seed = c->seed,
                                        .counter = tensor(c, COUNTER),
                                        .draw = tensor(c, DRAW),
                                        .hard = c->flag};
  return smx_gumbel_softmax(tensor(c, LOGITS), out, &options);
}

static smx_status run(const void *which, const smx_tensor *out) {
  const call *c = which;
  if (PyArray_SIZE(c->of[LOGITS].array) <= GIL_THRESHOLD) return c->run(c, out);
  smx_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = c->run(c, out);
  Py_END_ALLOW_THREADS;
  return status;
}

/* Takes the arrays, None where absent, in the order of `which`, which ends with OPERANDS; behind
 * them a seed and a flag where asked for. */
static PyObject *execute(call *c, const int *which, int has_seed, int has_flag,
                         PyObject *const *args, Py_ssize_t count) {
  int arrays = 0;
  while (which[arrays] != OPERANDS) arrays++;
  PyObject *result = NULL;
  if (count != arrays + has_seed + has_flag) {
    PyErr_SetString(PyExc_SystemError,
                    "swiftmax: wrong number of arguments for a private function");
    return NULL;
  }
  for (int i = 0; i < arrays; i++) {
    if (which[i] == OUT) {
      if (smxpy_out(&c->of[OUT], args[i], "logits") < 0) goto end;
      continue;
    }
    if (smxpy_is_absent(args[i])) continue;
    Py_INCREF(args[i]);
    if (smxpy_operand_take(&c->of[which[i]], args[i]) < 0) goto end;
  }
  if (has_seed) {
    c->seed = PyLong_AsUnsignedLongLong(args[arrays]);
    if (c->seed == (uint64_t)-1 && PyErr_Occurred()) goto end;
  }
  if (has_flag) {
    c->flag = smxpy_flag(args[arrays + has_seed], "flag");
    if (c->flag < 0) goto end;
  }
  const smxpy_operand *inputs[OPERANDS];
  int of_inputs = 0;
  for (int i = 0; i < OPERANDS; i++)
    if (i != OUT && i != BESIDE) inputs[of_inputs++] = &c->of[i];
  if (smxpy_execute(run, c, &c->of[OUT], inputs, of_inputs) == 0) {
    result = Py_None;
    Py_INCREF(result);
  }
end:
  for (int i = 0; i < OPERANDS; i++) smxpy_operand_clear(&c->of[i]);
  return result;
}

PyObject *smxpy_sample(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  static const int which[] = {LOGITS, OUT,   BESIDE, TEMPERATURE, TOP_K,   TOP_P,
                              MIN_P,  MASK, COUNTER, DRAW,        OPERANDS};
  call c = {.run = run_sample};
  return execute(&c, which, 1, 0, args, count);
}

PyObject *smxpy_filtered_softmax(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  static const int which[] = {LOGITS, OUT, TEMPERATURE, TOP_K, TOP_P, MIN_P, MASK, OPERANDS};
  call c = {.run = run_filtered_softmax};
  return execute(&c, which, 0, 0, args, count);
}

PyObject *smxpy_top_k(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  static const int which[] = {LOGITS, OUT, BESIDE, TEMPERATURE, MASK, OPERANDS};
  call c = {.run = run_top_k};
  return execute(&c, which, 0, 1, args, count);
}

PyObject *smxpy_gumbel_softmax(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  static const int which[] = {LOGITS, OUT, TEMPERATURE, MASK, COUNTER, DRAW, OPERANDS};
  call c = {.run = run_gumbel_softmax};
  return execute(&c, which, 1, 1, args, count);
}
