/* Room on the stack, which Swift has none of that is not cleared. */
#include "runtime.h"

void smxk_with_partials(void (*body)(void *, smxk_partial *), void *context) {
  smxk_partial partials[SMXK_WAVE];
  body(context, partials);
}

void smxk_with_row(void (*body)(void *, smxk_row *), void *context) {
  smxk_row row;
  body(context, &row);
}

void smxk_with_panel(smxk_task task, void *context, int64_t index, smxk_scratch *scratch) {
  _Alignas(64) char panel[SMXK_PANEL_BYTES];
  scratch->panel = panel;
  task(context, index, scratch);
}

void smxk_with_plan(void (*body)(void *, smxk_plan *), void *context) {
  smxk_plan plan;
  body(context, &plan);
}

void smxk_with_attention_plan(void (*body)(void *, smxk_attention_plan *), void *context) {
  smxk_attention_plan plan = {0};
  body(context, &plan);
}

void smxk_with_attention_vjp_plan(void (*body)(void *, smxk_attention_vjp_plan *), void *context) {
  smxk_attention_vjp_plan plan = {0};
  body(context, &plan);
}
