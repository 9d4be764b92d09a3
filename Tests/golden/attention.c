/* The golden check of attention: the plain call of each case against attention_expected.txt. */
#include "attention.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* out, lse and weights of one thread; `out` without data where the call fails. */
static results plain_attention(attention_inputs *in) {
  static const manner plain = {.threads = 1};
  results r = new_results(in);
  if (call_attention(in, &plain, &r) == SMX_OK) return r;
  printf("FAILED %s: %s\n", in->from.scores.name, smx_last_error());
  free(r.of[OUT].data);
  r.of[OUT].data = NULL;
  return r;
}

void judge(const attention_inputs *in, int which, const array *out) {
  bounds exact = attention_bounds(in);
  int64_t at;
  double worst = worst_excess(out, exact.of[which], &at);
  printf("worst error %.3g of its bound at %" PRId64 " (%a, exact %.17Lg): %s\n", worst, at,
         get(out, at), exact.of[which][at].value, worst <= 1 ? "different, not wrong" : "WRONG");
  free_bounds(&exact);
}

/* The name of a result's line. */
static const char *line_of(char *text, size_t size, const attention_inputs *in, int which) {
  snprintf(text, size, "%s.%s", in->from.scores.name, result_names[which]);
  return text;
}

static void paths(char *list, char *expected, size_t size, const char *folder) {
  snprintf(list, size, "%s/attention_cases.txt", folder);
  snprintf(expected, size, "%s/attention_expected.txt", folder);
}

int generate_attention(const char *folder) {
  char list[512], path[512], name[2 * NAME];
  paths(list, path, sizeof list, folder);
  attention_case *cases;
  int count = read_attention_cases(list, &cases), wrong = 0;
  FILE *file = begin_file(path, "attention_cases.txt", "name and result");
  for (int i = 0; i < count; i++) {
    attention_inputs in;
    make_attention(&in, &cases[i]);
    results r = plain_attention(&in);
    if (!r.of[OUT].data) return 1;
    bounds exact = attention_bounds(&in);
    for (int k = 0; k < RESULTS; k++) {
      int64_t at;
      double worst = worst_excess(&r.of[k], exact.of[k], &at);
      line_of(name, sizeof name, &in, k);
      if (worst > 1) {
        printf("REFUSED %s: error %.3g of its bound at index %" PRId64 ": %a, exact %.17Lg\n", name,
               worst, at, get(&r.of[k], at), exact.of[k][at].value);
        wrong++;
      }
      write_expectation(file, name, &r.of[k]);
    }
    free_bounds(&exact);
    free_results(&r);
    free_attention(&in);
  }
  free(cases);
  if (!end_file(file, path, !wrong)) return 1;
  printf("%d cases of attention written to %s\n", count, path);
  return 0;
}

int check_attention(const char *folder, int brief) {
  char list[512], path[512], name[2 * NAME];
  paths(list, path, sizeof list, folder);
  attention_case *cases;
  expectation *expected;
  int count = read_attention_cases(list, &cases), expectations = read_expected(path, &expected);
  tally t = {0, 0};
  if (expectations != RESULTS * count) {
    printf("FAILED: attention_expected.txt has %d lines for %d cases\n", expectations, count);
    t.failed++;
  }
  for (int i = 0; i < count; i++) {
    attention_inputs in;
    make_attention(&in, &cases[i]);
    results r = plain_attention(&in);
    for (int k = 0; k < RESULTS && r.of[OUT].data; k++) {
      const expectation *e =
          find_expected(expected, expectations, line_of(name, sizeof name, &in, k));
      int is_met = meets_expectation(name, cases[i].scores.seed, &r.of[k], e);
      t.passed += is_met;
      t.failed += !is_met;
      if (!is_met) judge(&in, k, &r.of[k]);
    }
    if (r.of[OUT].data) check_attention_variations(&in, &r, brief, &t);
    else t.failed++;
    free_results(&r);
    free_attention(&in);
  }
  print_tally("golden attention", count, &t);
  free(cases);
  free(expected);
  return t.failed != 0;
}
