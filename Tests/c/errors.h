/* The error that a call must give: its status, a sentence that names what is wrong, and outputs in
 * which no byte has changed. Who includes this says what its outputs are. */
#ifndef ERRORS_H
#define ERRORS_H

#include "values.h"

static int outputs_untouched(void);

static inline void expect_one(const char *place, smx_status got, smx_status want,
                              const char *const *words, const char *function) {
  const char *sentence = smx_last_error();
  check(got == want, place, "%s: status %d (%s), not %d: %s", function, got, smx_status_string(got),
        want, sentence);
  for (; got == want && *words; words++)
    check(strstr(sentence, *words) != NULL, place, "%s: \"%s\" does not say \"%s\"", function,
          sentence, *words);
  check(outputs_untouched(), place, "%s: an output was written: %s", function, sentence);
}

#define PLACE __FILE__ ":" CHECK_TEXT(__LINE__)
#define WORDS(...) \
  (const char *const[]) { __VA_ARGS__, NULL }

#endif
