/* Results against expected lines and against one another, and the sentences where they differ. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

static int64_t sample_place(int64_t count, int k) {
  return count <= SAMPLES ? k : k * (count - 1) / (SAMPLES - 1);
}

FILE *begin_file(const char *path, const char *cases, const char *names) {
  char temporary[600];
  snprintf(temporary, sizeof temporary, "%s.new", path);
  FILE *file = fopen(temporary, "w");
  if (!file) {
    fprintf(stderr, "golden: cannot write %s\n", temporary);
    exit(2);
  }
  fprintf(file,
          "# Written by `make golden` from %s: %s, FNV-1a of the output's bytes, and up\n"
          "# to %d of its values, evenly from the first to the last.\n",
          cases, names, SAMPLES);
  return file;
}

int end_file(FILE *file, const char *path, int is_good) {
  char temporary[600];
  snprintf(temporary, sizeof temporary, "%s.new", path);
  if (fclose(file) == 0 && is_good) return rename(temporary, path) == 0;
  remove(temporary);
  return 0;
}

void write_expectation(FILE *file, const char *name, const array *out) {
  fprintf(file, "%s 0x%016" PRIx64, name, fnv1a(out->data, (size_t)bytes_of(out)));
  for (int k = 0; k < SAMPLES && k < out->count; k++) {
    fprintf(file, " %a", get(out, sample_place(out->count, k)));
  }
  fprintf(file, "\n");
}

int meets_expectation(const char *name, uint64_t seed, const array *out, const expectation *e) {
  uint64_t hash = fnv1a(out->data, (size_t)bytes_of(out));
  if (e && e->hash == hash) return 1;
  const char *isa = "?";
  smx_isa(&isa);
  printf("FAILED %s, plain call, isa %s, seed %" PRIu64 ": hash 0x%016" PRIx64 ", ", name, isa,
         seed, hash);
  if (!e) {
    printf("nothing expected, `make golden` writes it; ");
    return 0;
  }
  printf("expected 0x%016" PRIx64 ", ", e->hash);
  for (int k = 0; k < e->samples && k < out->count; k++) {
    int64_t at = sample_place(out->count, k);
    double value = get(out, at);
    if (value == e->sample[k] || (isnan(value) && isnan(e->sample[k]))) continue;
    printf("first differing sample at index %" PRId64 ": %a, expected %a; ", at, value,
           e->sample[k]);
    return 0;
  }
  printf("no sampled value differs; ");
  return 0;
}

static void print_bits(const array *a, int64_t i) {
  const unsigned char *p = a->data + i * item_size(a->dtype);
  printf("0x");
  for (int64_t k = item_size(a->dtype) - 1; k >= 0; k--) printf("%02x", p[k]);
}

int meets_plain(const char *name, const char *variation, uint64_t seed, const array *plain,
                const array *out, int64_t *at) {
  int64_t size = item_size(out->dtype), i = 0;
  if (memcmp(plain->data, out->data, (size_t)bytes_of(out)) == 0) return 1;
  while (memcmp(plain->data + i * size, out->data + i * size, (size_t)size) == 0) i++;
  const char *isa = "?";
  smx_isa(&isa);
  printf("FAILED %s, %s, isa %s, seed %" PRIu64 ": index %" PRId64 " of %" PRId64 " is ", name,
         variation, isa, seed, i, out->count);
  print_bits(out, i);
  printf(" (%a), the plain call gives ", get(out, i));
  print_bits(plain, i);
  printf(" (%a), ", get(plain, i));
  *at = i;
  return 0;
}
