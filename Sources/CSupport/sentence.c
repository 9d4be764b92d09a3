/* The last error of each thread, in its own memory: nothing to allocate, nothing to fail. */
#include <stdlib.h>

#include "runtime.h"

static _Thread_local char sentence[SMXK_SENTENCE];

char *smxk_sentence(void) { return sentence; }

const char *smxk_environment(const char *name) {
  const char *value = getenv(name);
  return value ? value : "";
}
