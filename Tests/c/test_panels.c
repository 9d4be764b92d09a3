/* Rows that lie side by side, turned on the way (RowPanels.swift): every operand against a guard
 * page, the same bits as rows one after the other, and nothing written beside the results. */
#include "guard.h"

enum { SOFTMAX_VJP = OPERATIONS, LOG_SOFTMAX_VJP, LOSS, LOSS_AND_GRADIENT, QUESTIONS };
enum { BUFFERS = 3, MOST = 9000 * 5 };
static const char *const names[QUESTIONS] = {
    "softmax",         "log_softmax",   "logsumexp",         "softmax_vjp",
    "log_softmax_vjp", "cross_entropy", "cross_entropy, gradient"};

static guarded buffers[BUFFERS];
static int64_t calls;

/* Rows along axis 1 of (rows, cols), or along axis 0 of (cols, rows). */
typedef struct question {
  int operation, sideways;
  smx_dtype dtype;
  int64_t rows, cols;
} question;

static int64_t targets[MOST];

static smx_status ask(const question *q, void *x, void *second, void *out) {
  int64_t shape[2] = {q->sideways ? q->cols : q->rows, q->sideways ? q->rows : q->cols};
  int32_t axis = q->sideways ? 0 : 1;
  smx_dtype wide = q->dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32;
  smx_tensor first = {x, q->dtype, 2, shape, NULL}, other = {second, q->dtype, 2, shape, NULL};
  smx_tensor result = {out, q->dtype, 2, shape, NULL};
  smx_tensor byRow = {out, q->dtype, 1, &shape[q->sideways], NULL};
  smx_tensor classes = {targets, SMX_INT64, 1, &shape[q->sideways], NULL};
  smx_tensor losses = {second, wide, 1, &shape[q->sideways], NULL};
  smx_softmax_options options = {.size = sizeof options, .axes = &axis, .axis_count = 1};
  smx_logsumexp_options sum = {.size = sizeof sum, .axes = &axis, .axis_count = 1};
  smx_cross_entropy_options loss = {.size = sizeof loss,
                                    .axis = &axis,
                                    .reduction = SMX_NONE,
                                    .grad = q->operation == LOSS_AND_GRADIENT ? &result : NULL};
  calls++;
  switch (q->operation) {
    case SOFTMAX: return smx_softmax(&first, &result, &options);
    case LOG_SOFTMAX: return smx_log_softmax(&first, &result, &options);
    case LOGSUMEXP: return smx_logsumexp(&first, &byRow, &sum);
    case SOFTMAX_VJP: return smx_softmax_vjp(&first, &other, &result, &options);
    case LOG_SOFTMAX_VJP: return smx_log_softmax_vjp(&first, &other, &result, &options);
    default: return smx_cross_entropy(&first, &classes, &losses, &loss);
  }
}

static char x[MOST * 8], second[MOST * 8], out[MOST * 8], turned[MOST * 8], gotten[MOST * 8];

/* (rows, cols) to (cols, rows), or the other way about. */
static void turn(size_t size, const char *from, char *to, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < cols; j++) {
      memcpy(to + (j * rows + i) * (int64_t)size, from + (i * cols + j) * (int64_t)size, size);
    }
  }
}

/* The first of `bytes` that end, or begin, `shift` from a guard page. */
static int64_t offset(size_t bytes, int atEnd, size_t shift) {
  return (int64_t)(atEnd ? SPACE - bytes - shift : shift);
}

static void check_one(question q, int atEnd, size_t shift) {
  size_t size = size_of(q.dtype), wide = q.dtype == SMX_FLOAT64 ? 8 : 4;
  int isLoss = q.operation >= LOSS;
  int64_t numbers = q.rows * q.cols;
  size_t bytes = (size_t)numbers * size;
  uint64_t seed = (uint64_t)(q.rows * 131 + q.cols);
  DESCRIBE("%s of %s, %" PRId64 " rows of %" PRId64 " side by side, %zu bytes from the %s",
           names[q.operation], name_of(q.dtype), q.rows, q.cols, shift, atEnd ? "end" : "start");
  for (int64_t i = 0; i < numbers; i++) {
    store_as(q.dtype, x + i * (int64_t)size, random_between(&seed, -9, 1));
    store_as(q.dtype, second + i * (int64_t)size, random_between(&seed, -2, 2));
  }
  for (int64_t r = 0; r < q.rows; r++) targets[r] = random_below(&seed, q.cols);
  char *kept = isLoss ? gotten : second;
  CHECK(ask(&q, x, kept, out) == SMX_OK, "%s", smx_last_error());

  size_t counts[BUFFERS] = {bytes, isLoss ? (size_t)q.rows * wide : bytes,
                            q.operation == LOGSUMEXP ? (size_t)q.rows * size : bytes};
  int64_t at[BUFFERS];
  for (int b = 0; b < BUFFERS; b++) {
    size_t own = b == 1 && isLoss ? shift / size * wide : shift;
    at[b] = offset(counts[b], atEnd, own);
    memset(buffers[b].ours + (atEnd ? at[b] - NEAR : 0), CANARY, own + counts[b] + NEAR);
  }
  turn(size, x, turned, q.rows, q.cols);
  memcpy(buffers[0].ours + at[0], turned, bytes);
  if (!isLoss) {
    turn(size, second, turned, q.rows, q.cols);
    memcpy(buffers[1].ours + at[1], turned, bytes);
  }
  q.sideways = 1;
  CHECK(ask(&q, buffers[0].given + at[0], buffers[1].given + at[1], buffers[2].given + at[2]) ==
            SMX_OK,
        "%s", smx_last_error());
  char *result = (char *)buffers[2].ours + at[2];
  if (q.operation == LOGSUMEXP) {
    same_bits("logsumexp", size, result, out, q.rows);
  } else if (q.operation != LOSS) {
    turn(size, result, turned, q.cols, q.rows);
    same_bits("results", size, turned, out, numbers);
  }
  if (isLoss) same_bits("losses", wide, buffers[1].ours + at[1], gotten, q.rows);
  for (int b = 1; b < BUFFERS; b++) {
    int64_t spoilt = 0;
    for (int64_t i = at[b] - NEAR; i < at[b] + (int64_t)counts[b] + NEAR; i++) {
      if (i < 0 || i >= SPACE || (i >= at[b] && i < at[b] + (int64_t)counts[b])) continue;
      spoilt += buffers[b].ours[i] != CANARY;
    }
    CHECK(spoilt == 0, "%" PRId64 " bytes written beside buffer %d", spoilt, b);
  }
}

int main(void) {
  static const int64_t rows[] = {4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 70};
  static const int64_t longer[] = {100, 513, 1024, 2050, 4100, 8300};
  guard_begin();
  /* The second buffer has the losses, too. */
  for (int b = 0; b < BUFFERS; b++) guard_map(&buffers[b], b > 0);
  for (int d = 0; d < 4; d++) {
    size_t size = size_of(float_dtypes[d]);
    for (int o = 0; o < QUESTIONS; o++) {
      question q = {.operation = o, .dtype = float_dtypes[d]};
      for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        q.rows = rows[r];
        for (q.cols = 1; q.cols <= 67; q.cols += is_light() ? 13 : 1) {
          check_one(q, 0, (size_t)(q.cols % 16) * size);
          check_one(q, 1, 0);
        }
      }
      for (size_t l = 0; l < sizeof longer / sizeof *longer; l++) {
        q.cols = longer[l];
        q.rows = q.cols > 3000 ? 5 : 18;
        check_one(q, 0, 0);
        check_one(q, 1, 3 * size);
      }
    }
  }
  printf("%" PRId64 " calls\n", calls);
  return finish("test_panels");
}
