/* The last error of each thread, in its own memory: nothing to allocate, nothing to fail. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime.h"

static _Thread_local char sentence[SMXK_SENTENCE];

char *smxk_sentence(void) { return sentence; }

const char *smxk_decimal(double number) {
  static _Thread_local char text[32];
  snprintf(text, sizeof text, "%.10g", number == number ? number : (double)NAN);
  /* A point in every locale: what is neither digit, sign nor letter, of one byte or more, is the
   * locale's. */
  char *end = text, *from = text;
  for (; *from; from++) {
    int is_plain = strchr("0123456789+-aefin", *from) != NULL;
    if (is_plain) *end++ = *from;
    else if (end == text || end[-1] != '.') *end++ = '.';
  }
  *end = 0;
  return text;
}
