/* The golden check: the same bits on every instruction set, for every way to call.
 *
 *   golden check      compare with what is expected, and every variation with the plain call
 *   golden generate   write expected.txt, attention_expected.txt and operations_expected.txt
 *   golden isas       print the instruction sets that run here
 *
 *   --fewer           of the operations' variations one in four, for emulators
 *   --brief           fewer variations and cases, for emulators of what runs here too
 *   --isa NAME        demand that the library chose this instruction set
 *   --data FOLDER     where the cases and what is expected of them are */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attention.h"
#include "operations.h"

/* Golden values are no place to keep an error: nothing beyond the header's bound is written. */
static const double BOUND = 2;

/* A sum of weighted terms of both signs may cancel; it has no bound of its own. */
static double bound_of(const inputs *in) {
  return strcmp(in->from->weights, "full") == 0 ? 0x1p20 : BOUND;
}

static int generate(const char *path, const golden_case *cases, int count) {
  FILE *file = begin_file(path, "cases.txt", "name");
  int wrong = 0;
  for (int i = 0; i < count; i++) {
    inputs in;
    make_inputs(&in, &cases[i]);
    array out = plain_call(&in);
    if (!out.data) return 1;
    exact_value *exact = reference(&in);
    int64_t at;
    double worst = worst_error(&out, exact, &at);
    if (worst > bound_of(&in)) {
      printf("REFUSED %s: %.3g ulp at index %" PRId64 ": %a, exact %.17Lg\n", cases[i].name, worst,
             at, get(&out, at), exact[at].value);
      wrong++;
    }
    write_expectation(file, cases[i].name, &out);
    free(exact);
    free(out.data);
    free_inputs(&in);
  }
  if (!end_file(file, path, !wrong)) return 1;
  printf("%d cases written to %s\n", count, path);
  return 0;
}

/* Compares the plain call with expected.txt. */
static void check_expected(inputs *in, const array *out, const expectation *e, tally *t) {
  if (meets_expectation(in->from->name, in->from->seed, out, e)) {
    t->passed++;
    return;
  }
  t->failed++;
  int64_t at;
  exact_value *exact = reference(in);
  double worst = worst_error(out, exact, &at);
  printf("worst error %.3g ulp at %" PRId64 " (%a, exact %.17Lg): %s\n", worst, at, get(out, at),
         exact[at].value, worst <= bound_of(in) ? "different, not wrong" : "WRONG");
  free(exact);
}

static int check(const char *path, const golden_case *cases, int count, int brief,
                 const char *isa) {
  expectation *expected;
  int expectations = read_expected(path, &expected);
  tally t = {0, 0};
  const char *chosen = "?";
  smx_status status = smx_isa(&chosen);
  if (status != SMX_OK) return printf("FAILED: %s\n", smx_last_error()), 1;
  if (isa && strcmp(isa, chosen) != 0) {
    printf("FAILED: the library chose %s, not %s\n", chosen, isa);
    t.failed++;
  }
  if (expectations != count) {
    printf("FAILED: expected.txt has %d cases, cases.txt %d\n", expectations, count);
    t.failed++;
  }
  for (int i = 0; i < count; i++) {
    inputs in;
    make_inputs(&in, &cases[i]);
    array out = plain_call(&in);
    if (out.data) {
      check_expected(&in, &out, find_expected(expected, expectations, cases[i].name), &t);
      check_variations(&in, &out, brief, &t);
    } else {
      t.failed++;
    }
    free(out.data);
    free_inputs(&in);
  }
  print_tally("golden", count, &t);
  free(expected);
  return t.failed != 0;
}

void print_tally(const char *what, int cases, const tally *t) {
  const char *isa = "?";
  smx_isa(&isa);
  printf("%s, isa %s: %d cases, %" PRId64 " equalities checked\n%" PRId64 " passed, %" PRId64
         " failed\n",
         what, isa, cases, t->passed + t->failed, t->passed, t->failed);
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "", *folder = ".", *isa = NULL;
  effort effort = FULL;
  for (int i = 2; i < argc; i++) {
    if (strcmp(argv[i], "--brief") == 0) effort = BRIEF;
    else if (strcmp(argv[i], "--fewer") == 0) effort = FEWER;
    else if (strcmp(argv[i], "--isa") == 0 && i + 1 < argc) isa = argv[++i];
    else if (strcmp(argv[i], "--data") == 0 && i + 1 < argc) folder = argv[++i];
    else mode = "";
  }
  if (strcmp(mode, "isas") == 0) {
    static const char *const names[] = {"v2", "v3", "v4", "neon"};
    for (int i = 0; i < 4; i++)
      if (smx_isa_supported(names[i]) == 1) puts(names[i]);
    return 0;
  }
  char list[512], expected[512];
  snprintf(list, sizeof list, "%s/cases.txt", folder);
  snprintf(expected, sizeof expected, "%s/expected.txt", folder);
  setvbuf(stdout, NULL, _IOLBF, 0);
  golden_case *cases;
  if (strcmp(mode, "check") == 0) {
    int count = read_cases(list, &cases);
    int failed = check(expected, cases, count, effort == BRIEF, isa);
    failed |= check_attention(folder, effort == BRIEF);
    return check_operations(folder, effort) || failed;
  }
  if (strcmp(mode, "generate") == 0) {
    int count = read_cases(list, &cases);
    return generate(expected, cases, count) || generate_attention(folder) ||
           generate_operations(folder);
  }
  fprintf(stderr,
          "usage: golden check|generate|isas [--fewer | --brief] [--isa NAME] [--data FOLDER]\n");
  return 2;
}
