/* Reading cases.txt and expected.txt: fields separated by blanks, # begins a comment. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

static FILE *open_or_exit(const char *path) {
  FILE *file = fopen(path, "r");
  if (!file) {
    fprintf(stderr, "golden: cannot read %s: %s\n", path, strerror(errno));
    exit(2);
  }
  return file;
}

static void refuse(const char *path, int line, const char *what) {
  fprintf(stderr, "golden: %s, line %d: %s\n", path, line, what);
  exit(2);
}

/* Where `word` stands in a list that ends with NULL; -1 if it does not. */
static int find(const char *word, const char *const *list) {
  for (int i = 0; list[i]; i++)
    if (strcmp(word, list[i]) == 0) return i;
  return -1;
}

/* 5x17 */
static int parse_shape(golden_case *c, const char *text) {
  for (const char *p = text; c->rank < MAX_RANK; p++) {
    c->shape[c->rank++] = strtoll(p, (char **)&p, 10);
    if (!*p) return 1;
    if (*p != 'x') return 0;
  }
  return 0;
}

/* -1 or 0,2 or all */
static int parse_axes(golden_case *c, const char *text) {
  if (strcmp(text, "all") == 0) {
    for (int i = 0; i < c->rank; i++) c->reduced[i] = 1;
    return 1;
  }
  for (const char *p = text;; p++) {
    long axis = strtol(p, (char **)&p, 10);
    if (axis < -c->rank || axis >= c->rank) return 0;
    c->reduced[axis < 0 ? axis + c->rank : axis] = 1;
    if (*p != ',') return *p == 0;
  }
}

static void copy(char *to, const char *from) { snprintf(to, NAME, "%s", from); }

static const char *parse_case(golden_case *c, char *text) {
  static const char *const operations[] = {"softmax", "log_softmax", "logsumexp", NULL};
  static const char *const dtypes[] = {"f16", "bf16", "f32", "f64", NULL};
  static const char *const keys[] = {"temperature", "mask", "bias", "weights", "structure", NULL};
  char *field[7], *rest = NULL;
  for (int i = 0; i < 7; i++) {
    field[i] = strtok_r(i ? NULL : text, " \t\n", &rest);
    if (!field[i]) return "fewer than 7 fields";
  }
  copy(c->name, field[0]);
  int op = find(field[1], operations), dtype = find(field[2], dtypes);
  if (op < 0) return "unknown operation";
  if (dtype < 0) return "unknown dtype";
  c->op = (operation)op;
  c->dtype = SMX_FLOAT16 + dtype;
  if (!parse_shape(c, field[3])) return "bad shape";
  if (!parse_axes(c, field[4])) return "bad axes";
  copy(c->fill, field[5]);
  c->seed = strtoull(field[6], NULL, 10);
  for (char *option; (option = strtok_r(NULL, " \t\n", &rest));) {
    char *value = strchr(option, '=');
    if (!value) return "an option without =";
    *value++ = 0;
    char *homes[] = {c->temperature, c->mask, c->bias, c->weights, c->structure};
    int key = find(option, keys);
    if (key < 0) return "unknown option";
    copy(homes[key], value);
  }
  return NULL;
}

/* The next line that says something; 0 at the end. */
static int next_line(FILE *file, char *text, int size, int *number) {
  while (fgets(text, size, file)) {
    ++*number;
    text[strcspn(text, "#\n")] = 0;
    if (text[strspn(text, " \t")]) return 1;
  }
  return 0;
}

int read_cases(const char *path, golden_case **cases) {
  FILE *file = open_or_exit(path);
  char text[512];
  int count = 0, line = 0;
  *cases = NULL;
  while (next_line(file, text, sizeof text, &line)) {
    *cases = realloc(*cases, (size_t)(count + 1) * sizeof **cases);
    if (!*cases) refuse(path, line, "out of memory");
    memset(*cases + count, 0, sizeof **cases);
    const char *problem = parse_case(*cases + count, text);
    if (problem) refuse(path, line, problem);
    for (int i = 0; i < count; i++) {
      if (strcmp((*cases)[i].name, (*cases)[count].name) == 0)
        refuse(path, line, "name used twice");
    }
    count++;
  }
  fclose(file);
  return count;
}

int read_expected(const char *path, expectation **expected) {
  FILE *file = open_or_exit(path);
  char text[512];
  int count = 0, line = 0;
  *expected = NULL;
  while (next_line(file, text, sizeof text, &line)) {
    *expected = realloc(*expected, (size_t)(count + 1) * sizeof **expected);
    if (!*expected) refuse(path, line, "out of memory");
    expectation *e = *expected + count++;
    memset(e, 0, sizeof *e);
    char *rest = NULL, *name = strtok_r(text, " \n", &rest), *hash = strtok_r(NULL, " \n", &rest);
    if (!hash) refuse(path, line, "no hash");
    copy(e->name, name);
    e->hash = strtoull(hash, NULL, 16);
    for (char *value; (value = strtok_r(NULL, " \n", &rest)) && e->samples < SAMPLES;) {
      e->sample[e->samples++] = strtod(value, NULL);
    }
  }
  fclose(file);
  return count;
}

const expectation *find_expected(const expectation *all, int count, const char *name) {
  for (int i = 0; i < count; i++)
    if (strcmp(all[i].name, name) == 0) return all + i;
  return NULL;
}
