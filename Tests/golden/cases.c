/* Reading the cases and what is expected of them: fields separated by blanks, # begins a comment.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "attention.h"

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

/* 5x17: how many lengths there are, 0 where it is no shape. */
static int parse_shape(int64_t *shape, int most, const char *text) {
  int rank = 0;
  for (const char *p = text; rank < most; p++) {
    shape[rank++] = strtoll(p, (char **)&p, 10);
    if (!*p) return rank;
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

static const char *const dtypes[] = {"f16", "bf16", "f32", "f64", NULL};

/* The first fields of a line; `rest` is what follows them. */
static const char *parse_fields(char **field, int count, char *text, char **rest) {
  for (int i = 0; i < count; i++) {
    field[i] = strtok_r(i ? NULL : text, " \t\n", rest);
    if (!field[i]) return "too few fields";
  }
  return NULL;
}

/* key=value ..., each into its home. */
static const char *parse_options(const char *const *keys, char *const *homes, char *rest) {
  for (char *option; (option = strtok_r(NULL, " \t\n", &rest));) {
    char *value = strchr(option, '=');
    if (!value) return "an option without =";
    *value++ = 0;
    int key = find(option, keys);
    if (key < 0) return "unknown option";
    copy(homes[key], value);
  }
  return NULL;
}

static const char *parse_case(golden_case *c, char *text) {
  static const char *const operations[] = {"softmax", "log_softmax", "logsumexp", NULL};
  static const char *const keys[] = {"temperature", "mask", "bias", "weights", "structure", NULL};
  char *field[7], *rest = NULL;
  const char *problem = parse_fields(field, 7, text, &rest);
  if (problem) return problem;
  copy(c->name, field[0]);
  int op = find(field[1], operations), dtype = find(field[2], dtypes);
  if (op < 0) return "unknown operation";
  if (dtype < 0) return "unknown dtype";
  c->op = (operation)op;
  c->dtype = SMX_FLOAT16 + dtype;
  if (!(c->rank = parse_shape(c->shape, MAX_RANK, field[3]))) return "bad shape";
  if (!parse_axes(c, field[4])) return "bad axes";
  copy(c->fill, field[5]);
  c->seed = strtoull(field[6], NULL, 10);
  char *homes[] = {c->temperature, c->mask, c->bias, c->weights, c->structure};
  return parse_options(keys, homes, rest);
}

static const char *parse_attention(attention_case *a, char *text) {
  static const char *const keys[] = {"mask",  "bias",  "structure", "value", "alibi",
                                     "sinks", "scale", "softcap",   NULL};
  golden_case *c = &a->scores;
  char *field[5], *rest = NULL;
  int64_t shape[7];
  const char *problem = parse_fields(field, 5, text, &rest);
  if (problem) return problem;
  int dtype = find(field[1], dtypes);
  if (dtype < 0) return "unknown dtype";
  if (parse_shape(shape, 7, field[2]) != 7) return "bad shape";
  copy(c->name, field[0]);
  c->dtype = SMX_FLOAT16 + dtype;
  c->rank = 4;
  c->shape[0] = shape[0];
  c->shape[1] = shape[1];
  a->key_heads = shape[2];
  c->shape[2] = shape[3];
  c->shape[3] = shape[4];
  a->head_size = shape[5];
  a->value_size = shape[6];
  copy(c->fill, field[3]);
  c->seed = strtoull(field[4], NULL, 10);
  char *homes[] = {c->mask,  c->bias,  c->structure, a->value,
                   a->alibi, a->sinks, a->scale,     a->softcap};
  return parse_options(keys, homes, rest);
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

/* Each line as one struct of `size` bytes, which begins with its name. */
static int read_all(const char *path, size_t size, const char *(*parse)(void *, char *),
                    void **all) {
  FILE *file = open_or_exit(path);
  char text[512];
  int count = 0, line = 0;
  *all = NULL;
  while (next_line(file, text, sizeof text, &line)) {
    char *grown = realloc(*all, (size_t)(count + 1) * size);
    if (!grown) refuse(path, line, "out of memory");
    *all = grown;
    char *last = grown + (size_t)count * size;
    memset(last, 0, size);
    const char *problem = parse(last, text);
    if (problem) refuse(path, line, problem);
    for (int i = 0; i < count; i++) {
      if (strcmp(grown + (size_t)i * size, last) == 0) refuse(path, line, "name used twice");
    }
    count++;
  }
  fclose(file);
  return count;
}

static const char *parse_softmax_line(void *c, char *text) { return parse_case(c, text); }
static const char *parse_attention_line(void *c, char *text) { return parse_attention(c, text); }

int read_cases(const char *path, golden_case **cases) {
  void *all;
  int count = read_all(path, sizeof **cases, parse_softmax_line, &all);
  *cases = all;
  return count;
}

int read_attention_cases(const char *path, attention_case **cases) {
  void *all;
  int count = read_all(path, sizeof **cases, parse_attention_line, &all);
  *cases = all;
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
