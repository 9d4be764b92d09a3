/* Guard pages: every buffer of a call lies against a page that must not be touched, before it or
 * behind it, at every alignment, for every length around the vectors and around the chunk. Inputs
 * are mapped a second time without the right to write, and it is that mapping which the library is
 * given. Results are those of the same row in plain memory, bit for bit. */
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "values.h"

enum { X, MASK, BIAS, WEIGHTS, TEMPERATURE, OUT, SIGN, BUFFERS, OUTPUTS = OUT };
enum { SHIFTS = 16, SPACE = 1 << 20, CANARY = 0xa5 };

/* SPACE bytes between two guard pages: `given` to the library, `ours` to fill and to read. */
typedef struct guarded {
  unsigned char *given, *ours;
} guarded;

static guarded buffers[BUFFERS];
static int64_t calls;

static void fault(int number) {
  (void)number;
  static const char text[] = "FAILED: a guard page was touched\n  ";
  ssize_t ignored = write(1, text, sizeof text - 1);
  ignored = write(1, context, strlen(context));
  ignored = write(1, "\n", 1);
  (void)ignored;
  _exit(1);
}

static void map_buffers(void) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  for (int i = 0; i < BUFFERS; i++) {
    int file = memfd_create("guard", 0);
    if (file < 0 || ftruncate(file, SPACE) != 0) abort();
    unsigned char *room =
        mmap(NULL, SPACE + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int rights = PROT_READ | (i >= OUTPUTS ? PROT_WRITE : 0);
    buffers[i].given = mmap(room + page, SPACE, rights, MAP_SHARED | MAP_FIXED, file, 0);
    buffers[i].ours = mmap(NULL, SPACE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (buffers[i].given != room + page || buffers[i].ours == MAP_FAILED) abort();
    close(file);
  }
}

/* -- one call
 * ------------------------------------------------------------------------------------------ */

/* What is asked: a matrix of rows × cols, its rows along axis 1 or, transposed, along axis 0. */
typedef struct question {
  int operation, transposed, with; /* `with` has a bit for each optional buffer */
  smx_dtype dtype;
  int64_t rows, cols;
} question;

/* Memory of one operand: which buffer, how many elements, byte strides of the two axes. */
typedef struct operand {
  smx_tensor tensor;
  int64_t shape[2], strides[2];
  size_t offset, bytes;
} operand;

/* Puts an operand of count0 × count1 against the end (or start) of its buffer, `shift` bytes away;
 * `step` elements apart, backwards where negative. */
static void place(operand *o, int buffer, smx_dtype dtype, int rank, int64_t count0, int64_t count1,
                  int step, int atEnd, size_t shift) {
  int64_t size = (int64_t)size_of(dtype), gap = (step < 0 ? -step : step) * size;
  int64_t count = rank == 2 ? count0 * count1 : rank == 1 ? count0 : 1;
  o->shape[0] = count0;
  o->shape[1] = count1;
  o->strides[rank == 2] = step < 0 ? -gap : gap;
  if (rank == 2) o->strides[0] = o->strides[1] * count1;
  o->bytes = count > 0 ? (size_t)(gap * (count - 1) + size) : 0;
  o->offset = atEnd ? SPACE - o->bytes - shift : shift;
  size_t first = o->offset + (step < 0 && count > 0 ? o->bytes - (size_t)size : 0);
  o->tensor = (smx_tensor){buffers[buffer].given + first, dtype, rank, o->shape, o->strides};
}

static unsigned char *ours(const operand *o, int buffer) {
  return buffers[buffer].ours + ((unsigned char *)o->tensor.data - buffers[buffer].given);
}

/* The element numbers of the plain matrix, whichever way the operand lies. */
static void fill(const operand *o, int buffer, const unsigned char *elements) {
  size_t size = size_of(o->tensor.dtype);
  int64_t counts[2] = {o->tensor.ndim > 0 ? o->shape[0] : 1, o->tensor.ndim > 1 ? o->shape[1] : 1};
  for (int64_t i = 0; i < counts[0]; i++) {
    for (int64_t j = 0; j < counts[1]; j++) {
      int64_t at = o->tensor.ndim == 0
                       ? 0
                       : i * o->strides[0] + (o->tensor.ndim > 1 ? j * o->strides[1] : 0);
      memcpy(ours(o, buffer) + at, elements + (size_t)(i * counts[1] + j) * size, size);
    }
  }
}

/* Reads back in C order and checks that the buffer's other bytes are untouched. */
static void read_back(const operand *o, int buffer, unsigned char *to) {
  size_t size = size_of(o->tensor.dtype);
  int64_t count = (o->tensor.ndim > 0 ? o->shape[0] : 1) * (o->tensor.ndim > 1 ? o->shape[1] : 1);
  int64_t stride = o->strides[o->tensor.ndim == 2];
  unsigned char *p = ours(o, buffer);
  for (int64_t i = 0; i < count; i++) {
    memcpy(to + (size_t)i * size, p + i * stride, size);
    memset(p + i * stride, CANARY, size);
  }
  int64_t spoilt = 0;
  size_t from = o->offset > 256 ? o->offset - 256 : 0, end = o->offset + o->bytes + 256;
  for (size_t i = from; i < end && i < SPACE; i++) spoilt += buffers[buffer].ours[i] != CANARY;
  CHECK(spoilt == 0, "%" PRId64 " bytes beside the output were written", spoilt);
}

/* Values of every buffer for a question, in C order. */
static unsigned char values[BUFFERS][SPACE], want[2][SPACE], got[SPACE];

static void make_values(const question *q, uint64_t seed) {
  size_t size = size_of(q->dtype);
  for (int64_t i = 0; i < q->rows * q->cols; i++) {
    store_as(q->dtype, values[X] + (size_t)i * size, random_between(&seed, -9, 9));
    store_as(q->dtype, values[BIAS] + (size_t)i * size, random_between(&seed, -3, 3));
    store_as(q->dtype, values[WEIGHTS] + (size_t)i * size, (double)random_below(&seed, 4));
    values[MASK][i] = random_below(&seed, 5) != 0;
  }
  for (int64_t i = 0; i < q->rows; i++) {
    store_as(q->dtype, values[TEMPERATURE] + (size_t)i * size, random_between(&seed, 0.25, 4));
  }
}

/* Runs the question on operands and leaves outputs in to[0] (out) and to[1] (sign). */
static void ask(const question *q, operand o[BUFFERS]) {
  int32_t axis = q->transposed ? 0 : 1;
  arguments a = {.axes = &axis, .axis_count = 1};
  if (q->with & 1 << MASK) a.mask = &o[MASK].tensor;
  if (q->with & 1 << BIAS) a.bias = &o[BIAS].tensor;
  if (q->with & 1 << WEIGHTS) a.weights = &o[WEIGHTS].tensor;
  if (q->with & 1 << TEMPERATURE) a.temperature = &o[TEMPERATURE].tensor;
  if (q->with & 1 << SIGN) a.sign = &o[SIGN].tensor;
  smx_status status = call_tensor(q->operation, &o[X].tensor, &o[OUT].tensor, &a);
  CHECK(status == SMX_OK, "status %d: %s", status, smx_last_error());
  calls++;
}

static void describe(const question *q, const char *how, int step, int atEnd, size_t shift) {
  DESCRIBE("%s %s of %s, %" PRId64 " rows of %" PRId64
           "%s, options 0x%x, step %d, %zu bytes from the %s",
           how, operation_names[q->operation], name_of(q->dtype), q->rows, q->cols,
           q->transposed ? " along axis 0" : "", q->with, step, shift, atEnd ? "end" : "start");
}

static void place_all(const question *q, operand o[BUFFERS], int step, int atEnd, size_t shift) {
  for (int b = 0; b < BUFFERS; b++) {
    smx_dtype dtype = b == MASK ? SMX_BOOL : q->dtype;
    int isPerRow = b == TEMPERATURE || b == SIGN || (b == OUT && q->operation == LOGSUMEXP);
    /* The odd bytes of a shift are for the tensor calls; each buffer takes another one. */
    size_t own = shift ? (shift + (size_t)b) % SHIFTS * size_of(dtype) + shift % 2 : 0;
    place(&o[b], b, dtype, isPerRow ? 1 : 2, q->transposed && !isPerRow ? q->cols : q->rows,
          q->transposed ? q->rows : q->cols, isPerRow && step < -1 ? -1 : step, atEnd, own);
  }
}

static int64_t result_count(const question *q) {
  return q->operation == LOGSUMEXP ? q->rows : q->rows * q->cols;
}

/* The answers in plain memory: what all others are compared with. */
static void answer_plainly(const question *q) {
  operand o[BUFFERS];
  place_all(q, o, 1, 0, 0);
  static unsigned char roomy[BUFFERS][SPACE];
  for (int b = 0; b < BUFFERS; b++) {
    memcpy(roomy[b], values[b], (size_t)(q->rows * q->cols + 1) * size_of(q->dtype));
    o[b].tensor.data = roomy[b] + 0;
    o[b].tensor.strides = NULL;
  }
  describe(q, "plain", 1, 0, 0);
  ask(q, o);
  memcpy(want[0], roomy[OUT], (size_t)result_count(q) * size_of(q->dtype));
  memcpy(want[1], roomy[SIGN], (size_t)q->rows * size_of(q->dtype));
}

static void answer_guarded(const question *q, int step, int atEnd, size_t shift) {
  operand o[BUFFERS];
  place_all(q, o, step, atEnd, shift);
  describe(q, "tensor", step, atEnd, shift);
  for (int b = 0; b < OUTPUTS; b++) {
    if (b == X || q->with & 1 << b) fill(&o[b], b, values[b]);
  }
  ask(q, o);
  read_back(&o[OUT], OUT, got);
  same_bits("out", size_of(q->dtype), got, want[0], result_count(q));
  if (!(q->with & 1 << SIGN)) return;
  read_back(&o[SIGN], SIGN, got);
  same_bits("sign", size_of(q->dtype), got, want[1], q->rows);
}

static void answer_typed(const question *q, int atEnd, int shift) {
  operand x, out;
  size_t bytes = (size_t)shift * size_of(q->dtype);
  int isSum = q->operation == LOGSUMEXP;
  place(&x, X, q->dtype, 2, q->rows, q->cols, 1, atEnd, bytes);
  place(&out, OUT, q->dtype, isSum ? 1 : 2, q->rows, q->cols, 1, atEnd,
        (size_t)(SHIFTS - 1 - shift) * size_of(q->dtype));
  describe(q, "typed", 1, atEnd, bytes);
  fill(&x, X, values[X]);
  smx_status status =
      call_rows(q->operation, q->dtype, x.tensor.data, out.tensor.data, q->rows, q->cols);
  CHECK(status == SMX_OK, "status %d: %s", status, smx_last_error());
  calls++;
  read_back(&out, OUT, got);
  same_bits("typed", size_of(q->dtype), got, want[0], result_count(q));
}

/* -- what is asked
 * --------------------------------------------------------------------------------------- */

static void check_length(smx_dtype dtype, int operation, int64_t cols, const int *shifts,
                         int count) {
  int isSum = operation == LOGSUMEXP;
  int choices[] = {
      0,
      1 << MASK,
      1 << BIAS,
      isSum ? 1 << SIGN : 1 << TEMPERATURE,
      isSum ? 1 << WEIGHTS | 1 << SIGN : 1 << MASK | 1 << BIAS | 1 << TEMPERATURE,
      isSum ? 1 << MASK | 1 << BIAS | 1 << WEIGHTS | 1 << SIGN : 1 << MASK | 1 << TEMPERATURE};
  for (int64_t rows = 1; rows <= (cols > 100 ? 1 : 3); rows += 2) {
    question q = {.operation = operation, .dtype = dtype, .rows = rows, .cols = cols};
    make_values(&q, (uint64_t)(cols * 7 + rows));
    answer_plainly(&q);
    for (int i = 0; i < count; i++) {
      answer_typed(&q, 0, shifts[i]);
      answer_typed(&q, 1, shifts[i]);
    }
    for (q.transposed = 0; q.transposed < 2; q.transposed++) {
      for (int c = 0; c < 6; c++) {
        q.with = choices[c];
        make_values(&q, (uint64_t)(cols * 7 + rows));
        answer_plainly(&q);
        for (int i = 0; i < count; i++) {
          /* Steps of the elements: together, backwards, apart. */
          static const int steps[] = {1, -1, 2, -3};
          int step = i == 0 ? 1 : steps[(i + c) % 4];
          answer_guarded(&q, step, i % 2, (size_t)shifts[i]);
          answer_guarded(&q, step, 1 - i % 2, (size_t)shifts[i]);
        }
      }
    }
  }
}

/* Rows of few elements are taken a vector of them at a time: whole vectors, one row less and
 * more. */
static void check_many_rows(smx_dtype dtype, int operation, int64_t cols, int isLight) {
  static const int64_t counts[] = {17, 16, 8, 9, 15, 18, 31, 32, 33, 40};
  for (int i = 0; i < (isLight ? 2 : 10); i++) {
    question q = {.operation = operation, .dtype = dtype, .rows = counts[i], .cols = cols};
    make_values(&q, (uint64_t)(cols * 7 + counts[i]));
    answer_plainly(&q);
    for (int shift = 0; shift < SHIFTS; shift += 7) {
      answer_typed(&q, 0, shift);
      answer_typed(&q, 1, shift);
    }
  }
}

int main(void) {
  static const int all[SHIFTS] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  static const int few[] = {0, 1, 7, 15, 8};
  static const int64_t aroundChunk[] = {4095, 4096, 4097, 4098, 8193};
  struct sigaction action = {.sa_handler = fault};
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
  map_buffers();
  for (int b = OUTPUTS; b < BUFFERS; b++) memset(buffers[b].ours, CANARY, SPACE);
  int isLight = is_light();
  for (int d = 0; d < 4; d++) {
    for (int o = 0; o < OPERATIONS; o++) {
      /* Three vectors of 16 float32 or of 8 float64, and two more. */
      int64_t longest = float_dtypes[d] == SMX_FLOAT64 ? 26 : 50;
      for (int64_t n = 0; n <= longest; n += isLight && n > 1 ? 6 : 1) {
        check_length(float_dtypes[d], o, n, isLight ? few : all, isLight ? 5 : SHIFTS);
      }
      for (int64_t n = 1; n <= 17; n++) check_many_rows(float_dtypes[d], o, n, isLight);
      for (int i = 0; i < (isLight ? 1 : 5); i++) {
        check_length(float_dtypes[d], o, aroundChunk[i], few, isLight ? 1 : 5);
      }
    }
  }
  printf("%" PRId64 " calls against guard pages\n", calls);
  return finish("test_guard");
}
