/* merge_attention: two results of attention, over different keys, become one. */
#include "_core.h"

/* Up to this many elements a call ends within about 2 microseconds (_core_operations.c says what
 * giving the GIL up costs). */
enum { GIL_THRESHOLD = 4096 };

typedef struct call {
  smxpy_operand out_a, lse_a, out_b, lse_b;
  smxpy_operand out, lse;
  smx_layout layout;
} call;

static void clear(call *c) {
  smxpy_operand *const all[] = {&c->out_a, &c->lse_a, &c->out_b, &c->lse_b, &c->out, &c->lse};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) smxpy_operand_clear(all[i]);
}

static int take_arguments(call *c, PyObject *const given[SMXPY_NAMES]) {
  int layout = smxpy_choice(given[SMXPY_LAYOUT], "layout", "BHLD", "BLHD");
  if (layout < 0) return -1;
  c->layout = layout ? SMX_BLHD : SMX_BHLD;
  if (smxpy_floats(&c->out_a, given[SMXPY_OUT_A], "out_a") < 0 ||
      smxpy_floats(&c->out_b, given[SMXPY_OUT_B], "out_b") < 0)
    return -1;
  smx_dtype dtype = c->out_a.tensor.dtype;
  if (smxpy_lse(&c->lse_a, given[SMXPY_LSE_A], "lse_a", dtype) < 0 ||
      smxpy_lse(&c->lse_b, given[SMXPY_LSE_B], "lse_b", dtype) < 0)
    return -1;
  return smxpy_out(&c->out, given[SMXPY_OUT], "out_a");
}

/* A fresh array in C order of the shape and dtype of another. */
static int take_like(smxpy_operand *operand, const smxpy_operand *x) {
  PyObject *fresh = smxpy_new_like(x->array, x->tensor.ndim, smxpy_dims(x));
  return smxpy_operand_take(operand, fresh);
}

static int make_results(call *c) {
  if (!c->out.array && take_like(&c->out, &c->out_a) < 0) return -1;
  return take_like(&c->lse, &c->lse_a);
}

static smx_status run_now(const call *c, const smx_tensor *out) {
  return smx_merge_attention(&c->out_a.tensor, &c->lse_a.tensor, &c->out_b.tensor, &c->lse_b.tensor,
                             out, &c->lse.tensor, c->layout);
}

static smx_status run(const void *which, const smx_tensor *out) {
  const call *c = which;
  if (PyArray_SIZE(c->out_a.array) <= GIL_THRESHOLD) return run_now(c, out);
  smx_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = run_now(c, out);
  Py_END_ALLOW_THREADS;
  return status;
}

static int execute(const call *c) {
  const smxpy_operand *const inputs[] = {&c->out_a, &c->lse_a, &c->out_b, &c->lse_b};
  return smxpy_execute(run, c, &c->out, inputs, sizeof inputs / sizeof *inputs);
}

PyObject *smxpy_merge_attention(PyObject *module, PyObject *const *args, Py_ssize_t count,
                                PyObject *keywords) {
  static const smxpy_signature signature = {
      "merge_attention", SMXPY_OUT_A, 4, 4,
      1 << SMXPY_OUT_A | 1 << SMXPY_LSE_A | 1 << SMXPY_OUT_B | 1 << SMXPY_LSE_B | 1 << SMXPY_OUT |
          UINT64_C(1) << SMXPY_LAYOUT};
  PyObject *given[SMXPY_NAMES];
  if (smxpy_parse(PyModule_GetState(module), &signature, args, count, keywords, given) < 0)
    return NULL;
  call c = {0};
  PyObject *result = NULL;
  if (take_arguments(&c, given) == 0 && make_results(&c) == 0 && execute(&c) == 0)
    result = PyTuple_Pack(2, (PyObject *)c.out.array, (PyObject *)c.lse.array);
  clear(&c);
  return result;
}
