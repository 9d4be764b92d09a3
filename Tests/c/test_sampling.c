/* Sampling: the known answers of Philox; every error, with outputs untouched; any layout, guard
 * pages on both sides, one row alone and in place, all with the bits of plain memory. What tokens
 * should be, python/tests/test_sampling.py knows. */
#include <sys/mman.h>
#include <unistd.h>

#include "view.h"

enum { SEED = 7, SIZE = 3 };

/* -- Philox ------------------------------------------------------------------------------------ */

static void check_philox(void) {
  /* kat_vectors of Random123 (D. E. Shaw Research), lines "philox4x32 10": counter, key, result. */
  static const uint32_t known[3][10] = {
      {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
      {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d,
       0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
      {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
       0x94fdcceb, 0x5001e420, 0x24126ea1}};
  for (int i = 0; i < 3; i++) {
    uint32_t out[4];
    DESCRIBE("philox, vector %d", i);
    CHECK(smx_philox(known[i], known[i] + 4, out) == SMX_OK, "status");
    same_bits("philox", 4, out, known[i] + 6, 4);
    CHECK(smx_philox(NULL, out, out) == SMX_ERROR_NULL &&
              smx_philox(out, NULL, out) == SMX_ERROR_NULL &&
              smx_philox(out, out, NULL) == SMX_ERROR_NULL,
          "NULL");
  }
}

/* -- the calls, by number ---------------------------------------------------------------------- */

enum { SAMPLE, FILTERED, TOP_K, GUMBEL, HARD, CALLS };
static const char *const call_names[CALLS] = {"sample", "filtered_softmax", "top_k",
                                              "gumbel_softmax", "hard"};

/* Which filters a call takes: one for all rows. */
typedef struct filters {
  double temperature, top_p, min_p;
  int64_t top_k;
} filters;

typedef struct tensors {
  const smx_tensor *x, *out, *beside, *mask, *counter, *draw, *temperature, *top_k, *top_p, *min_p;
} tensors;

static smx_tensor number(const void *value, smx_dtype dtype) {
  return (smx_tensor){.data = (void *)(uintptr_t)value, .dtype = dtype};
}

static smx_status call(int which, const tensors *t) {
  smx_sample_options sample = {.size = sizeof sample, .temperature = t->temperature,
                               .top_k = t->top_k, .top_p = t->top_p, .min_p = t->min_p,
                               .mask = t->mask, .seed = SEED, .counter = t->counter,
                               .draw = t->draw, .log_probs = t->beside};
  smx_filter_options filter = {.size = sizeof filter, .temperature = t->temperature,
                               .top_k = t->top_k, .top_p = t->top_p, .min_p = t->min_p,
                               .mask = t->mask};
  smx_top_k_options top_k = {.size = sizeof top_k, .temperature = t->temperature,
                             .mask = t->mask};
  smx_gumbel_softmax_options gumbel = {.size = sizeof gumbel, .temperature = t->temperature,
                                       .mask = t->mask, .seed = SEED, .counter = t->counter,
                                       .draw = t->draw, .hard = which == HARD};
  switch (which) {
    case SAMPLE: return smx_sample(t->x, t->out, &sample);
    case FILTERED: return smx_filtered_softmax(t->x, t->out, &filter);
    case TOP_K: return smx_top_k(t->x, t->out, t->beside, &top_k);
    default: return smx_gumbel_softmax(t->x, t->out, &gumbel);
  }
}

/* dtype and length of the last axis of a call's two results; 0 where there is no second one. */
static void results_of(int which, smx_dtype x, int64_t cols, smx_dtype dtypes[2],
                       int64_t lengths[2]) {
  int64_t most = cols % 2 ? 5 : 12; /* those that are searched one by one, and more of them */
  int64_t k = cols < most ? cols : most;
  dtypes[0] = which == SAMPLE ? SMX_INT64 : x;
  lengths[0] = which == SAMPLE ? SIZE : which == TOP_K ? k : cols;
  dtypes[1] = which == SAMPLE ? SMX_FLOAT64 : which == TOP_K ? SMX_INT64 : 0;
  lengths[1] = dtypes[1] ? lengths[0] : 0;
}

static const filters all_filters[] = {{1, 1, 0, 0},   {0.8, 0.9, 0, 50},    {1.5, 0.7, 0, 0},
                                      {1, 1, 0.1, 0}, {1, 0.9, 0.01, 1100}, {0, 1, 0, 0}};
enum { FILTERS = sizeof all_filters / sizeof *all_filters };

typedef struct given {
  smx_tensor temperature, top_p, min_p, top_k;
} given;

static void set_filters(given *g, tensors *t, const filters *f) {
  *g = (given){number(&f->temperature, SMX_FLOAT64), number(&f->top_p, SMX_FLOAT64),
               number(&f->min_p, SMX_FLOAT64), number(&f->top_k, SMX_INT64)};
  t->temperature = &g->temperature;
  t->top_p = &g->top_p;
  t->min_p = &g->min_p;
  t->top_k = &g->top_k;
}

/* -- layouts ----------------------------------------------------------------------------------- */

enum { ROWS = 3 };

static void check_layouts(int which, smx_dtype dtype, int64_t cols, int with_mask) {
  int64_t shape[3] = {1, ROWS, cols};
  uint64_t seed = (uint64_t)(which * 1000 + cols * 7 + dtype);
  view x, mask, out[2], plain[2];
  smx_dtype dtypes[2];
  int64_t lengths[2];
  results_of(which, dtype, cols, dtypes, lengths);
  view_make(&x, dtype, 3, shape, 0, 0);
  view_make(&mask, SMX_BOOL, 3, shape, 0, 0);
  for (int64_t i = 0; i < x.count; i++) {
    store_as(dtype, (char *)x.tensor.data + (size_t)i * size_of(dtype),
             random_between(&seed, -6, 6));
    ((unsigned char *)mask.tensor.data)[i] = i % cols == 0 || random_below(&seed, 4) != 0;
  }
  for (int f = 0; f < FILTERS; f++) {
    given g;
    tensors t = {.x = &x.tensor, .mask = with_mask ? &mask.tensor : NULL};
    set_filters(&g, &t, &all_filters[f]);
    for (int r = 0; r < 2; r++) {
      int64_t of[3] = {1, ROWS, lengths[r]};
      view_make(&plain[r], dtypes[r] ? dtypes[r] : dtype, 3, of, 0, 0);
    }
    t.out = &plain[0].tensor;
    t.beside = dtypes[1] ? &plain[1].tensor : NULL;
    DESCRIBE("%s of %s, 3 rows of %" PRId64 ", filters %d, mask %d", call_names[which],
             name_of(dtype), cols, f, with_mask);
    smx_status status = call(which, &t);
    CHECK(status == SMX_OK, "status %d: %s", status, smx_last_error());
    for (uint64_t layout = 1; layout < (is_light() ? 3 : 9); layout++) {
      view moved, moved_mask;
      view_copy(&moved, &x, layout * 31 + seed % 1000);
      view_copy(&moved_mask, &mask, layout * 17);
      tensors u = t;
      u.x = &moved.tensor;
      u.mask = with_mask ? &moved_mask.tensor : NULL;
      smx_set_num_threads(1 + (int32_t)layout % 3);
      for (int r = 0; r < 2; r++) {
        int64_t of[3] = {1, ROWS, lengths[r]};
        view_make(&out[r], dtypes[r] ? dtypes[r] : dtype, 3, of, layout * 13 + (uint64_t)r, 0);
      }
      /* In place, half of the time where that is allowed. */
      int in_place = which != SAMPLE && which != TOP_K && layout % 2;
      u.out = in_place ? &moved.tensor : &out[0].tensor;
      u.beside = dtypes[1] ? &out[1].tensor : NULL;
      status = call(which, &u);
      CHECK(status == SMX_OK, "layout %d, status %d: %s", (int)layout, status, smx_last_error());
      for (int r = 0; r < 2 && dtypes[r]; r++) {
        size_t bytes = (size_t)plain[r].count * size_of(dtypes[r]);
        void *got = malloc(bytes + 1);
        view_read(r == 0 && in_place ? &moved : &out[r], got);
        same_bits(r ? "second result" : "result", size_of(dtypes[r]), got, plain[r].tensor.data,
                  plain[r].count);
        if (!(r == 0 && in_place))
          CHECK(bytes_spoilt(&out[r]) == 0, "bytes beside the output were written");
        free(got);
      }
      view_free(&moved);
      view_free(&moved_mask);
      for (int r = 0; r < 2; r++) view_free(&out[r]);
    }
    smx_set_num_threads(2);
    for (int r = 0; r < 2; r++) view_free(&plain[r]);
  }
  view_free(&x);
  view_free(&mask);
}

/* -- guard pages ------------------------------------------------------------------------------- */

enum { SPACE = 1 << 18 };

/* SPACE bytes between two pages that must not be touched. */
static unsigned char *guarded(void) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  unsigned char *room = mmap(NULL, SPACE + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED || mprotect(room + page, SPACE, PROT_READ | PROT_WRITE) != 0) abort();
  return room + page;
}

/* The results of a row must not depend on where it lies: against the end, or the start, of its
 * memory. */
static void check_guards(int which, smx_dtype dtype, int64_t cols, int with_mask) {
  static unsigned char *x, *mask, *out[2];
  if (!x) x = guarded(), mask = guarded(), out[0] = guarded(), out[1] = guarded();
  size_t size = size_of(dtype), bytes = (size_t)cols * size;
  unsigned char *values = malloc(bytes + 1), *bits = malloc((size_t)cols + 1);
  uint64_t seed = (uint64_t)cols;
  for (int64_t i = 0; i < cols; i++) {
    store_as(dtype, values + (size_t)i * size, random_between(&seed, -3, 3));
    bits[i] = i == 0 || random_below(&seed, 3) != 0;
  }
  smx_dtype dtypes[2];
  int64_t lengths[2];
  results_of(which, dtype, cols, dtypes, lengths);
  for (int f = 0; f < FILTERS; f++) {
    unsigned char *want[2] = {NULL, NULL};
    for (int at_start = 0; at_start < 2; at_start++) {
      DESCRIBE("guards, %s of %s, %" PRId64 " columns, filters %d, mask %d, %s", call_names[which],
               name_of(dtype), cols, f, with_mask, at_start ? "start" : "end");
      unsigned char *own = at_start ? x : x + SPACE - bytes;
      unsigned char *own_mask = at_start ? mask : mask + SPACE - cols;
      memcpy(own, values, bytes);
      memcpy(own_mask, bits, (size_t)cols);
      smx_tensor of_x = {own, dtype, 1, &cols, NULL},
                 of_mask = {own_mask, SMX_BOOL, 1, &cols, NULL}, of_out[2];
      for (int r = 0; r < 2; r++) {
        size_t length = dtypes[r] ? (size_t)lengths[r] * size_of(dtypes[r]) : 0;
        of_out[r] = (smx_tensor){at_start ? out[r] : out[r] + SPACE - length, dtypes[r], 1,
                                 &lengths[r], NULL};
      }
      given g;
      tensors t = {.x = &of_x,
                   .out = &of_out[0],
                   .beside = dtypes[1] ? &of_out[1] : NULL,
                   .mask = with_mask ? &of_mask : NULL};
      set_filters(&g, &t, &all_filters[f]);
      smx_status status = call(which, &t);
      CHECK(status == SMX_OK, "status %d: %s", status, smx_last_error());
      for (int r = 0; r < 2 && dtypes[r]; r++) {
        size_t length = (size_t)lengths[r] * size_of(dtypes[r]);
        if (at_start) same_bits("result", size_of(dtypes[r]), of_out[r].data, want[r], lengths[r]);
        else memcpy(want[r] = malloc(length + 1), of_out[r].data, length);
      }
    }
    free(want[0]);
    free(want[1]);
  }
  free(values);
  free(bits);
}

/* -- errors ------------------------------------------------------------------------------------ */

enum { CANARY_BYTES = 512 };
static unsigned char out_bytes[CANARY_BYTES], beside_bytes[CANARY_BYTES];
static float x_values[2][3] = {{1, 2, 3}, {4, 5, 6}};

static void expect(const char *place, smx_status got, smx_status want, const char *const *words) {
  const char *sentence = smx_last_error();
  check(got == want, place, "status %d, not %d: %s", got, want, sentence);
  for (; got == want && *words; words++)
    check(strstr(sentence, *words) != NULL, place, "\"%s\" does not say \"%s\"", sentence, *words);
  for (int i = 0; i < CANARY_BYTES; i++) {
    if (out_bytes[i] == CANARY && beside_bytes[i] == CANARY) continue;
    check(0, place, "an output was written: %s", sentence);
    break;
  }
  memset(out_bytes, CANARY, CANARY_BYTES);
  memset(beside_bytes, CANARY, CANARY_BYTES);
}

#define EXPECT(want, ...)                                                                          \
  expect(__FILE__ ":" CHECK_TEXT(__LINE__), call(which, &t), want,                                 \
         (const char *const[]){__VA_ARGS__, NULL})

static void check_errors(int which) {
  static const int64_t shape[] = {2, 3}, other[] = {3, 2}, k[] = {2, 2}, two[] = {2}, three[] = {3};
  smx_tensor x = {x_values, SMX_FLOAT32, 2, shape, NULL};
  smx_tensor out = {out_bytes, SMX_FLOAT32, 2, which == TOP_K ? k : shape, NULL};
  smx_tensor beside = {beside_bytes, SMX_INT64, 2, out.shape, NULL};
  if (which == SAMPLE) out = (smx_tensor){out_bytes, SMX_INT64, 1, two, NULL};
  if (which == SAMPLE) beside = (smx_tensor){beside_bytes, SMX_FLOAT64, 1, two, NULL};
  int has_beside = which == SAMPLE || which == TOP_K;
  tensors t = {.x = &x, .out = &out, .beside = has_beside ? &beside : NULL};
  tensors good = t;
  smx_tensor good_x = x, good_out = out, good_beside = beside;
  memset(out_bytes, CANARY, CANARY_BYTES);
  memset(beside_bytes, CANARY, CANARY_BYTES);
  DESCRIBE("errors of %s", call_names[which]);
#define BAD(change, want, ...)                                           \
  do {                                                                   \
    change;                                                              \
    EXPECT(want, __VA_ARGS__);                                           \
    t = good, x = good_x, out = good_out, beside = good_beside;          \
  } while (0)
  const char *name = which == TOP_K ? "probabilities" : "out";
  BAD(t.x = NULL, SMX_ERROR_NULL, "logits is NULL");
  BAD(t.out = NULL, SMX_ERROR_NULL, name, "is NULL");
  BAD(x.data = NULL, SMX_ERROR_NULL, "logits.data");
  BAD(x.dtype = SMX_INT64, SMX_ERROR_DTYPE, "logits", "int64");
  BAD(x.ndim = 0, SMX_ERROR_SHAPE, "logits must have an axis");
  BAD(out.dtype = SMX_BOOL, SMX_ERROR_DTYPE, name, "bool");
  BAD((out.shape = three, out.ndim = 1), SMX_ERROR_SHAPE, name, "(3,)", "logits", "(2, 3)");
  BAD((out.shape = other, out.ndim = 2), SMX_ERROR_SHAPE, name, "(3, 2)", "(2, 3)");
  int64_t zero[2] = {0, 0};
  BAD(out.strides = zero, SMX_ERROR_OVERLAP, name, "stride 0");
  BAD(out.data = (char *)x_values + 4, SMX_ERROR_OVERLAP, name, "overlaps logits");
  if (has_beside) {
    BAD(beside.data = out_bytes, SMX_ERROR_OVERLAP, "overlaps");
    BAD(beside.dtype = SMX_BOOL, SMX_ERROR_DTYPE, "bool");
    BAD((beside.shape = three, beside.ndim = 1), SMX_ERROR_SHAPE, "(3,)");
  }
  if (which == TOP_K) {
    BAD(t.beside = NULL, SMX_ERROR_NULL, "indices is NULL");
    int64_t more[2] = {2, 4};
    BAD(out.shape = beside.shape = more, SMX_ERROR_SHAPE, "probabilities of shape (2, 4)",
        "(2, 3)");
  }
  double bad_temperature = -1;
  smx_tensor temperature = number(&bad_temperature, SMX_FLOAT64);
  BAD(t.temperature = &temperature, SMX_ERROR_VALUE, "temperature must be 0 or more");
  float row_temperatures[3] = {1, 1, 1};
  smx_tensor temperatures = {row_temperatures, SMX_FLOAT32, 1, three, NULL};
  BAD(t.temperature = &temperatures, SMX_ERROR_SHAPE, "temperature", "(3,)", "logits", "(2, 3)");
  smx_tensor mask = {x_values, SMX_INT32, 2, shape, NULL};
  BAD(t.mask = &mask, SMX_ERROR_DTYPE, "mask", "int32");
  mask = (smx_tensor){x_values, SMX_BOOL, 1, two, NULL};
  BAD(t.mask = &mask, SMX_ERROR_SHAPE, "mask", "(2,)", "logits", "(2, 3)");
  int64_t integer = -1;
  smx_tensor whole = number(&integer, SMX_INT64), real = number(&bad_temperature, SMX_FLOAT64);
  if (which == SAMPLE || which == FILTERED) {
    BAD(t.top_k = &whole, SMX_ERROR_VALUE, "top_k holds -1");
    BAD(t.top_k = &real, SMX_ERROR_DTYPE, "top_k", "float64", "int32 or int64");
    BAD(t.top_p = &whole, SMX_ERROR_DTYPE, "top_p", "int64", "float32 or float64");
    BAD(t.top_p = &real, SMX_ERROR_VALUE, "top_p must be from 0 to 1");
    BAD(t.min_p = &real, SMX_ERROR_VALUE, "min_p must be from 0 to 1");
    BAD(t.min_p = &temperatures, SMX_ERROR_SHAPE, "min_p", "(3,)");
  }
  if (which == SAMPLE || which >= GUMBEL) {
    BAD(t.draw = &whole, SMX_ERROR_VALUE, "draw holds -1");
    BAD(t.counter = &real, SMX_ERROR_DTYPE, "counter", "float64");
    BAD((integer = INT64_MAX, t.draw = &whole, integer -= which == SAMPLE,
         out.ndim = which == SAMPLE ? 2 : out.ndim, out.shape = which == SAMPLE ? shape : out.shape,
         t.beside = NULL),
        SMX_ERROR_VALUE, "draw holds");
  }
  if (which == SAMPLE) {
    x_values[1][1] = NAN;
    BAD((void)0, SMX_ERROR_VALUE, "row 1 of logits of shape (2, 3)", "NaN");
    x_values[1][0] = x_values[1][1] = x_values[1][2] = -INFINITY;
    BAD((void)0, SMX_ERROR_VALUE, "row 1 of logits of shape (2, 3)", "-inf");
    x_values[1][0] = 4, x_values[1][1] = 5, x_values[1][2] = 6;
  }
}

static void check_option_sizes(void) {
  int64_t two[] = {2}, shape[] = {2, 3};
  smx_tensor x = {x_values, SMX_FLOAT32, 2, shape, NULL},
             tokens = {out_bytes, SMX_INT64, 1, two, NULL};
  smx_tensor out = {out_bytes, SMX_FLOAT32, 2, shape, NULL},
             indices = {beside_bytes, SMX_INT64, 2, shape, NULL};
  smx_sample_options sample = {.size = 8};
  smx_filter_options filter = {.size = 8};
  smx_top_k_options top_k = {.size = 8};
  smx_gumbel_softmax_options gumbel = {.size = 8};
  DESCRIBE("sizes of options");
  CHECK(smx_sample(&x, &tokens, &sample) == SMX_ERROR_SIZE, "sample");
  CHECK(smx_filtered_softmax(&x, &out, &filter) == SMX_ERROR_SIZE, "filtered_softmax");
  CHECK(smx_top_k(&x, &out, &indices, &top_k) == SMX_ERROR_SIZE, "top_k");
  CHECK(smx_gumbel_softmax(&x, &out, &gumbel) == SMX_ERROR_SIZE, "gumbel_softmax");
  /* No options at all are the defaults. */
  CHECK(smx_sample(&x, &tokens, NULL) == SMX_OK && smx_filtered_softmax(&x, &out, NULL) == SMX_OK &&
            smx_top_k(&x, &out, &indices, NULL) == SMX_OK &&
            smx_gumbel_softmax(&x, &out, NULL) == SMX_OK,
        "NULL: %s", smx_last_error());
}

int main(void) {
  static const int64_t lengths[] = {1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 1023, 1024, 1025, 2500};
  check_philox();
  for (int which = 0; which < CALLS; which++) {
    check_errors(which);
    for (int d = 0; d < 4; d++) {
      for (size_t n = 0; n < sizeof lengths / sizeof *lengths; n++) {
        if (is_light() && n % 4 != (size_t)which % 4) continue;
        for (int with_mask = 0; with_mask < 2; with_mask++) {
          check_layouts(which, float_dtypes[d], lengths[n], with_mask);
          check_guards(which, float_dtypes[d], lengths[n], with_mask);
        }
      }
    }
  }
  check_option_sizes();
  return finish("sampling");
}
