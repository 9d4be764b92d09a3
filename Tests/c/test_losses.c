/* cross-entropy and its kin: values against long double, layouts, guard pages, and every error with
 * all outputs untouched. */
#include <sys/mman.h>
#include <unistd.h>

#include "view.h"

/* -- values ------------------------------------------------------------------------------------ */

typedef struct problem {
  view x, loss, lse, grad, mask, soft;
  int64_t rows, cols, *targets;
  smx_tensor classes;
  int64_t row_shape[1];
} problem;

static void make(problem *p, smx_dtype dtype, int64_t rows, int64_t cols, uint64_t seed,
                 uint64_t layout) {
  smx_dtype wide = dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32;
  int64_t shape[2] = {rows, cols};
  *p = (problem){.rows = rows, .cols = cols, .row_shape = {rows}};
  view_make(&p->x, dtype, 2, shape, layout, 0);
  view_make(&p->grad, dtype, 2, shape, layout ? layout + 7 : 0, 0);
  view_make(&p->mask, SMX_BOOL, 2, shape, layout ? layout + 8 : 0, 0);
  view_make(&p->soft, wide, 2, shape, layout ? layout + 9 : 0, 0);
  view_make(&p->loss, wide, 1, shape, layout, 0);
  view_make(&p->lse, wide, 1, shape, layout ? layout + 1 : 0, 0);
  p->targets = malloc(8 * (size_t)rows);
  if (!p->targets) abort();
  for (int64_t r = 0; r < rows; r++) {
    p->targets[r] = random_below(&seed, cols);
    for (int64_t k = 0; k < cols; k++) {
      const int64_t index[2] = {r, k};
      store_as(dtype, place_of(&p->x.tensor, index), random_between(&seed, -4, 4));
      store_as(wide, place_of(&p->soft.tensor, index), k == p->targets[r]);
      *place_of(&p->mask.tensor, index) = k == p->targets[r] || random_below(&seed, 4) != 0;
    }
  }
  p->classes = (smx_tensor){p->targets, SMX_INT64, 1, p->row_shape, NULL};
}

static void release(problem *p) {
  view *const all[] = {&p->x, &p->grad, &p->mask, &p->soft, &p->loss, &p->lse};
  for (int i = 0; i < 6; i++) view_free(all[i]);
  free(p->targets);
}

/* Loss, lse and gradient of each row from their definitions. */
static void check_values(const problem *p, int masked, int soft) {
  smx_dtype dtype = p->x.tensor.dtype, wide = p->loss.tensor.dtype;
  long double bits = ldexpl(1, dtype == SMX_FLOAT64 ? -50 : -21);
  long double narrow = dtype == SMX_FLOAT16    ? ldexpl(1, -11)
                       : dtype == SMX_BFLOAT16 ? ldexpl(1, -8)
                                               : 0;
  for (int64_t r = 0; r < p->rows; r++) {
    long double sum = 0, most = -INFINITY;
    for (int pass = 0; pass < 2; pass++) {
      for (int64_t k = 0; k < p->cols; k++) {
        const int64_t index[2] = {r, k};
        if (masked && !*place_of(&p->mask.tensor, index)) continue;
        long double v = load_as(dtype, place_of(&p->x.tensor, index));
        if (pass) sum += expl(v - most);
        else if (v > most) most = v;
      }
    }
    long double lse = most + logl(sum);
    const int64_t at[2] = {r, p->targets[r]};
    long double loss = lse - load_as(dtype, place_of(&p->x.tensor, at));
    double got = load_as(wide, place_of(&p->loss.tensor, &r));
    CHECK(fabsl(got - loss) <= 2 * ulp_of(wide, (double)loss) + 1e-18L,
          "loss of row %d is %.17g, not %.17Lg", (int)r, got, loss);
    got = load_as(wide, place_of(&p->lse.tensor, &r));
    CHECK(fabsl(got - lse) <= ulp_of(wide, fmax(fabs((double)lse), fabs((double)most))) + 1e-18L,
          "lse of row %d is %.17g, not %.17Lg", (int)r, got, lse);
    for (int64_t k = 0; k < p->cols; k++) {
      const int64_t index[2] = {r, k};
      int is_shown = !masked || *place_of(&p->mask.tensor, index);
      long double share = is_shown ? expl(load_as(dtype, place_of(&p->x.tensor, index)) - lse) : 0;
      long double want = share - (k == p->targets[r]),
                  size = soft ? share + (k == p->targets[r]) : fabsl(want);
      got = load_as(dtype, place_of(&p->grad.tensor, index));
      CHECK(fabsl(got - want) <=
                bits * size + narrow * fabsl(want) + ldexpl(1, dtype == SMX_FLOAT16 ? -25 : -149),
            "gradient at %d, %d is %.17g, not %.17Lg", (int)r, (int)k, got, want);
    }
  }
}

static void check_layouts(smx_dtype dtype, int64_t cols, int masked, int soft) {
  problem plain, other;
  for (uint64_t layout = 0; layout < (is_light() ? 4 : 12); layout++) {
    DESCRIBE("cross-entropy of %s, %d classes%s%s, layout %d", name_of(dtype), (int)cols,
             masked ? ", masked" : "", soft ? ", probabilities" : "", (int)layout);
    problem *p = layout ? &other : &plain;
    make(p, dtype, 6, cols, 17, layout);
    smx_cross_entropy_options options = {.size = sizeof options,
                                         .reduction = SMX_NONE,
                                         .mask = masked ? &p->mask.tensor : NULL,
                                         .lse = &p->lse.tensor,
                                         .grad = &p->grad.tensor};
    const smx_tensor *targets = soft ? &p->soft.tensor : &p->classes;
    CHECK(smx_cross_entropy(&p->x.tensor, targets, &p->loss.tensor, &options) == SMX_OK, "%s",
          smx_last_error());
    CHECK(bytes_spoilt(&p->loss) + bytes_spoilt(&p->lse) + bytes_spoilt(&p->grad) == 0,
          "bytes beside a result were written");
    if (layout == 0) {
      check_values(p, masked, soft);
      continue;
    }
    const view *const got[] = {&p->loss, &p->lse, &p->grad}, *const want[] = {&plain.loss,
                                                                              &plain.lse,
                                                                              &plain.grad};
    for (int i = 0; i < 3; i++) {
      size_t size = size_of(got[i]->tensor.dtype);
      void *a = malloc(size * (size_t)got[i]->count), *b = malloc(size * (size_t)want[i]->count);
      view_read(got[i], a);
      view_read(want[i], b);
      same_bits(i == 0 ? "loss" : i == 1 ? "lse" : "gradient", size, a, b, got[i]->count);
      free(a);
      free(b);
    }
    release(p);
  }
  release(&plain);
}

/* -- guard pages ------------------------------------------------------------------------------- */

/* `bytes` that end where a page begins that must not be touched, or begin where one ends. */
static void *guarded(size_t bytes, int at_end) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (bytes + page - 1) / page * page;
  char *room = mmap(NULL, whole + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED || mprotect(room + page, whole, PROT_READ | PROT_WRITE) != 0) abort();
  return room + page + (at_end ? whole - bytes : 0);
}

static void free_guarded(void *p, size_t bytes) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (bytes + page - 1) / page * page;
  munmap((char *)((uintptr_t)p / page * page) - page, whole + 2 * page);
}

static void check_guarded(smx_dtype dtype, int64_t cols, int at_end, int in_place) {
  DESCRIBE("guard pages: %s, %d classes, %s%s", name_of(dtype), (int)cols, at_end ? "end" : "start",
           in_place ? ", in place" : "");
  smx_dtype wide = dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32;
  size_t bytes = 2 * (size_t)cols * size_of(dtype), row_bytes = 2 * size_of(wide),
         probabilities = 2 * (size_t)cols * size_of(wide);
  char *x = guarded(bytes, at_end), *grad = in_place ? x : guarded(bytes, at_end);
  char *loss = guarded(row_bytes, at_end), *lse = guarded(row_bytes, at_end),
       *y = guarded(probabilities, at_end);
  int64_t *targets = guarded(16, at_end), shape[2] = {2, cols};
  char *weight = guarded((size_t)cols * size_of(wide), at_end),
       *mask = guarded(2 * (size_t)cols, at_end);
  for (int64_t i = 0; i < 2 * cols; i++) {
    store_as(dtype, x + i * size_of(dtype), (double)(i % 7));
    store_as(wide, y + i * size_of(wide), 0.5);
    mask[i] = i % 3 != 1;
  }
  for (int64_t k = 0; k < cols; k++) store_as(wide, weight + k * size_of(wide), 1);
  targets[0] = cols - 1;
  targets[1] = 0;
  smx_tensor logits = {x, dtype, 2, shape, NULL}, gradient = {grad, dtype, 2, shape, NULL};
  smx_tensor classes = {targets, SMX_INT64, 1, shape, NULL}, soft = {y, wide, 2, shape, NULL};
  smx_tensor losses = {loss, wide, 1, shape, NULL}, lses = {lse, wide, 1, shape, NULL};
  smx_tensor weights = {weight, wide, 1, shape + 1, NULL},
             hidden = {mask, SMX_BOOL, 2, shape, NULL};
  for (int with = 0; with < 8; with++) {
    smx_cross_entropy_options options = {.size = sizeof options,
                                         .reduction = SMX_NONE,
                                         .label_smoothing = with & 4 ? 0.1 : 0,
                                         .weight = with & 1 ? &weights : NULL,
                                         .mask = with & 2 ? &hidden : NULL,
                                         .lse = &lses,
                                         .grad = &gradient};
    CHECK(smx_cross_entropy(&logits, &classes, &losses, &options) == SMX_OK, "%s",
          smx_last_error());
    CHECK(smx_cross_entropy(&logits, &soft, &losses, &options) == SMX_OK, "%s", smx_last_error());
  }
  smx_divergence_options options = {.size = sizeof options};
  smx_tensor p = {x, dtype, 2, shape, NULL};
  CHECK(smx_kl_divergence(&p, &p, &losses, &options) == SMX_OK, "%s", smx_last_error());
  options.p_is_logits = 1;
  CHECK(smx_entropy(&p, &losses, &options) == SMX_OK, "%s", smx_last_error());
  if (!in_place) free_guarded(grad, bytes);
  free_guarded(x, bytes);
  free_guarded(loss, row_bytes);
  free_guarded(lse, row_bytes);
  free_guarded(y, probabilities);
  free_guarded(targets, 16);
  free_guarded(weight, (size_t)cols * size_of(wide));
  free_guarded(mask, 2 * (size_t)cols);
}

/* -- errors ------------------------------------------------------------------------------------ */

static float x[12], loss[4], lse[4], grad[12], soft[12], weight[4];
static int64_t targets[3];

static void reset_outputs(void) {
  for (int i = 0; i < 12; i++) grad[i] = loss[i % 4] = lse[i % 4] = 7;
}

static void expect(const char *place, smx_status got, smx_status want, const char *const *words) {
  const char *sentence = smx_last_error();
  check(got == want, place, "status %d (%s), not %d: %s", got, smx_status_string(got), want,
        sentence);
  for (; got == want && *words; words++)
    check(strstr(sentence, *words) != NULL, place, "\"%s\" does not say \"%s\"", sentence, *words);
  int untouched = 1;
  for (int i = 0; i < 12; i++)
    untouched &= grad[i] == 7 && (i > 3 || (loss[i] == 7 && lse[i] == 7));
  check(untouched, place, "an output was written: %s", sentence);
  reset_outputs();
}
#define EXPECT(call, want, ...) \
  expect(__FILE__ ":" CHECK_TEXT(__LINE__), call, want, (const char *const[]){__VA_ARGS__, NULL})

static void check_errors(void) {
  DESCRIBE("errors");
  reset_outputs();
  const int64_t shape[2] = {3, 4}, other[2] = {3, 5}, none[2] = {0, 4};
  const int32_t last = 1, beyond = 2;
  smx_tensor logits = {x, SMX_FLOAT32, 2, shape, NULL},
             classes = {targets, SMX_INT64, 1, shape, NULL};
  smx_tensor mean = {loss, SMX_FLOAT32, 0, NULL, NULL}, rows = {loss, SMX_FLOAT32, 1, shape, NULL};
  smx_tensor lses = {lse, SMX_FLOAT32, 1, shape, NULL},
             gradient = {grad, SMX_FLOAT32, 2, shape, NULL};
  smx_tensor y = {soft, SMX_FLOAT32, 2, shape, NULL}, w = {weight, SMX_FLOAT32, 1, shape + 1, NULL};
  const smx_cross_entropy_options good = {
      .size = sizeof good, .axis = &last, .weight = &w, .lse = &lses, .grad = &gradient};
  smx_cross_entropy_options o = good;
  smx_tensor t;
#define WITH(...) (o = good, __VA_ARGS__, &o)
#define CHANGED(tensor, change) (t = tensor, t.change, &t)
#define CALL(options) smx_cross_entropy(&logits, &classes, &mean, options)
  EXPECT(smx_cross_entropy(NULL, &classes, &mean, &good), SMX_ERROR_NULL, "logits is NULL");
  EXPECT(smx_cross_entropy(&logits, NULL, &mean, &good), SMX_ERROR_NULL, "targets is NULL");
  EXPECT(smx_cross_entropy(&logits, &classes, NULL, &good), SMX_ERROR_NULL, "loss is NULL");
  EXPECT(smx_nll(NULL, &classes, &mean, NULL), SMX_ERROR_NULL, "log_probs is NULL");
  EXPECT(smx_perplexity(&logits, &classes, NULL, NULL), SMX_ERROR_NULL, "out is NULL");
  EXPECT(CALL(WITH(o.size = 8)), SMX_ERROR_SIZE, "options.size", "8");
  EXPECT(smx_cross_entropy(CHANGED(logits, dtype = SMX_INT32), &classes, &mean, &good),
         SMX_ERROR_DTYPE, "logits", "int32");
  EXPECT(smx_cross_entropy(CHANGED(logits, ndim = 0), &classes, &mean, NULL), SMX_ERROR_AXIS,
         "axis -1");
  EXPECT(smx_cross_entropy(&logits, CHANGED(classes, dtype = SMX_BOOL), &mean, &good),
         SMX_ERROR_DTYPE, "targets", "bool");
  EXPECT(smx_cross_entropy(&logits, CHANGED(y, dtype = SMX_FLOAT64), &mean, &good), SMX_ERROR_DTYPE,
         "targets", "float64");
  EXPECT(smx_cross_entropy(&logits, &classes, CHANGED(mean, dtype = SMX_FLOAT64), &good),
         SMX_ERROR_DTYPE, "loss", "float64");
  EXPECT(smx_cross_entropy(&logits, CHANGED(classes, shape = shape + 1), &mean, &good),
         SMX_ERROR_SHAPE, "targets of shape (4,)", "logits (3, 4)");
  EXPECT(smx_cross_entropy(&logits, CHANGED(y, shape = other), &mean, &good), SMX_ERROR_SHAPE,
         "targets of shape (3, 5)");
  EXPECT(smx_cross_entropy(&logits, &classes, &rows, &good), SMX_ERROR_SHAPE, "loss of shape (3,)",
         "no axis");
  EXPECT(CALL(WITH(o.reduction = SMX_NONE)), SMX_ERROR_SHAPE, "loss of shape ()");
  EXPECT(CALL(WITH(o.reduction = 3)), SMX_ERROR_VALUE, "reduction is 3");
  EXPECT(CALL(WITH(o.axis = &beyond)), SMX_ERROR_AXIS, "axis 2", "(3, 4)");
  EXPECT(CALL(WITH(o.temperature = -1)), SMX_ERROR_VALUE, "temperature");
  EXPECT(CALL(WITH(o.temperature = NAN)), SMX_ERROR_VALUE, "temperature");
  EXPECT(CALL(WITH(o.label_smoothing = 1.01)), SMX_ERROR_VALUE, "label_smoothing");
  EXPECT(CALL(WITH(o.z_loss = NAN)), SMX_ERROR_VALUE, "z_loss");
  EXPECT(CALL(WITH(o.weight = CHANGED(w, shape = shape))), SMX_ERROR_SHAPE, "weight of shape (3,)");
  EXPECT(CALL(WITH(o.weight = CHANGED(w, dtype = SMX_FLOAT64))), SMX_ERROR_DTYPE, "weight",
         "float64");
  EXPECT(CALL(WITH(o.mask = CHANGED(y, dtype = SMX_INT32))), SMX_ERROR_DTYPE, "mask", "int32");
  EXPECT(CALL(WITH(o.mask = CHANGED(rows, dtype = SMX_BOOL))), SMX_ERROR_SHAPE,
         "mask of shape (3,)");
  EXPECT(CALL(WITH(o.grad_scale = CHANGED(w, data = soft))), SMX_ERROR_SHAPE,
         "grad_scale of shape (4,)");
  EXPECT(CALL(WITH(o.lse = CHANGED(lses, dtype = SMX_FLOAT64))), SMX_ERROR_DTYPE, "lse");
  EXPECT(CALL(WITH(o.lse = CHANGED(lses, shape = shape + 1))), SMX_ERROR_SHAPE,
         "lse of shape (4,)");
  EXPECT(CALL(WITH(o.grad = CHANGED(gradient, dtype = SMX_FLOAT16))), SMX_ERROR_DTYPE, "grad",
         "float16");
  EXPECT(CALL(WITH(o.grad = CHANGED(gradient, shape = other))), SMX_ERROR_SHAPE,
         "grad of shape (3, 5)");
  EXPECT(CALL(WITH(o.grad = CHANGED(gradient, data = grad + 1),
                   o.lse = CHANGED(lses, data = grad + 2), o.grad = &gradient)),
         SMX_ERROR_OVERLAP, "grad", "lse");
  EXPECT(CALL(WITH(o.grad = CHANGED(gradient, data = x + 1))), SMX_ERROR_OVERLAP, "grad", "logits");
  EXPECT(CALL(WITH(o.lse = CHANGED(lses, data = weight))), SMX_ERROR_OVERLAP, "lse", "weight");
  const int64_t zero[2] = {0, 4};
  EXPECT(CALL(WITH(o.grad = CHANGED(gradient, strides = zero))), SMX_ERROR_OVERLAP, "grad",
         "stride 0");
  targets[1] = 4;
  EXPECT(CALL(&good), SMX_ERROR_VALUE, "row 1", "is 4", "4 classes", "-100");
  targets[1] = -2;
  EXPECT(CALL(&good), SMX_ERROR_VALUE, "row 1", "is -2");
  targets[1] = 0;
  EXPECT(smx_cross_entropy(&logits, &y, &mean, WITH(o.has_ignore_index = 1, o.ignore_index = 3)),
         SMX_ERROR_VALUE, "ignore_index is 3");
  EXPECT(smx_nll(&logits, &classes, &mean, WITH(o.lse = NULL)), SMX_ERROR_VALUE,
         "grad is no option of smx_nll");
  EXPECT(smx_nll(&logits, &classes, &mean, WITH(o.lse = NULL, o.grad = NULL, o.temperature = 2)),
         SMX_ERROR_VALUE, "temperature");
  EXPECT(
      smx_perplexity(&logits, &classes, &mean, WITH(o.lse = o.grad = NULL, o.reduction = SMX_SUM)),
      SMX_ERROR_VALUE, "reduction is no option of smx_perplexity");
  EXPECT(smx_perplexity(&logits, &classes, &mean,
                        WITH(o.lse = o.grad = NULL, o.label_smoothing = 0.5)),
         SMX_ERROR_VALUE, "label_smoothing");
  /* Empty is no error, and its pointers may be NULL. */
  smx_tensor empty = {NULL, SMX_FLOAT32, 2, none, NULL}, of_none = {NULL, SMX_INT32, 1, none, NULL};
  smx_tensor row_none = {NULL, SMX_FLOAT32, 1, none, NULL};
  EXPECT(smx_cross_entropy(&empty, &of_none, &row_none,
                           WITH(o.reduction = SMX_NONE, o.lse = &row_none, o.grad = &empty)),
         SMX_OK, "");
  CHECK(smx_cross_entropy(&empty, &of_none, &mean, NULL) == SMX_OK && loss[0] == 0,
        "the mean of no rows");
  loss[0] = 7;

  smx_divergence_options d = {.size = 3};
  EXPECT(smx_entropy(&logits, &rows, &d), SMX_ERROR_SIZE, "options.size", "3");
  EXPECT(smx_entropy(NULL, &rows, NULL), SMX_ERROR_NULL, "p is NULL");
  EXPECT(smx_entropy(&logits, NULL, NULL), SMX_ERROR_NULL, "out is NULL");
  EXPECT(smx_entropy(&logits, &mean, NULL), SMX_ERROR_SHAPE, "out of shape ()");
  EXPECT(smx_entropy(&logits, CHANGED(rows, dtype = SMX_FLOAT64), NULL), SMX_ERROR_DTYPE, "out");
  EXPECT(smx_entropy(&logits, CHANGED(rows, data = x), NULL), SMX_ERROR_OVERLAP, "out", "p");
  EXPECT(smx_kl_divergence(&logits, NULL, &rows, NULL), SMX_ERROR_NULL, "q is NULL");
  EXPECT(smx_kl_divergence(&logits, CHANGED(y, shape = other), &rows, NULL), SMX_ERROR_SHAPE,
         "q of shape (3, 5)");
  EXPECT(smx_kl_divergence(&logits, CHANGED(y, dtype = SMX_FLOAT16), &rows, NULL), SMX_ERROR_DTYPE,
         "q", "float16");
  EXPECT(smx_kl_divergence(&logits, &y, CHANGED(rows, data = soft), NULL), SMX_ERROR_OVERLAP, "out",
         "q");
}

int main(void) {
  check_errors();
  for (int d = 0; d < 4; d++) {
    static const int64_t lengths[] = {1, 15, 16, 17, 64, 65, 130, 4097};
    for (int i = 0; i < (is_light() ? 6 : 8); i++) {
      for (int options = 0; options < 4; options++)
        if (lengths[i] < 4000 || options == 0)
          check_layouts(float_dtypes[d], lengths[i], options & 1, options >> 1);
      for (int place = 0; place < 4; place++)
        check_guarded(float_dtypes[d], lengths[i], place & 1, place >> 1);
    }
  }
  return finish("losses");
}
