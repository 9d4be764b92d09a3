/* Guard pages around attention: every operand, output and the workspace lie against memory that
 * must not be touched, before or behind, at odd alignments, for lengths around the widths of tiles
 * and of blocks of keys. Then keys that no query sees lie in such memory themselves. Inputs are
 * given through a mapping that cannot be written. Results are those of plain memory, bit for bit.
 */
#include "attention_random.h"
#include "guard.h"

enum { WORKSPACE = VIEWS, BUFFERS };

static guarded buffers[BUFFERS];
static int64_t calls;

/* -- a call against the guards
 * ---------------------------------------------------------------------
 */

/* Moves operand k against the end (or start) of its buffer, `shift` bytes away. */
static void move(call *c, int k, int atEnd, int64_t shift) {
  guard_move(&buffers[k], &c->views[k], k >= OUT, atEnd, shift);
}

/* Reads an output back in the problem's order and checks the bytes beside its elements. */
static int64_t read_moved(call *c, int k, unsigned char *to) {
  guard_turn(&buffers[k], &c->views[k]);
  int64_t count = call_read(c, k, to), spoilt = guard_spoilt(&buffers[k], &c->views[k]);
  CHECK(spoilt == 0, "%" PRId64 " bytes beside output %d were written", spoilt, k);
  return count;
}

static unsigned char want[3][SPACE], got[SPACE];

static void compare(call *c, int last) {
  static const char *const names[] = {"out", "lse", "weights"};
  for (int k = OUT; k <= last; k++) {
    int64_t count = read_moved(c, k, got);
    same_bits(names[k - OUT], size_of(c->views[k].tensor.dtype), got, want[k - OUT], count);
  }
}

/* With exactly the workspace that is asked for, between guards as well. */
static int run_moved(call *c, int atEnd) {
  size_t need = 0;
  smx_status status = workspace_of(c, &need);
  if (!CHECK(status == SMX_OK && need <= SPACE && need % 64 == 0, "workspace of %zu bytes: %s",
             need, smx_last_error()))
    return 0;
  smx_attention_options options = c->options;
  options.workspace = buffers[WORKSPACE].given + (atEnd ? SPACE - need : 0);
  options.workspace_size = need;
  status = call_with(c, &options);
  calls++;
  return CHECK(status == SMX_OK, "status %d: %s", status, smx_last_error());
}

/* (Weights would keep the call from the units of SMX_FAST.) */
static int last_output(smx_precision precision) { return precision == SMX_FAST ? LSE : WEIGHTS; }

static void answer_plainly(const problem *p, smx_precision precision) {
  static call c;
  call_make(&c, p, (choice){.past = -1, .lse = 1, .weights = precision == SMX_EXACT});
  c.options.precision = precision;
  call_describe(&c, "plain");
  CHECK(call_run(&c) == SMX_OK, "%s", smx_last_error());
  for (int k = OUT; k <= last_output(precision); k++) call_read(&c, k, want[k - OUT]);
  call_free(&c);
}

static void answer_guarded(const problem *p, choice o, int atEnd, int64_t shift,
                           smx_precision precision) {
  static call c;
  o.lse = 1;
  o.weights = precision == SMX_EXACT;
  call_make(&c, p, o);
  c.options.precision = precision;
  char how[64];
  snprintf(how, sizeof how, "%d bytes from the %s", (int)shift, atEnd ? "end" : "start");
  call_describe(&c, how);
  for (int k = 0; k < VIEWS; k++) {
    /* Each operand at an alignment of its own. */
    int64_t own = shift ? (shift + k) % 16 * (int64_t)size_of(c.views[k].tensor.dtype) + k % 2 : 0;
    if (c.views[k].block) move(&c, k, atEnd, own);
  }
  if (run_moved(&c, atEnd)) compare(&c, last_output(precision));
  call_free(&c);
}

static void check_question(int64_t number, int64_t queries, int64_t keys, int64_t size,
                           int64_t value_size) {
  static const int64_t heads[][2] = {{1, 1}, {2, 1}, {3, 3}, {4, 2}};
  static problem p;
  uint64_t random = (uint64_t)number + 77, *r = &random;
  const int64_t *h = heads[random_below(r, 4)];
  problem_plain(&p, float_dtypes[random_below(r, 4)], 1 + number % 2, h[0], h[1], queries, keys,
                size, value_size);
  p.seed = (uint64_t)number;
  if (random_below(r, 3)) random_options(&p, r, 3, 0);
  answer_plainly(&p, SMX_EXACT);
  for (int n = 0; n < 4; n++) {
    choice o = random_choice(&p, (uint64_t)number * 4 + (uint64_t)n);
    answer_guarded(&p, o, n % 2, n < 2 ? 0 : 1 + random_below(r, 15), SMX_EXACT);
  }
  problem_free(&p);
}

/* Whole blocks as bfloat16, where the CPU has a unit for it, and tiles of one, two and three
 * vectors of queries. */
static void check_fast(int64_t queries, int64_t keys, int64_t size, int64_t value_size) {
  static problem p;
  problem_plain(&p, SMX_BFLOAT16, 1, 2, 1, queries, keys, size, value_size);
  answer_plainly(&p, SMX_FAST);
  for (int n = 0; n < 4; n++) answer_guarded(&p, (choice){.past = -1}, n % 2, n / 2, SMX_FAST);
  problem_free(&p);
}

/* -- keys that must not be read
 * --------------------------------------------------------------------
 */

/* Lets only rows first ... first + count - 1 of a contiguous operand (rows are its outermost axis
 * but for those 1 long) lie in memory: those before or behind them lie in the guard. */
static void move_rows(call *c, int k, int64_t first, int64_t count, int64_t row, int atEnd) {
  view *v = &c->views[k];
  int64_t bytes = count * row, from = atEnd ? SPACE - bytes : 0;
  memcpy(buffers[k].ours + from, (unsigned char *)v->tensor.data + first * row, (size_t)bytes);
  v->tensor.data = buffers[k].given + from - first * row;
}

/* The same backwards in memory: row 0 last, hidden rows before the start. */
static void move_backwards(call *c, int k, int axis, int64_t count, int64_t row) {
  view *v = &c->views[k];
  for (int64_t n = 0; n < count; n++)
    memcpy(buffers[k].ours + (count - 1 - n) * row, (unsigned char *)v->tensor.data + n * row,
           (size_t)row);
  v->tensor.data = buffers[k].given + (count - 1) * row;
  v->strides[axis] = -row;
}

static void make_visible(call *c, smx_tensor *length, smx_mask *m, int64_t hiddenBefore) {
  *m = (smx_mask){.size = sizeof *m};
  if (hiddenBefore)
    m->window = 1, m->window_left = c->problem->keys - hiddenBefore - 1, m->window_right = -1;
  else m->key_lengths = length;
  c->options.structure = m;
}

/* `keys` keys that are seen and `more` that are not: behind by key lengths, once more with row 0
 * last, before by a window, and behind in a pool whose table ends where the lengths do. */
static void check_hidden(smx_dtype dtype, int64_t queries, int64_t keys, int64_t more, int64_t size,
                         int64_t value_size, int64_t heads) {
  static problem p, longer;
  static call c;
  enum { BEHIND, BACKWARDS, BEFORE, PAGED, WAYS };
  problem_plain(&p, dtype, 1, 2 * heads, heads, queries, keys, size, value_size);
  answer_plainly(&p, SMX_EXACT);
  for (int way = 0; way < WAYS; way++) {
    /* A window hides the same keys from every query only if there is one. */
    if (way == BEFORE && (queries != 1 || keys == 0)) continue;
    if (way == PAGED && heads != 1) continue;
    int64_t page = way == PAGED ? 16 : 1, all = (keys + more + page - 1) / page * page;
    int64_t before = way == BEFORE ? all - keys : 0, length = keys;
    problem_take(&longer, &p, COLUMNS, -before, all, NAN);
    choice o = {.past = -1, .layout = way == PAGED ? SMX_BHLD : SMX_BLHD};
    call_make(&c, &longer, o);
    smx_tensor lengths = {&length, SMX_INT64, 0, NULL, NULL};
    smx_mask m;
    make_visible(&c, &lengths, &m, before);
    int64_t poolShapes[2][4], tableShape[] = {1, all / page}, entry[] = {all / page * 4, 4};
    smx_tensor table = {NULL, SMX_INT32, 2, tableShape, entry};
    for (int k = KEY; k <= VALUE; k++) {
      view *v = &c.views[k];
      int64_t row = heads * longer.grids[k].shape[COLUMNS] * (int64_t)size_of(dtype);
      if (way == BACKWARDS) move_backwards(&c, k, 1, keys, row);
      else move_rows(&c, k, before, keys, row, way != BEFORE);
      if (way != PAGED) continue;
      int64_t pool[] = {all / page, 1, page, v->shape[3]};
      memcpy(poolShapes[k - KEY], pool, sizeof pool);
      v->tensor.shape = poolShapes[k - KEY];
      v->strides[0] = page * row;
    }
    if (way == PAGED) {
      /* Block n is the n-th; only entries that are needed lie before the guard. */
      int64_t needed = (keys + page - 1) / page, from = SPACE - 4 * needed;
      for (int32_t n = 0; n < needed; n++) memcpy(buffers[TABLE].ours + from + 4 * n, &n, 4);
      table.data = buffers[TABLE].given + from;
      c.options.block_table = &table;
    }
    static const char *const ways[] = {"hidden behind", "hidden, backwards", "hidden before",
                                       "hidden in pages"};
    call_describe(&c, ways[way]);
    move(&c, OUT, 1, 0);
    int64_t count = run_moved(&c, 1) ? read_moved(&c, OUT, got) : 0;
    /* Keys in front move the others to other blocks: the bits may change. */
    if (way != BEFORE) same_bits("out", size_of(dtype), got, want[0], count);
    call_free(&c);
    problem_free(&longer);
  }
  problem_free(&p);
}

int main(void) {
  static const int64_t lengths[] = {1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 130};
  static const int64_t sizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 64, 65};
  guard_begin();
  for (int i = 0; i < BUFFERS; i++) guard_map(&buffers[i], i >= OUT);
  int isLight = is_light();
  int64_t number = 0;
  for (int round = 0; round < (isLight ? 1 : 2); round++) {
    for (int i = 0; i < 14; i++) {
      for (int j = 0; j < 14; j++, number++) {
        smx_set_num_threads(1 + (int)(number % 2));
        if (isLight && number % 17) continue;
        /* All pairs of lengths, then all pairs of sizes; the others take turns. */
        int a = (int)(number % 13), b = (int)(number % 11);
        check_question(2 * number, lengths[i], lengths[j], sizes[a], sizes[b]);
        check_question(2 * number + 1, lengths[a], lengths[b], sizes[i], sizes[j]);
      }
    }
  }
  /* Few queries have a way of their own where sizes are whole vectors. */
  for (int64_t queries = 1; queries <= 9; queries++) {
    for (int j = 2; j < 14; j += isLight ? 5 : 1, number++)
      check_question(2 * number, queries, lengths[j], 32 * (1 + number % 3), 64 * (1 + number % 2));
  }
  check_fast(5, 64, 32, 32);
  check_fast(40, 128, 64, 96);
  check_fast(100, 130, 96, 64);
  smx_set_num_threads(1);
  static const int64_t seen[] = {0, 1, 15, 16, 17, 48, 63, 64, 65, 128, 130};
  for (int d = 0; d < 4; d++) {
    for (int i = 0; i < 11; i += isLight ? 4 : 1) {
      for (int n = 0; n < 6; n++)
        check_hidden(float_dtypes[d], n % 2 ? 17 : 1, seen[i], n < 2 ? 1 : 70,
                     sizes[(i + 3 * n) % 14], sizes[(i + 5 * n) % 14], 1 + n / 2 % 2);
      for (int n = 0; n < 8; n++)
        check_hidden(float_dtypes[d], 1 + n, seen[i], n < 2 ? 1 : 70, 32 * (1 + n % 2), 64,
                     1 + n / 2 % 2);
    }
  }
  printf("%" PRId64 " calls against guard pages\n", calls);
  return finish("test_attention_guard");
}
