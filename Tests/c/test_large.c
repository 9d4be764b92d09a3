/* Calls whose operands the caches do not hold: results go past them, and terms wait where the last
 * row's will lie. Each row, or column, has the bits that it has alone, between two pages that must
 * not be touched, and nothing between rows is written. */
#include <sys/mman.h>
#include <unistd.h>

#include "gradients.h"

/* More than half of what caches.c takes the largest last level to hold (64 MB), so that two
 * operands exceed any. */
enum { BYTES = 33 << 20, SPACE = 36 << 20, PAGE = 4096, CANARY = 0xa5 };

enum { OF_SOFTMAX, OF_LOG_SOFTMAX, OF_VJP, OF_LOG_VJP, OF_LOSS, CALLS };
static const char *const call_names[CALLS] = {"softmax", "log_softmax", "softmax_vjp",
                                              "log_softmax_vjp", "cross_entropy"};

static unsigned char *spaces[3]; /* x, y, out */
static int32_t *targets;
static double *losses;

static void map_spaces(void) {
  for (int i = 0; i < 3; i++) {
    unsigned char *room =
        mmap(NULL, SPACE + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED || mprotect(room + PAGE, SPACE, PROT_READ | PROT_WRITE) != 0) abort();
    spaces[i] = room + PAGE;
  }
  targets = calloc(BYTES / 1024, sizeof *targets);
  losses = calloc(BYTES / 1024, sizeof *losses);
}

/* Numbers such as logits are; among the rows some that leave the common way. */
static void fill(smx_dtype dtype, unsigned char *x, int64_t rows, int64_t cols, int isLogits,
                 uint64_t *state) {
  static const double spreads[] = {1, 8, 60, 1e-7};
  size_t size = size_of(dtype);
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t i = 0; i < cols; i++) {
      store_as(dtype, x + (r * cols + i) * size, spreads[r & 3] * random_between(state, -1, 1));
    }
    double odd = !isLogits       ? 0
                 : r % 37 == 5   ? NAN
                 : r % 37 == 6   ? INFINITY
                 : r % 37 == 7   ? 1e6
                 : r == rows - 1 ? -1e5
                                 : 0;
    if (odd != 0) store_as(dtype, x + (r * cols + random_below(state, cols)) * size, odd);
  }
}

static smx_tensor matrix(void *data, smx_dtype dtype, const int64_t *shape,
                         const int64_t *strides) {
  return (smx_tensor){data, dtype, 2, shape, strides};
}

static smx_status call(int which, const smx_tensor *x, const smx_tensor *y, const smx_tensor *out) {
  arguments none = {0};
  if (which == OF_SOFTMAX || which == OF_LOG_SOFTMAX) {
    return call_tensor(which == OF_SOFTMAX ? SOFTMAX : LOG_SOFTMAX, x, out, &none);
  }
  if (which != OF_LOSS) return call_gradient(which == OF_VJP ? VJP : LOG_VJP, y, x, out, &none);
  int64_t four = 4, size = (int64_t)size_of(x->dtype);
  smx_tensor classes = {targets, SMX_INT32, 1, x->shape, &four};
  smx_tensor loss = {losses, x->dtype, 1, x->shape, &size};
  smx_cross_entropy_options options = {.size = sizeof options, .reduction = SMX_NONE, .grad = out};
  return smx_cross_entropy(x, &classes, &loss, &options);
}

/* The first row whose bits are not those that it has alone; rows if there is none. */
static int64_t first_different(int which, smx_dtype dtype, unsigned char *x, unsigned char *y,
                               const unsigned char *out, int64_t rows, int64_t cols, int64_t step) {
  size_t size = size_of(dtype);
  unsigned char *alone = malloc(cols * size);
  int64_t shape[2] = {1, cols}, strides[2] = {0, (int64_t)size}, r = 0;
  int32_t first = targets[0];
  for (; r < rows; r++) {
    smx_tensor a = matrix(x + r * cols * size, dtype, shape, strides);
    smx_tensor b = matrix(y + r * cols * size, dtype, shape, strides);
    smx_tensor c = matrix(alone, dtype, shape, strides);
    targets[0] = r == 0 ? first : targets[r];
    if (call(which, &a, &b, &c) != SMX_OK || memcmp(alone, out + r * step, cols * size) != 0) break;
  }
  targets[0] = first;
  free(alone);
  return r;
}

static int64_t written_between(const unsigned char *out, int64_t rows, int64_t used, int64_t step) {
  int64_t written = 0;
  for (int64_t r = 0; r + 1 < rows; r++) {
    for (int64_t i = used; i < step; i++) written += out[r * step + i] != CANARY;
  }
  return written;
}

/* out against the end of its space, or `shift` bytes from its start; `gap` elements between
 * rows. */
static void test_rows(int which, smx_dtype dtype, int64_t rows, int64_t cols, int64_t gap,
                      int64_t shift, int threads) {
  int64_t size = (int64_t)size_of(dtype), used = cols * size, step = used + gap * size;
  unsigned char *out =
      shift < 0 ? spaces[2] + SPACE - ((rows - 1) * step + used) : spaces[2] + shift;
  DESCRIBE("%s, %s, %" PRId64 " x %" PRId64 ", gap %" PRId64 ", shift %" PRId64 ", %d threads",
           call_names[which], name_of(dtype), rows, cols, gap, shift, threads);
  memset(spaces[2], CANARY, SPACE);
  int64_t shape[2] = {rows, cols}, strides[2] = {used, size}, apart[2] = {step, size};
  smx_tensor x = matrix(spaces[0], dtype, shape, strides),
             y = matrix(spaces[1], dtype, shape, strides);
  smx_tensor result = matrix(out, dtype, shape, apart);
  smx_set_num_threads(threads);
  CHECK(call(which, &x, &y, &result) == SMX_OK, "%s", smx_last_error());
  int64_t r = first_different(which, dtype, spaces[0], spaces[1], out, rows, cols, step);
  CHECK(r == rows, "row %" PRId64 " is another one alone", r);
  CHECK(written_between(out, rows, used, step) == 0, "written between rows");
  if (shift > 0) CHECK(out[-1] == CANARY, "written before the first row");
}

/* length × count, along axis 0: column after column like a row. */
static void test_columns(int which, smx_dtype dtype, int64_t length, int64_t count, int64_t shift,
                         int threads) {
  size_t size = size_of(dtype);
  DESCRIBE("%s, %s, %" PRId64 " x %" PRId64 " along axis 0, shift %" PRId64 ", %d threads",
           call_names[which], name_of(dtype), length, count, shift, threads);
  memset(spaces[2], CANARY, SPACE);
  int64_t shape[2] = {length, count}, strides[2] = {count * (int64_t)size, (int64_t)size};
  unsigned char *out = spaces[2] + shift;
  smx_tensor x = matrix(spaces[0], dtype, shape, strides),
             result = matrix(out, dtype, shape, strides);
  int32_t axis = 0;
  arguments a = {.axes = &axis, .axis_count = 1};
  smx_set_num_threads(threads);
  int operation = which == OF_SOFTMAX ? SOFTMAX : LOG_SOFTMAX;
  CHECK(call_tensor(operation, &x, &result, &a) == SMX_OK, "%s", smx_last_error());
  unsigned char *row = malloc(2 * length * size), *alone = row + length * size;
  int64_t c = 0, same = 1;
  for (; c < count; c++) {
    for (int64_t i = 0; i < length; i++)
      memcpy(row + i * size, spaces[0] + (i * count + c) * size, size);
    if (call_rows(operation, dtype, row, alone, 1, length) != SMX_OK) break;
    for (int64_t i = 0; i < length; i++)
      same &= memcmp(alone + i * size, out + (i * count + c) * size, size) == 0;
    if (!same) break;
  }
  CHECK(c == count, "column %" PRId64 " is another one alone", c);
  CHECK(out[length * count * size] == CANARY, "written behind the last row");
  free(row);
}

int main(void) {
  uint64_t state = 20261122;
  /* v2 has no way of its own for such calls, and takes seconds for each. */
  int isBrief = is_light() || strcmp(isa_in_use(), "v2") == 0;
  map_spaces();
  /* Lengths on both sides of what makes a row short or long, whole vectors and not. */
  static const int64_t lengths[] = {512, 1003, 4099, 40000, 70001};
  for (int d = 2; d < (isBrief ? 3 : 4); d++) {
    smx_dtype dtype = float_dtypes[d];
    for (int l = 0; l < (isBrief ? 1 : 5); l++) {
      int64_t cols = lengths[l], rows = BYTES / (cols * (int64_t)size_of(dtype)) + 1;
      fill(dtype, spaces[0], rows, cols, 1, &state);
      fill(dtype, spaces[1], rows, cols, 0, &state);
      for (int64_t r = 0; r < rows; r++) targets[r] = (int32_t)random_below(&state, cols);
      for (int which = 0; which < (isBrief ? 1 : CALLS); which++) {
        test_rows(which, dtype, rows, cols, 0, -1, 1 + which % 3);
        test_rows(which, dtype, rows, cols, 3, 4, 2);
        if (l < 2 && !isBrief) test_rows(which, dtype, rows, cols, 0, 1, 2);
      }
    }
    for (int which = 0; !isBrief && which <= OF_LOG_SOFTMAX; which++) {
      int64_t count = BYTES / (65 * (int64_t)size_of(dtype)) / 64 * 64 + 64;
      fill(dtype, spaces[0], 65, count, 1, &state);
      test_columns(which, dtype, 65, count, 16, 2);
      test_columns(which, dtype, 65, count - 3, 8, 3);
    }
  }
  return finish("test_large");
}
