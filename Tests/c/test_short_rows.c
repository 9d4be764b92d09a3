/* Short rows with a temperature, a mask or a bias, many at a time (FewGathered.swift): every
 * operand against a guard page, the same bits as each row alone, nothing written beside results. */
#include "guard.h"

enum { TEMPERATURE, MASK, BIAS, QUESTIONS };
enum { X, SECOND, OUT, BUFFERS };
enum { MOST = 40 * 70 };
static const char *const names[QUESTIONS] = {"a temperature", "a mask", "a bias"};
static const char *const operations[OPERATIONS] = {"softmax", "log_softmax", "logsumexp"};

static guarded buffers[BUFFERS];
static int64_t calls;

typedef struct question {
  int operation, asks;
  smx_dtype dtype;
  int64_t rows, cols;
} question;

static smx_dtype dtype_of_second(const question *q) {
  if (q->asks == MASK) return SMX_BOOL;
  if (q->asks == BIAS) return q->dtype;
  return q->dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32;
}

static smx_status ask(const question *q, int64_t rows, void *x, void *second, void *out) {
  int64_t shape[2] = {rows, q->cols}, columns[2] = {rows, 1};
  smx_tensor first = {x, q->dtype, 2, shape, NULL}, result = {out, q->dtype, 2, shape, NULL};
  smx_tensor byRow = {out, q->dtype, 1, shape, NULL};
  smx_tensor other = {second, dtype_of_second(q), 2, q->asks == TEMPERATURE ? columns : shape,
                      NULL};
  smx_softmax_options options = {.size = sizeof options,
                                 .temperature = q->asks == TEMPERATURE ? &other : NULL,
                                 .mask = q->asks == MASK ? &other : NULL,
                                 .bias = q->asks == BIAS ? &other : NULL};
  smx_logsumexp_options sum = {.size = sizeof sum, .mask = options.mask, .bias = options.bias};
  calls++;
  switch (q->operation) {
    case SOFTMAX: return smx_softmax(&first, &result, &options);
    case LOG_SOFTMAX: return smx_log_softmax(&first, &result, &options);
    default: return smx_logsumexp(&first, &byRow, &sum);
  }
}

static char x[MOST * 8], second[MOST * 8], want[MOST * 8];

static void check_one(question q, int atEnd, size_t shift) {
  size_t size = size_of(q.dtype), other = size_of(dtype_of_second(&q));
  int64_t numbers = q.rows * q.cols, results = q.operation == LOGSUMEXP ? q.rows : numbers;
  int64_t inRow = q.asks == TEMPERATURE ? 1 : q.cols;
  uint64_t seed = (uint64_t)(q.rows * 131 + q.cols);
  DESCRIBE("%s of %s with %s, %" PRId64 " rows of %" PRId64 ", %zu bytes from the %s",
           operations[q.operation], name_of(q.dtype), names[q.asks], q.rows, q.cols, shift,
           atEnd ? "end" : "start");
  for (int64_t i = 0; i < numbers; i++) {
    store_as(q.dtype, x + i * (int64_t)size, random_between(&seed, -9, 9));
  }
  for (int64_t i = 0; i < q.rows * inRow; i++) {
    char *place = second + i * (int64_t)other;
    if (q.asks == MASK) {
      *place = random_below(&seed, 4) > 0;
    } else {
      store_as(dtype_of_second(&q), place, random_between(&seed, 0.25, 3));
    }
  }
  for (int64_t r = 0; r < q.rows; r++) {
    int64_t at = q.operation == LOGSUMEXP ? r : r * q.cols;
    CHECK(ask(&q, 1, x + r * q.cols * (int64_t)size, second + r * inRow * (int64_t)other,
              want + at * (int64_t)size) == SMX_OK,
          "%s", smx_last_error());
  }

  size_t counts[BUFFERS] = {(size_t)numbers * size, (size_t)(q.rows * inRow) * other,
                            (size_t)results * size};
  int64_t at[BUFFERS];
  for (int b = 0; b < BUFFERS; b++) {
    size_t own = b == SECOND ? shift / size * other : shift;
    at[b] = (int64_t)(atEnd ? SPACE - counts[b] - own : own);
    memset(buffers[b].ours + (atEnd ? at[b] - NEAR : 0), CANARY, own + counts[b] + NEAR);
  }
  memcpy(buffers[X].ours + at[X], x, counts[X]);
  memcpy(buffers[SECOND].ours + at[SECOND], second, counts[SECOND]);
  CHECK(ask(&q, q.rows, buffers[X].given + at[X], buffers[SECOND].given + at[SECOND],
            buffers[OUT].given + at[OUT]) == SMX_OK,
        "%s", smx_last_error());
  same_bits("results", size, buffers[OUT].ours + at[OUT], want, results);
  int64_t spoilt = 0, end = at[OUT] + (int64_t)counts[OUT];
  for (int64_t i = at[OUT] - NEAR; i < end + NEAR; i++) {
    if (i < 0 || i >= SPACE || (i >= at[OUT] && i < end)) continue;
    spoilt += buffers[OUT].ours[i] != CANARY;
  }
  CHECK(spoilt == 0, "%" PRId64 " bytes written beside the results", spoilt);
}

int main(void) {
  static const int64_t rows[] = {7, 9, 16, 25, 40};
  guard_begin();
  for (int b = 0; b < BUFFERS; b++) guard_map(&buffers[b], b == OUT);
  for (int d = 0; d < 4; d++) {
    size_t size = size_of(float_dtypes[d]);
    for (int o = 0; o < OPERATIONS; o++) {
      for (int a = o == LOGSUMEXP ? MASK : TEMPERATURE; a < QUESTIONS; a++) {
        question q = {.operation = o, .asks = a, .dtype = float_dtypes[d]};
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
          q.rows = rows[r];
          for (q.cols = 1; q.cols <= 67; q.cols += is_light() ? 13 : 1) {
            check_one(q, 0, (size_t)(q.cols % 16) * size);
            check_one(q, 1, 0);
          }
        }
      }
    }
  }
  printf("%" PRId64 " calls\n", calls);
  return finish("test_short_rows");
}
