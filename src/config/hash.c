/* hash.c - names of runs and clusterings: hashes of the parameters that matter to them.
 */
#include "table.h"

/* "section.key=value\n"; of a path only that it is one. */
static void add_line(const coh_config *cfg, const coh_param *p, coh_text *out) {
  coh_text value = {0};
  coh_param_value(cfg, p, &value);
  bool path = value.len && coh_value_is_path(p, value.data);
  coh_text_add(out, "%s.%s=%s\n", p->section, p->key,
               path        ? "file"
               : value.len ? value.data
                           : "");
  out->failed |= value.failed;
  coh_text_free(&value);
}

int coh_config_hash(const coh_config *cfg, coh_scope scope, const char *inputs,
                    coh_hash *out, coh_error *err) {
  coh_text t = {0};
  size_t count;
  const coh_param *p = coh_params(&count);
  if (scope != COH_SCOPE_CLUSTERING)
    coh_text_add(&t, "job=%s\n", coh_job_names[cfg->experiment.job]);
  for (size_t i = 0; i < count; i++)
    if (p[i].scope == scope && coh_param_is_read(p + i, cfg->experiment.job) &&
        !coh_param_is_default(cfg, p + i))
      add_line(cfg, p + i, &t);
  coh_text_add(&t, "%s", inputs);
  int rc = coh_text_check(&t, err);
  if (rc == COH_OK) rc = coh_hash_bytes(t.data, t.len, out, err);
  coh_text_free(&t);
  return rc;
}
