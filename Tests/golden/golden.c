/* The golden check: the same bits on every instruction set, for every way to call.
 *
 *   golden check      compare with expected.txt, and every variation with the plain call
 *   golden generate   write expected.txt from this library
 *   golden isas       print the instruction sets that run here
 *
 *   --brief           fewer variations, for emulators
 *   --isa NAME        demand that the library chose this instruction set
 *   --data FOLDER     where cases.txt and expected.txt are */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

/* Golden values are no place to keep an error: nothing beyond the header's bound is written. */
static const double BOUND = 2;

static int64_t sample_place(int64_t count, int k) {
  return count <= SAMPLES ? k : k * (count - 1) / (SAMPLES - 1);
}

static int sample_count(int64_t count) { return count < SAMPLES ? (int)count : SAMPLES; }

/* A sum of weighted terms of both signs may cancel; it has no bound of its own. */
static double bound_of(const inputs *in) {
  return strcmp(in->from->weights, "full") == 0 ? 0x1p20 : BOUND;
}

static int generate(const char *path, const golden_case *cases, int count) {
  char temporary[600];
  snprintf(temporary, sizeof temporary, "%s.new", path);
  FILE *file = fopen(temporary, "w");
  if (!file) return fprintf(stderr, "golden: cannot write %s\n", temporary), 2;
  fprintf(
      file,
      "# Written by `make golden` from cases.txt: name, FNV-1a of the output's bytes, and up\n"
      "# to %d of its values, evenly from the first to the last.\n",
      SAMPLES);
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
    fprintf(file, "%s 0x%016" PRIx64, cases[i].name, fnv1a(out.data, (size_t)bytes_of(&out)));
    for (int k = 0; k < sample_count(out.count); k++) {
      fprintf(file, " %a", get(&out, sample_place(out.count, k)));
    }
    fprintf(file, "\n");
    free(exact);
    free(out.data);
    free_inputs(&in);
  }
  if (fclose(file) != 0) wrong++;
  if (wrong) {
    remove(temporary);
    return 1;
  }
  if (rename(temporary, path) != 0) return 1;
  printf("%d cases written to %s\n", count, path);
  return 0;
}

/* Compares the plain call with expected.txt. */
static void check_expected(inputs *in, const array *out, const expectation *e, tally *t) {
  uint64_t hash = fnv1a(out->data, (size_t)bytes_of(out));
  if (e && e->hash == hash) {
    t->passed++;
    return;
  }
  t->failed++;
  const char *isa = "?";
  smx_isa(&isa);
  if (!e) {
    printf("FAILED %s: not in expected.txt; `make golden` writes it\n", in->from->name);
    return;
  }
  printf("FAILED %s, plain call, isa %s, seed %" PRIu64 ": hash 0x%016" PRIx64
         ", expected 0x%016" PRIx64 ", ",
         in->from->name, isa, in->from->seed, hash, e->hash);
  int k = 0;
  for (; k < e->samples; k++) {
    double value = get(out, sample_place(out->count, k));
    if (value != e->sample[k] && !(isnan(value) && isnan(e->sample[k]))) break;
  }
  if (k < e->samples) {
    int64_t at = sample_place(out->count, k);
    printf("first differing sample at index %" PRId64 ": %a, expected %a; ", at, get(out, at),
           e->sample[k]);
  } else {
    printf("no sampled value differs; ");
  }
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
  printf("golden, isa %s: %d cases, %" PRId64 " equalities checked\n%" PRId64 " passed, %" PRId64
         " failed\n",
         chosen, count, t.passed + t.failed, t.passed, t.failed);
  free(expected);
  return t.failed != 0;
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "", *folder = ".", *isa = NULL;
  int brief = 0;
  for (int i = 2; i < argc; i++) {
    if (strcmp(argv[i], "--brief") == 0) brief = 1;
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
    return check(expected, cases, count, brief, isa);
  }
  if (strcmp(mode, "generate") == 0) {
    int count = read_cases(list, &cases);
    return generate(expected, cases, count);
  }
  fprintf(stderr, "usage: golden check|generate|isas [--brief] [--isa NAME] [--data FOLDER]\n");
  return 2;
}
