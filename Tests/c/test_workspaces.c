/* The workspace of sampling, scoring, calibration and linear_cross_entropy: with it nothing is
 * allocated and the results are the same, from no byte beyond it and whatever it held; one that is
 * too small, badly aligned or laid over an operand is refused. Attention's is in
 * test_attention_resources.c and its neighbours. */
#include <sys/mman.h>

#include "preload.h"
#include "values.h"

enum { ROWS = 60, COLS = 1500, DRAWS = 20, BEST = 1100, PLACES = 30, WIDTH = 24, CLASSES = 2100 };
enum { SAMPLE, TOP_K, GUMBEL, SEQUENCE, RANKING, LINEAR, ERROR, FIT, CALLS };
static const char *const call_names[CALLS] = {
    "sample",        "top_k",         "gumbel_softmax", "sequence_log_prob", "plackett_luce",
    "linear_cross_entropy", "calibration_error", "fit_temperature"};

/* Inputs and outputs of all calls; the first call of each takes what it needs. */
static float x[ROWS * COLS], hidden[ROWS * WIDTH], weight[CLASSES * WIDTH], row_of_each[ROWS];
static int64_t labels[ROWS], order[ROWS * PLACES];
static double shares[ROWS];
static unsigned char mask[ROWS * COLS];
static struct {
  double of_rows[ROWS * DRAWS];
  int64_t places[ROWS * BEST];
  float matrix[ROWS * COLS], of_weight[CLASSES * WIDTH];
  double bins[6][16];
  smx_calibration error;
  smx_temperature_fit fit;
} out, untouched, want;

enum { OPERANDS = 12, DISTANCE = 8 << 20 };
static struct {
  const char *name;
  smx_tensor tensor;
  const void *source;
  size_t bytes;
} operands[OPERANDS];
static int operand_count;
static int64_t shapes[OPERANDS][2];
/* Where copies of the operands go that nothing lies beside; NULL for the operands themselves. */
static unsigned char *apart;

static const smx_tensor *operand(const char *name, void *data, smx_dtype dtype, int64_t rows,
                                 int64_t cols) {
  int i = operand_count++, rank = (rows > 0) + (cols > 0);
  shapes[i][0] = rows, shapes[i][1] = cols;
  operands[i].name = name;
  operands[i].source = data;
  operands[i].bytes = size_of(dtype) * (size_t)((rows ? rows : 1) * (cols ? cols : 1));
  if (apart) data = memcpy(apart + i * DISTANCE, data, operands[i].bytes);
  operands[i].tensor = (smx_tensor){data, dtype, rank, shapes[i], NULL};
  return &operands[i].tensor;
}

/* The call, or the size of its workspace. */
static smx_status call(int which, void *workspace, size_t bytes, size_t *need) {
  operand_count = 0;
#define OPTIONS(type, ...) \
  type o = {.size = sizeof o, .workspace = workspace, .workspace_size = bytes, ##__VA_ARGS__}
#define ASK(function, ...) \
  (need ? function##_workspace_size(__VA_ARGS__, &o, need) : function(__VA_ARGS__, &o))
  switch (which) {
    case SAMPLE: {
      const smx_tensor *from = operand("logits", x, SMX_FLOAT32, ROWS, COLS),
                       *to = operand("out", out.places, SMX_INT64, ROWS, DRAWS);
      OPTIONS(smx_sample_options,
              .temperature = operand("temperature", row_of_each, SMX_FLOAT32, ROWS, 0),
              .top_k = operand("top_k", labels, SMX_INT64, ROWS, 0),
              .top_p = operand("top_p", shares, SMX_FLOAT64, ROWS, 0),
              .min_p = operand("min_p", shares, SMX_FLOAT64, ROWS, 0),
              .mask = operand("mask", mask, SMX_BOOL, ROWS, COLS),
              .counter = operand("counter", labels, SMX_INT64, ROWS, 0),
              .draw = operand("draw", labels, SMX_INT64, ROWS, 0),
              .log_probs = operand("log_probs", out.of_rows, SMX_FLOAT64, ROWS, DRAWS));
      return ASK(smx_sample, from, to);
    }
    case TOP_K: {
      const smx_tensor *from = operand("logits", x, SMX_FLOAT32, ROWS, COLS),
                       *to = operand("probabilities", out.matrix, SMX_FLOAT32, ROWS, BEST),
                       *places = operand("indices", out.places, SMX_INT64, ROWS, BEST);
      OPTIONS(smx_top_k_options, .mask = operand("mask", mask, SMX_BOOL, ROWS, COLS),
              .temperature = operand("temperature", row_of_each, SMX_FLOAT32, ROWS, 0));
      return ASK(smx_top_k, from, to, places);
    }
    case GUMBEL: {
      const smx_tensor *from = operand("logits", x, SMX_FLOAT32, ROWS, COLS),
                       *to = operand("out", out.matrix, SMX_FLOAT32, ROWS, COLS);
      OPTIONS(smx_gumbel_softmax_options, .mask = operand("mask", mask, SMX_BOOL, ROWS, COLS),
              .temperature = operand("temperature", row_of_each, SMX_FLOAT32, ROWS, 0),
              .counter = operand("counter", labels, SMX_INT64, ROWS, 0),
              .draw = operand("draw", labels, SMX_INT64, ROWS, 0));
      return ASK(smx_gumbel_softmax, from, to);
    }
    case SEQUENCE: {
      static const int64_t all[] = {1, ROWS, COLS}, each[] = {1, ROWS};
      static int64_t length = ROWS - 1;
      smx_tensor *from = (smx_tensor *)operand("logits", x, SMX_FLOAT32, ROWS, COLS),
                 *tokens = (smx_tensor *)operand("tokens", labels, SMX_INT64, ROWS, 0);
      const smx_tensor *to = operand("out", out.of_rows, SMX_FLOAT64, 1, 0);
      smx_tensor *of_each =
                     (smx_tensor *)operand("token_log_probs", out.matrix, SMX_FLOAT32, ROWS, 0),
                 *cold = (smx_tensor *)operand("temperature", row_of_each, SMX_FLOAT32, ROWS, 0),
                 *seen = (smx_tensor *)operand("mask", mask, SMX_BOOL, ROWS, COLS);
      from->ndim = seen->ndim = 3, from->shape = seen->shape = all;
      tokens->ndim = of_each->ndim = cold->ndim = 2;
      tokens->shape = of_each->shape = cold->shape = each;
      OPTIONS(smx_sequence_options, .lengths = operand("lengths", &length, SMX_INT64, 1, 0),
              .temperature = cold, .mask = seen, .token_log_probs = of_each);
      return ASK(smx_sequence_log_prob, from, tokens, to);
    }
    case RANKING: {
      const smx_tensor *from = operand("scores", x, SMX_FLOAT32, ROWS, COLS),
                       *by = operand("ranking", order, SMX_INT64, ROWS, PLACES),
                       *to = operand("out", out.of_rows, SMX_FLOAT64, ROWS, 0);
      OPTIONS(smx_plackett_luce_options);
      return ASK(smx_plackett_luce_log_prob, from, by, to);
    }
    case LINEAR: {
      const smx_tensor *from = operand("hidden", hidden, SMX_FLOAT32, ROWS, WIDTH),
                       *by = operand("weight", weight, SMX_FLOAT32, CLASSES, WIDTH),
                       *at = operand("targets", labels, SMX_INT64, ROWS, 0),
                       *to = operand("loss", &out.of_rows, SMX_FLOAT32, 0, 0);
      OPTIONS(smx_linear_cross_entropy_options,
              .bias = operand("bias", x, SMX_FLOAT32, CLASSES, 0),
              .lse = operand("lse", &out.places, SMX_FLOAT32, ROWS, 0),
              .d_hidden = operand("d_hidden", out.matrix, SMX_FLOAT32, ROWS, WIDTH),
              .d_weight = operand("d_weight", out.of_weight, SMX_FLOAT32, CLASSES, WIDTH),
              .d_bias = operand("d_bias", out.matrix + ROWS * WIDTH, SMX_FLOAT32, CLASSES, 0));
      return ASK(smx_linear_cross_entropy, from, by, at, to);
    }
    default: {
      const smx_tensor *from = operand("logits", x, SMX_FLOAT32, ROWS, COLS),
                       *right = operand("labels", labels, SMX_INT64, ROWS, 0);
      smx_calibration diagram = {.size = sizeof diagram, .edges = out.bins[0]};
      if (which == ERROR) {
        OPTIONS(smx_calibration_options);
        if (need) return smx_calibration_error_workspace_size(from, right, &o, need);
        out.error = diagram;
        return smx_calibration_error(from, right, &o, &out.error);
      }
      OPTIONS(smx_fit_options, .bins = 7);
      if (need) return smx_fit_temperature_workspace_size(from, right, &o, need);
      out.fit = (smx_temperature_fit){.size = sizeof out.fit, .before = diagram, .after = diagram};
      out.fit.after.edges = out.bins[1];
      return smx_fit_temperature(from, right, &o, &out.fit);
    }
  }
}

static void fill(void) {
  uint64_t seed = 3;
  for (int i = 0; i < ROWS * COLS; i++) {
    x[i] = (float)random_between(&seed, -4, 4);
    mask[i] = random_below(&seed, 8) > 0;
  }
  for (int i = 0; i < ROWS * WIDTH; i++) hidden[i] = (float)random_between(&seed, -1, 1);
  for (int i = 0; i < CLASSES * WIDTH; i++) weight[i] = (float)random_between(&seed, -1, 1);
  for (int i = 0; i < ROWS; i++) {
    labels[i] = random_below(&seed, COLS);
    row_of_each[i] = (float)random_between(&seed, 0.5, 2);
    shares[i] = random_between(&seed, 0, 0.01);
    for (int k = 0; k < PLACES; k++) order[i * PLACES + k] = (k * 41 + i) % COLS;
  }
}

static int is_untouched(int which) {
  /* What the caller gives of a result is his. */
  if (which >= ERROR) memset(&out.error, 0, sizeof out.error), memset(&out.fit, 0, sizeof out.fit);
  return memcmp(&out, &untouched, sizeof out) == 0;
}

static void expect(int which, void *workspace, size_t bytes, smx_status status, const char *word,
                   const char *other) {
  out = untouched;
  smx_status got = call(which, workspace, bytes, NULL);
  const char *sentence = smx_last_error();
  CHECK(got == status && strstr(sentence, word) && strstr(sentence, other),
        "status %d, not %d, or \"%s\" does not say \"%s\" and \"%s\"", got, status, sentence, word,
        other);
  CHECK(is_untouched(which), "an output was written");
}

static void check_workspace(int which, int32_t thread_count) {
  enum { PAGE = 4096 };
  size_t need = 12345;
  long allocations, threads;
  char number[24];
  smx_set_num_threads(thread_count);
  DESCRIBE("%s, %d threads", call_names[which], thread_count);
  if (!CHECK(call(which, NULL, 0, &need) == SMX_OK && need > 0 && is_untouched(which),
             "%zu bytes: %s", need, smx_last_error()))
    return;
  snprintf(number, sizeof number, "%zu", need);

  CHECK(call(which, NULL, 0, NULL) == SMX_OK, "%s", smx_last_error());
  out = untouched;
  preload_begin(0, 0);
  smx_status status = call(which, NULL, 0, NULL);
  preload_end(&allocations, &threads);
  CHECK(status == SMX_OK && allocations == 1 && preload_bytes() == (long)((need + 63) / 64 * 64),
        "status %d, %ld allocations of %ld bytes, not %zu", status, allocations, preload_bytes(),
        need);
  want = out;
  CHECK(memcmp(&want, &untouched, sizeof want) != 0, "no output was written");

  /* Before a guard page; what alignment leaves behind it, and a line before it, must stay. */
  size_t room = (need + 63) / 64 * 64, mapped = (room + 64 + PAGE - 1) / PAGE * PAGE;
  int flags = MAP_PRIVATE | MAP_ANONYMOUS, rights = PROT_READ | PROT_WRITE;
  unsigned char *space = mmap(NULL, mapped + PAGE, rights, flags, -1, 0);
  if (space == MAP_FAILED || mprotect(space + mapped, PAGE, PROT_NONE) != 0) abort();
  unsigned char *workspace = space + mapped - room;
  for (int byte = 0; byte < 256; byte += 255) {
    memset(space, byte, mapped);
    out = untouched;
    preload_begin(1, 0);
    status = call(which, workspace, need, NULL);
    preload_end(&allocations, &threads);
    CHECK(status == SMX_OK && allocations == 0, "status %d, %ld allocations", status, allocations);
    CHECK(memcmp(&out, &want, sizeof out) == 0, "other results in a workspace of %d", byte);
    int is_spoilt = 0;
    for (int i = 1; i <= 64; i++) is_spoilt |= workspace[-i] != byte;
    for (size_t i = need; i < room; i++) is_spoilt |= workspace[i] != byte;
    CHECK(!is_spoilt, "bytes beside the workspace were written");
  }

  expect(which, workspace, need - 1, SMX_ERROR_VALUE, "workspace_size", number);
  expect(which, workspace, 0, SMX_ERROR_VALUE, "workspace_size is 0", number);
  expect(which, workspace - 8, need, SMX_ERROR_VALUE, "workspace", "64");
  size_t all = (size_t)OPERANDS * DISTANCE;
  int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  apart = mmap(NULL, all, PROT_READ | PROT_WRITE, kind, -1, 0);
  if (apart == MAP_FAILED) abort();
  for (int i = 0, end = operand_count; i < 2 * end; i++) {
    /* It begins within the operand, or ends there. */
    unsigned char *data = apart + i / 2 * DISTANCE;
    DESCRIBE("%s %s %s", call_names[which], i % 2 ? "up to" : "over", operands[i / 2].name);
    expect(which, i % 2 && i > 1 ? data - (need - 1) / 64 * 64 : data, need, SMX_ERROR_OVERLAP,
           "workspace", operands[i / 2].name);
    for (int k = 0; k < end; k++)
      CHECK(memcmp(operands[k].tensor.data, operands[k].source, operands[k].bytes) == 0,
            "%s was written", operands[k].name);
  }
  munmap(apart, all);
  apart = NULL;
  DESCRIBE("%s, no memory", call_names[which]);
  preload_begin(1, 0);
  expect(which, NULL, 0, SMX_ERROR_MEMORY, "out of memory", number);
  preload_end(&allocations, &threads);
  munmap(space, mapped + PAGE);
}

/* Calls whose numbers fit on the stack and into the threads' scratch. */
static void check_none(void) {
  static const int64_t shape[] = {4, COLS}, rows[] = {4}, best[] = {4, 1024};
  smx_tensor from = {x, SMX_FLOAT32, 2, shape, NULL}, to = {out.places, SMX_INT64, 1, rows, NULL};
  smx_tensor shares_of = {out.matrix, SMX_FLOAT32, 2, best, NULL},
             places = {out.places, SMX_INT64, 2, best, NULL};
  smx_sample_options o = {.size = sizeof o, .workspace = (void *)8};
  size_t need = 7;
  DESCRIBE("no workspace needed");
  CHECK(smx_sample_workspace_size(&from, &to, &o, &need) == SMX_OK && need == 0, "%zu bytes", need);
  CHECK(smx_sample(&from, &to, &o) == SMX_OK, "%s", smx_last_error());
  need = 7;
  CHECK(smx_top_k_workspace_size(&from, &shares_of, &places, NULL, &need) == SMX_OK && need == 0,
        "%zu bytes", need);
  /* Errors of the call are those of the question, which then leaves the size alone. */
  need = 7, o.size = 8;
  CHECK(smx_sample_workspace_size(&from, &to, &o, &need) == SMX_ERROR_SIZE && need == 7, "%s",
        smx_last_error());
  CHECK(smx_sample_workspace_size(&from, NULL, NULL, &need) == SMX_ERROR_NULL && need == 7, "%s",
        smx_last_error());
  CHECK(smx_sample_workspace_size(&from, &to, NULL, NULL) == SMX_ERROR_NULL &&
            strstr(smx_last_error(), "size is NULL"),
        "%s", smx_last_error());
  out = untouched;
}

int main(void) {
  fill();
  check_none();
  for (int which = 0; which < CALLS; which++)
    for (int32_t threads = 1; threads <= 3; threads += 2) check_workspace(which, threads);
  return finish("test_workspaces");
}
