/* The golden check of the other operations: every case, plainly and in its variations, against one
 * set of bits. */
#include "mode.h"
#include "operations.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_RESULTS = 8 };

/* Add a file's list here, twice. */
extern const operation_case operations_additive[];
extern const operation_case operations_attention_vjp[];
extern const operation_case operations_gradients[];
extern const operation_case operations_linear[];
extern const operation_case operations_losses[];
extern const operation_case operations_sampling[];
extern const operation_case operations_scoring[];
const operation_case *const operation_files[] = {
    operations_additive,
    operations_attention_vjp,
    operations_gradients,
    operations_linear,
    operations_losses,
    operations_sampling,
    operations_scoring,
    NULL,
};

/* What takes seconds each under an emulator; there are shorter cases of each operation. */
static const char *const long_cases[] = {
    "additive_f32",
    "additive_f64",
    "attention_vjp_all_f32",
    "attention_vjp_causal_f32",
    "attention_vjp_decode_f32",
    "attention_vjp_row_bias_f32",
    "attention_vjp_shared_f32",
    "attention_vjp_sinks_f32",
    "fit_f64",
    "linear_f32_all",
    "linear_f32_spans",
    "linear_f64_spans",
};

static int is_long(const operation_case *c) {
  for (size_t i = 0; i < sizeof long_cases / sizeof *long_cases; i++)
    if (strcmp(c->name, long_cases[i]) == 0) return 1;
  return 0;
}

struct operation_run {
  const char *name;
  int count, failed;
  struct {
    char name[32];
    array result;
  } of[MOST_RESULTS];
};

void emit(operation_run *run, const char *name, const array *result) {
  if (run->count == MOST_RESULTS) {
    printf("FAILED %s: more than %d results\n", run->name, MOST_RESULTS);
    run->failed = 1;
    return;
  }
  snprintf(run->of[run->count].name, sizeof run->of[0].name, "%s", name);
  array copy = new_array(result->dtype, result->rank, result->shape);
  memcpy(copy.data, result->data, (size_t)bytes_of(result));
  run->of[run->count++].result = copy;
}

int succeeded(operation_run *run, smx_status status) {
  if (status == SMX_OK) return 1;
  printf("FAILED %s: %s\n", run->name, smx_last_error());
  run->failed = 1;
  return 0;
}

array uniform_array(smx_dtype dtype, int rank, const int64_t *shape, int e, uint64_t seed,
                    int which) {
  array a = new_array(dtype, rank, shape);
  for (int64_t i = 0; i < a.count; i++)
    set(&a, i, uniform(dtype, e, stream(seed, which, (uint64_t)i)));
  return a;
}

smx_tensor tensor_of(array *a) {
  return (smx_tensor){.data = a->data, .dtype = a->dtype, .ndim = a->rank, .shape = a->shape};
}

static operation_run run_case(const operation_case *c, int variation, int threads) {
  operation_run run = {.name = c->name};
  smx_set_num_threads(threads);
  c->run(&run, variation);
  return run;
}

static void free_run(operation_run *run) {
  for (int i = 0; i < run->count; i++) free(run->of[i].result.data);
}

static const char *line_of(char *text, size_t size, const operation_run *run, int i) {
  snprintf(text, size, "%s.%s", run->name, run->of[i].name);
  return text;
}

static int is_same(const operation_run *a, const operation_run *b, int i) {
  return strcmp(a->of[i].name, b->of[i].name) == 0 &&
         a->of[i].result.count == b->of[i].result.count &&
         memcmp(a->of[i].result.data, b->of[i].result.data, (size_t)bytes_of(&a->of[i].result)) ==
             0;
}

/* Inputs are made in the mode, too: they are whole numbers times powers of two, which no mode
 * rounds. */
static void check_variation(const operation_case *c, const operation_run *plain, int variation,
                            int threads, int mode, tally *t) {
  uint64_t before = enter_odd_mode(mode);
  operation_run run = run_case(c, variation, threads);
  int changed = leave_odd_mode(before, mode);
  if (run.failed || run.count != plain->count || changed) {
    printf("FAILED %s, variation %d, %d threads, mode %d: %s\n", c->name, variation, threads, mode,
           changed ? "it is another one afterwards" : "other results than the plain call");
    t->failed++;
  }
  for (int i = 0; i < run.count && i < plain->count; i++) {
    if (is_same(plain, &run, i)) {
      t->passed++;
    } else {
      printf("FAILED %s.%s, variation %d, %d threads, mode %d: differs from the plain call\n",
             c->name, plain->of[i].name, variation, threads, mode);
      t->failed++;
    }
  }
  free_run(&run);
}

static void path_of(char *path, size_t size, const char *folder) {
  snprintf(path, size, "%s/operations_expected.txt", folder);
}

int generate_operations(const char *folder) {
  char path[512], name[2 * NAME];
  path_of(path, sizeof path, folder);
  FILE *file = begin_file(path, "the files of cases", "case and result");
  int count = 0, wrong = 0;
  for (int f = 0; operation_files[f]; f++) {
    for (const operation_case *c = operation_files[f]; c->name; c++, count++) {
      operation_run run = run_case(c, 0, 1);
      wrong |= run.failed;
      for (int i = 0; i < run.count; i++)
        write_expectation(file, line_of(name, sizeof name, &run, i), &run.of[i].result);
      free_run(&run);
    }
  }
  if (!end_file(file, path, !wrong)) return 1;
  printf("%d cases written to %s\n", count, path);
  return 0;
}

int check_operations(const char *folder, effort effort) {
  static const int threads[] = {1, 2, 3, 7};
  char path[512], name[2 * NAME];
  path_of(path, sizeof path, folder);
  expectation *expected;
  int expectations = read_expected(path, &expected), count = 0, results = 0, turn = 0;
  tally t = {0, 0};
  for (int f = 0; operation_files[f]; f++) {
    for (const operation_case *c = operation_files[f]; c->name; c++) {
      if (effort == BRIEF && is_long(c)) continue;
      count++;
      operation_run plain = run_case(c, 0, 1);
      if (plain.failed) t.failed++;
      for (int i = 0; i < plain.count; i++, results++) {
        line_of(name, sizeof name, &plain, i);
        if (meets_expectation(name, 0, &plain.of[i].result,
                              find_expected(expected, expectations, name))) {
          t.passed++;
        } else {
          printf("no more is known\n");
          t.failed++;
        }
      }
      for (int variation = 0; variation < (effort == BRIEF ? 0 : c->variations); variation++)
        for (int k = 0; k < 4; k++)
          if (variation + k > 0 && (effort == FULL || turn++ % 4 == 0))
            check_variation(c, &plain, variation, threads[k], 0, &t);
      for (int mode = 1; mode <= (effort == BRIEF ? 0 : 2); mode++)
        check_variation(c, &plain, 0, threads[mode], mode, &t);
      free_run(&plain);
    }
  }
  if (effort != BRIEF && results != expectations) {
    printf("FAILED: operations_expected.txt has %d results, the cases %d\n", expectations, results);
    t.failed++;
  }
  print_tally("golden operations", count, &t);
  free(expected);
  return t.failed != 0;
}
