/* Gradients: against the slow reference, over layouts, in place, at the edge of memory, in other
 * floating-point modes, on other numbers of threads. */
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gradients.h"
#include "modes.h"
#include "view.h"

/* -- against the reference, and every layout against the plain one --------------------------------
 */

enum { LARGEST = 40000 };
static double x[LARGEST], y[LARGEST], dy[LARGEST], dx[LARGEST];

/* The operands of a question: (rows, cols), reduced along the second axis. */
typedef struct operands {
  view y, dy, mask, temperature, out;
} operands;

static void free_operands(operands *o) {
  view_free(&o->y), view_free(&o->dy), view_free(&o->mask), view_free(&o->temperature);
  view_free(&o->out);
}

static void fill_view(view *v, const double *values) {
  int64_t index[RANK];
  for (int64_t i = 0; i < v->count; i++) {
    unravel(i, v->tensor.ndim, v->shape, index);
    store_as(v->tensor.dtype, place_of(&v->tensor, index), values[i]);
  }
}

/* Values as the dtype holds them. */
static void round_all(smx_dtype dtype, double *values, int64_t count) {
  for (int64_t i = 0; i < count; i++) values[i] = rounded_to(dtype, values[i]);
}

static void make_operands(operands *o, int gradient, smx_dtype dtype, int64_t rows, int64_t cols,
                          uint64_t seed) {
  int64_t shape[2] = {rows, cols}, byRow[2] = {rows, 1};
  for (int64_t i = 0; i < rows * cols; i++) x[i] = random_between(&seed, -6, 6);
  round_all(dtype, x, rows * cols);
  for (int64_t row = 0; row < rows; row++)
    forward_row(gradient, x + row * cols, y + row * cols, cols);
  for (int64_t i = 0; i < rows * cols; i++) dy[i] = random_between(&seed, -2, 2);
  round_all(dtype, y, rows * cols);
  round_all(dtype, dy, rows * cols);
  view_make(&o->y, dtype, 2, shape, 0, 0);
  view_make(&o->dy, dtype, 2, gradient == SUM_VJP ? byRow : shape, 0, 0);
  view_make(&o->mask, SMX_BOOL, 2, shape, 0, 0);
  view_make(&o->temperature, SMX_FLOAT32, 2, byRow, 0, 0);
  view_make(&o->out, dtype, 2, shape, 0, 0);
  fill_view(&o->y, y);
  fill_view(&o->dy, dy);
  for (int64_t i = 0; i < rows * cols; i++) dx[i] = random_below(&seed, 4) != 0;
  fill_view(&o->mask, dx);
  for (int64_t i = 0; i < rows; i++) dx[i] = (double)(i % 3) * 0.5 + 0.5;
  fill_view(&o->temperature, dx);
}

static arguments arguments_of(const operands *o, int gradient, int masked, int warm) {
  static const int32_t last = 1;
  arguments a = {.axes = &last, .axis_count = 1};
  if (masked) a.mask = &o->mask.tensor;
  if (warm && gradient != SUM_VJP) a.temperature = &o->temperature.tensor;
  return a;
}

static void compare(const operands *o, int gradient, int masked, int warm) {
  int64_t rows = o->y.shape[0], cols = o->y.shape[1];
  smx_dtype dtype = o->y.tensor.dtype;
  double unit = ldexp(1, 1 - format_of(dtype).digits);
  const unsigned char *shows = o->mask.tensor.data;
  for (int64_t row = 0; row < rows; row++) {
    double t = warm && gradient != SUM_VJP ? (double)(row % 3) * 0.5 + 0.5 : 1;
    gradient_row(gradient, y + row * cols, dy + (gradient == SUM_VJP ? row : row * cols),
                 masked ? shows + row * cols : NULL, t, dx, cols);
    for (int64_t i = 0; i < cols; i++) {
      const char *p = (const char *)o->out.tensor.data + (row * cols + i) * (int64_t)size_of(dtype);
      double got = load_as(dtype, p);
      /* Three roundings of the result, and what exp(y) · sum(dy) has. */
      double bound =
          3 * unit * fabs(dx[i]) + 4 * unit * exp(y[row * cols + i]) * sqrt((double)cols);
      if (gradient != LOG_VJP)
        bound = 4 * unit * fabs(dx[i]) + 1e-12 + ldexp(1, format_of(dtype).least);
      CHECK(fabs(got - dx[i]) <= bound, "(%" PRId64 ", %" PRId64 ") is %a, not %a", row, i, got,
            dx[i]);
    }
  }
}

static void check_layout(const operands *plain, int gradient, const arguments *given,
                         uint64_t layout) {
  operands o;
  view_copy(&o.y, &plain->y, layout);
  view_copy(&o.dy, &plain->dy, layout + 1);
  view_copy(&o.mask, &plain->mask, layout + 2);
  view_copy(&o.temperature, &plain->temperature, layout + 3);
  view_make(&o.out, plain->y.tensor.dtype, 2, plain->y.shape, layout + 4, 0);
  arguments a = *given;
  if (a.mask) a.mask = &o.mask.tensor;
  if (a.temperature) a.temperature = &o.temperature.tensor;
  static unsigned char got[8 * LARGEST];
  size_t size = size_of(plain->y.tensor.dtype);
  /* Apart, over y, and over dy. */
  view *places[] = {&o.out, &o.y, &o.dy};
  for (int i = 0; i < (gradient == SUM_VJP ? 2 : 3); i++) {
    smx_status status =
        call_gradient(gradient, &o.y.tensor, &o.dy.tensor, &places[i]->tensor, &a);
    CHECK(status == SMX_OK, "status %d: %s", status, smx_last_error());
    view_read(places[i], got);
    same_bits(i == 0 ? "another layout" : i == 1 ? "over y" : "over dy", size, got,
              plain->out.tensor.data, plain->out.count);
    CHECK(bytes_spoilt(places[i]) == 0, "bytes beside the output were written");
    if (i == 1) view_write(&o.y, plain->y.tensor.data);
  }
  free_operands(&o);
}

static void check_question(int gradient, smx_dtype dtype, int64_t rows, int64_t cols) {
  operands o;
  uint64_t seed = (uint64_t)(cols * 31 + rows * 7 + dtype);
  for (int options = 0; options < 4; options++) {
    make_operands(&o, gradient, dtype, rows, cols, seed);
    int masked = options & 1, warm = options >> 1;
    arguments a = arguments_of(&o, gradient, masked, warm);
    DESCRIBE("%s of %s, %" PRId64 " × %" PRId64 "%s%s", gradient_names[gradient], name_of(dtype),
             rows, cols, masked ? ", masked" : "", warm ? ", warm" : "");
    smx_status status = call_gradient(gradient, &o.y.tensor, &o.dy.tensor, &o.out.tensor, &a);
    CHECK(status == SMX_OK, "status %d: %s", status, smx_last_error());
    if (rows * cols > 0) compare(&o, gradient, masked, warm);
    for (uint64_t layout = 1; layout < (is_light() || cols > 100 ? 3 : 9); layout++)
      check_layout(&o, gradient, &a, layout * 16);
    free_operands(&o);
  }
}

/* -- modes and threads ------------------------------------------------------------------------- */

static void check_modes_and_threads(int gradient, smx_dtype dtype, int64_t rows, int64_t cols) {
  operands o;
  static unsigned char want[8 * LARGEST];
  make_operands(&o, gradient, dtype, rows, cols, 5);
  arguments a = arguments_of(&o, gradient, 0, 0);
  size_t size = size_of(dtype);
  DESCRIBE("%s of %s, %" PRId64 " × %" PRId64, gradient_names[gradient], name_of(dtype), rows,
           cols);
  smx_set_num_threads(1);
  call_gradient(gradient, &o.y.tensor, &o.dy.tensor, &o.out.tensor, &a);
  memcpy(want, o.out.tensor.data, size * (size_t)(rows * cols));
  for (int threads = 1; threads < 6; threads += 2) {
    smx_set_num_threads(threads);
    for (size_t m = 0; has_modes() && m < sizeof other_modes / sizeof *other_modes; m++) {
      uint64_t before = mode_now();
      set_mode(other_modes[m]);
      call_gradient(gradient, &o.y.tensor, &o.dy.tensor, &o.out.tensor, &a);
      uint64_t after = mode_now();
      set_mode(before);
      CHECK(after == other_modes[m], "mode 0x%" PRIx64 " after the call", after);
      same_bits("another mode", size, o.out.tensor.data, want, rows * cols);
    }
    if (dtype < SMX_FLOAT32 || gradient == JVP) continue;
    smx_status status = call_gradient_rows(gradient, dtype, o.y.tensor.data, o.dy.tensor.data,
                                           o.out.tensor.data, rows, cols);
    CHECK(status == SMX_OK, "status %d: %s", status, smx_last_error());
    same_bits("typed", size, o.out.tensor.data, want, rows * cols);
  }
  smx_set_num_threads(2);
  free_operands(&o);
}

/* -- guard pages ------------------------------------------------------------------------------- */

enum { SPACE = 1 << 17 };
static unsigned char *room[3], *writable[3];

static void fault(int number) {
  (void)number;
  static const char text[] = "FAILED: a guard page was touched, or an input written\n  ";
  ssize_t ignored = write(1, text, sizeof text - 1);
  ignored = write(1, context, strlen(context));
  (void)ignored;
  _exit(1);
}

/* Inputs are mapped twice: to be read by the library, and to be filled. */
static void map_rooms(void) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  for (int i = 0; i < 3; i++) {
    int file = memfd_create("guard", 0);
    if (file < 0 || ftruncate(file, SPACE) != 0) abort();
    unsigned char *all =
        mmap(NULL, SPACE + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    room[i] = mmap(all + page, SPACE, PROT_READ | (i == 2 ? PROT_WRITE : 0), MAP_SHARED | MAP_FIXED,
                   file, 0);
    writable[i] = mmap(NULL, SPACE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (room[i] == MAP_FAILED || writable[i] == MAP_FAILED) abort();
    close(file);
  }
}

static void check_guarded(int gradient, smx_dtype dtype, int64_t cols, int atEnd, int shift) {
  operands o;
  int64_t rows = 2, size = (int64_t)size_of(dtype), shape[2] = {rows, cols}, byRow[2] = {rows, 1};
  make_operands(&o, gradient, dtype, rows, cols, (uint64_t)cols);
  arguments a = arguments_of(&o, gradient, 0, 0);
  call_gradient(gradient, &o.y.tensor, &o.dy.tensor, &o.out.tensor, &a);
  smx_tensor t[3];
  DESCRIBE("%s of %s, 2 × %" PRId64 ", %d from the %s", gradient_names[gradient], name_of(dtype),
           cols, shift, atEnd ? "end" : "start");
  for (int i = 0; i < 3; i++) {
    int isByRow = i == 1 && gradient == SUM_VJP;
    int64_t bytes = (isByRow ? rows : rows * cols) * size;
    /* Each operand takes another alignment. */
    int64_t away = (shift + 5 * i) % 16 * size, at = atEnd ? SPACE - bytes - away : away;
    t[i] = (smx_tensor){room[i] + at, dtype, 2, isByRow ? byRow : shape, NULL};
    const smx_tensor *from = i == 0 ? &o.y.tensor : &o.dy.tensor;
    if (i < 2) memcpy(writable[i] + at, from->data, (size_t)bytes);
    else memset(writable[i], CANARY, SPACE);
  }
  smx_status status = call_gradient(gradient, &t[0], &t[1], &t[2], &a);
  CHECK(status == SMX_OK, "status %d: %s", status, smx_last_error());
  same_bits("guarded", (size_t)size, t[2].data, o.out.tensor.data, rows * cols);
  memset(writable[2] + ((unsigned char *)t[2].data - room[2]), CANARY,
         (size_t)(rows * cols * size));
  const unsigned char *all = writable[2];
  CHECK(all[0] == CANARY && memcmp(all, all + 1, SPACE - 1) == 0,
        "bytes beside the output were written");
  free_operands(&o);
}

/* -- the Jacobian ------------------------------------------------------------------------------ */

static void check_jacobian(smx_dtype dtype, int64_t n, uint64_t layout) {
  int64_t shape[2] = {3, n}, matrices[3] = {3, n, n}, index[RANK];
  view p, out;
  uint64_t seed = (uint64_t)n;
  view_make(&p, dtype, 2, shape, layout, 0);
  view_make(&out, dtype, 3, matrices, layout ? layout + 1 : 0, 0);
  for (int64_t i = 0; i < 3 * n; i++) y[i] = rounded_to(dtype, random_between(&seed, 0, 1));
  fill_view(&p, y);
  DESCRIBE("Jacobian of %s, n %" PRId64 ", layout %" PRIu64, name_of(dtype), n, layout);
  smx_status status = smx_softmax_jacobian(&p.tensor, &out.tensor, NULL);
  CHECK(status == SMX_OK, "status %d: %s", status, smx_last_error());
  for (int64_t i = 0; i < out.count; i++) {
    unravel(i, 3, matrices, index);
    double a = y[index[0] * n + index[1]], b = y[index[0] * n + index[2]];
    double want = a * ((index[1] == index[2]) - b),
           got = load_as(dtype, place_of(&out.tensor, index));
    double bound = 2 * ldexp(1, -format_of(dtype).digits) * 1.5 * fabs(want) +
                   ldexp(1, format_of(dtype).least);
    CHECK(fabs(got - want) <= bound, "(%" PRId64 ", %" PRId64 ") is %a, not %a", index[1], index[2],
          got, want);
  }
  CHECK(bytes_spoilt(&out) == 0, "bytes beside the output were written");
  view_free(&p);
  view_free(&out);
}

int main(void) {
  struct sigaction action = {.sa_handler = fault};
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
  map_rooms();
  static const int64_t lengths[] = {0, 1, 7, 16, 33, 70, 4096, 4097, 9000};
  int count = is_light() ? 6 : 9;
  for (int d = 0; d < 4; d++) {
    smx_dtype dtype = float_dtypes[d];
    for (int g = 0; g < GRADIENTS; g++) {
      for (int i = 0; i < count; i++)
        check_question(g, dtype, lengths[i] > 100 ? 2 : 5, lengths[i]);
      check_modes_and_threads(g, dtype, 90, 101);
      check_modes_and_threads(g, dtype, 1, 20000);
      for (int64_t cols = 0; cols <= (is_light() ? 20 : 50); cols += is_light() ? 5 : 1)
        for (int shift = 0; shift < 16; shift += is_light() ? 5 : 1) {
          check_guarded(g, dtype, cols, 0, shift);
          check_guarded(g, dtype, cols, 1, shift);
        }
      for (int64_t cols = 4095; cols < 4098; cols++) check_guarded(g, dtype, cols, cols & 1, 3);
    }
    for (uint64_t layout = 0; layout < 3; layout++) {
      for (int64_t n = 0; n < 20; n++) check_jacobian(dtype, n, layout);
      if (!is_light()) check_jacobian(dtype, 1030, layout);
    }
  }
  return finish("test_gradients");
}
