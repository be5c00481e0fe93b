/* sweep_where.c - conditions. */
#include "sweep_private.h"
int sweep_where(coh_sweep *s, coh_error *err) {
  const sweep_text *r =
      s->rules[SWEEP_EXCLUDE].text ? s->rules + SWEEP_EXCLUDE : s->rules + SWEEP_ONLY;
  if (!r->text) return COH_OK;
  coh_fail(err, COH_EUSAGE, "conditions are not there yet");
  return coh_explain_place(s->path, r->line, err);
}
int sweep_help(coh_text *out, coh_error *err) {
  coh_text_add(out, "[sweep] many runs from one file\n");
  return coh_text_check(out, err);
}
