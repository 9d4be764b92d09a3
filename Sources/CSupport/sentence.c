/* The last error of each thread, in its own memory: nothing to allocate, nothing to fail. */
#include <math.h>
#include <stdio.h>

#include "runtime.h"

static _Thread_local char sentence[SMXK_SENTENCE];

char *smxk_sentence(void) { return sentence; }

const char *smxk_decimal(double number) {
  static _Thread_local char text[32];
  snprintf(text, sizeof text, "%.10g", number == number ? number : (double)NAN);
  return text;
}
