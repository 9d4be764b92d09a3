/* Errors of structured masks: sizes, lists, ranges, dtypes, shapes, strides, things given singly.
 */
#include "values.h"

enum { BYTES = 512, CANARY = 0xa5 };
static float x[24];
static unsigned char out[BYTES], plain[BYTES];
static const int64_t shape[] = {2, 3, 4}, sums[] = {2, 3};
static int operation;

static smx_status call(const smx_mask *structure) {
  smx_tensor input = {x, SMX_FLOAT32, 3, shape, NULL};
  smx_tensor output = {out, SMX_FLOAT32, operation == LOGSUMEXP ? 2 : 3,
                       operation == LOGSUMEXP ? sums : shape, NULL};
  return call_tensor(operation, &input, &output, &(arguments){.structure = structure});
}

static void expect(const char *place, const smx_mask *structure, smx_status want, const char *a,
                   const char *b) {
  memset(out, CANARY, BYTES);
  memset(plain, CANARY, BYTES);
  smx_status got = call(structure);
  const char *sentence = smx_last_error();
  check(got == want, place, "status %d, not %d: %s", got, want, sentence);
  check(strstr(sentence, a) && strstr(sentence, b), place, "\"%s\" does not say %s and %s",
        sentence, a, b);
  check(memcmp(out, plain, BYTES) == 0, place, "out was written");
}

#define EXPECT(structure, want, a, b) \
  expect(__FILE__ ":" CHECK_TEXT(__LINE__), structure, want, a, b)

static void check_lists(void) {
  static smx_mask list[65];
  smx_mask small = {.size = 8}, tail = {.size = sizeof tail + 1},
           head = {.size = sizeof head, .also = &tail};
  EXPECT(&small, SMX_ERROR_SIZE, "structure.size", "8");
  EXPECT(&head, SMX_ERROR_SIZE, "structure.size", "bytes");
  smx_mask cycle = {.size = sizeof cycle};
  cycle.also = &cycle;
  EXPECT(&cycle, SMX_ERROR_VALUE, "64", "cycle");
  for (int i = 0; i < 65; i++)
    list[i] = (smx_mask){.size = sizeof *list, .also = i < 64 ? &list[i + 1] : NULL};
  EXPECT(&list[0], SMX_ERROR_VALUE, "64", "cycle");
  CHECK(call(&list[1]) == SMX_OK, "64 conditions: %s", smx_last_error());
  smx_mask window = {.size = sizeof window, .window = 1, .window_left = -2, .window_right = 5};
  EXPECT(&window, SMX_ERROR_VALUE, "window_left", "-2");
  window =
      (smx_mask){.size = sizeof window, .window = 1, .window_left = 3, .window_right = INT64_MIN};
  EXPECT(&window, SMX_ERROR_VALUE, "window_right", "-9223372036854775808");
  /* Windows that are switched off are not looked at, and extreme ones and offsets are fine. */
  window.window = 0;
  CHECK(call(&window) == SMX_OK, "%s", smx_last_error());
  int64_t extremes[] = {INT64_MAX, INT64_MIN, INT64_MAX - 1};
  for (int i = 0; i < 9; i++) {
    smx_tensor offset = {&extremes[i % 3], SMX_INT64, 0, NULL, NULL};
    window = (smx_mask){.size = sizeof window,
                        .causal = i & 1,
                        .window = 1,
                        .query_offset = &offset,
                        .window_left = i / 3 ? INT64_MAX : 0,
                        .window_right = i / 3 == 2 ? INT64_MAX : 0};
    CHECK(call(&window) == SMX_OK, "%s", smx_last_error());
  }
  smx_tensor flat = {x, SMX_FLOAT32, 1, shape, NULL}, flatOut = {out, SMX_FLOAT32, 1, shape, NULL};
  if (operation == LOGSUMEXP) flatOut.ndim = 0;
  smx_mask causal = {.size = sizeof causal, .causal = 1};
  smx_status status = call_tensor(operation, &flat, &flatOut, &(arguments){.structure = &causal});
  CHECK(status == SMX_ERROR_SHAPE && strstr(smx_last_error(), "(2,)"), "status %d: %s", status,
        smx_last_error());
}

/* The five integer tensors by number, so that each meets each error. */
enum { OFFSET, KEYS, QUERIES, QUERY_IDS, KEY_IDS, KINDS };
static const char *const names[KINDS] = {"query_offset", "key_lengths", "query_lengths",
                                         "query_segments", "key_segments"};

static void put(smx_mask *m, int kind, const smx_tensor *t) {
  const smx_tensor **places[] = {&m->query_offset, &m->key_lengths, &m->query_lengths,
                                 &m->query_segments, &m->key_segments};
  *places[kind] = t;
}

static void check_tensors(void) {
  static int64_t numbers[64];
  static const int64_t strides[] = {8, 8}, two[] = {2}, seven[] = {7}, negative[] = {-1},
                       huge[] = {INT64_MAX, 3};
  static const int64_t ids[2][2] = {{2, 3}, {2, 4}}, wrongIds[] = {2, 5}, threeAxes[] = {2, 3, 4};
  static const int64_t idStrides[2][2] = {{24, 8}, {32, 8}};
  for (int kind = 0; kind < KINDS; kind++) {
    int isIds = kind >= QUERY_IDS;
    smx_tensor good = isIds ? (smx_tensor){numbers, SMX_INT64, 2, ids[kind == KEY_IDS],
                                           idStrides[kind == KEY_IDS]}
                            : (smx_tensor){numbers, SMX_INT64, 1, two, strides};
    smx_tensor partner = {numbers, SMX_INT64, 2, ids[kind == QUERY_IDS],
                          idStrides[kind == QUERY_IDS]},
               bad = good;
    smx_mask m = {.size = sizeof m};
    DESCRIBE("%s of %s", names[kind], operation_names[operation]);
    if (isIds) {
      put(&m, kind, &good);
      EXPECT(&m, SMX_ERROR_NULL, "query_segments", "together");
      put(&m, kind == QUERY_IDS ? KEY_IDS : QUERY_IDS, &partner);
    }
    put(&m, kind, &bad);
#define BAD(change, want, word) (change, EXPECT(&m, want, names[kind], word), bad = good)
    BAD(bad.data = NULL, SMX_ERROR_NULL, "data is NULL");
    BAD(bad.shape = NULL, SMX_ERROR_NULL, "shape is NULL");
    BAD(bad.strides = NULL, SMX_ERROR_NULL, "strides");
    BAD(bad.dtype = SMX_FLOAT64, SMX_ERROR_DTYPE, "float64");
    BAD(bad.dtype = SMX_BOOL, SMX_ERROR_DTYPE, "bool");
    BAD(bad.dtype = 4, SMX_ERROR_DTYPE, "dtype 4");
    BAD(bad.ndim = -1, SMX_ERROR_SHAPE, "-1 axes");
    BAD((bad.ndim = 1, bad.shape = negative), SMX_ERROR_SHAPE, "negative");
    BAD((bad.ndim = 2, bad.shape = huge), SMX_ERROR_OVERFLOW, "9223372036854775807");
    BAD((bad.ndim = 1, bad.shape = seven), SMX_ERROR_SHAPE, "(7,)");
    BAD((bad.ndim = 3, bad.shape = threeAxes), SMX_ERROR_SHAPE, "(2, 3, 4)");
    BAD((bad.ndim = 2, bad.shape = wrongIds), SMX_ERROR_SHAPE, "(2, 5)");
    if (isIds) BAD(bad.ndim = 0, SMX_ERROR_SHAPE, "()");
#undef BAD
    CHECK(call(&m) == SMX_OK, "%s", smx_last_error());
    if (kind != KEYS && kind != QUERIES) continue;
    /* Lengths must lie in 0 ... Lk or Lq, every one of them, in both dtypes. */
    int64_t most = kind == KEYS ? 4 : 3, wrong[] = {-1, most + 1, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 16; i++) {
      int64_t value = wrong[i % 4];
      char text[24];
      snprintf(text, sizeof text, "%" PRId64, value);
      good.dtype = bad.dtype = i / 4 % 2 ? SMX_INT32 : SMX_INT64;
      store_as(good.dtype, (char *)numbers + (i / 8) * 8, (double)value);
      EXPECT(&m, SMX_ERROR_VALUE, names[kind], text);
      memset(numbers, 0, sizeof numbers);
    }
    numbers[0] = most;
    good.dtype = bad.dtype = SMX_INT64;
    CHECK(call(&m) == SMX_OK, "%s", smx_last_error());
    numbers[0] = 0;
  }
}

/* `test_structures state v3` prints "best", the one that the library chose, "runs" or "unknown". */
static int print_state(const char *isa) {
  const char *best = "";
  smx_isa(&best);
  return puts(strcmp(isa, best) == 0        ? "best"
              : smx_isa_supported(isa) == 1 ? "runs"
                                            : "unknown") < 0;
}

int main(int count, char **words) {
  if (count == 3 && strcmp(words[1], "state") == 0) return print_state(words[2]);
  for (operation = 0; operation < OPERATIONS; operation++) {
    DESCRIBE("structure of %s", operation_names[operation]);
    check_lists();
    check_tensors();
  }
  return finish("test_structures");
}
