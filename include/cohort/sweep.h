/* sweep.h - the [sweep] section of an INI file: many runs from one file. Belongs to the
 * room config.
 *
 *   coh_sweep *sweep;
 *   rc = coh_sweep_load("sweep.ini", n_overrides, overrides, &sweep, &err);
 *   for (size_t i = 0; i < coh_sweep_count(sweep); i++)
 *     rc = coh_sweep_config(sweep, i, &cfg, &err);
 *   coh_sweep_destroy(sweep);
 *
 * An axis is a parameter with several values. Runs are the product of the axes, the first
 * axis slowest and the last one fastest; axes zipped to a group advance together, where
 * the first of them stands; runs that `exclude` or `only` drop are no runs and have no
 * number. docs/sweeps.md and `cohort help sweep` tell the grammar. Runs are made when
 * they are asked for: a sweep of 100,000 runs takes a few megabytes.
 */
#ifndef COHORT_SWEEP_H
#define COHORT_SWEEP_H

#include "cohort/config.h"

typedef struct coh_sweep coh_sweep;

/* Reads a file as coh_config_load does, and expands its sweep. An override
 * "sweep.section.key=VALUES" replaces an axis or adds one behind the others, and takes it
 * away if VALUES is empty; "sweep.zip=", "sweep.exclude=", "sweep.only=" and
 * "sweep.repeat=" likewise. *out is NULL if there is nothing to sweep: no [sweep]
 * section, or an empty one. COH_EUSAGE with file:line for whatever coh_config_load would
 * refuse, for a value that an axis cannot take, axes that cannot be (of an override, of
 * a parameter that changes no number), two equal values, no run left; and if none of the
 * first 100 runs has a valid configuration, with the error of the first. */
int coh_sweep_load(const char *path, size_t n_set, const char *const *set,
                   coh_sweep **out, coh_error *err);
void coh_sweep_destroy(coh_sweep *sweep); /* accepts NULL */

size_t coh_sweep_count(const coh_sweep *sweep); /* R runs, at least 1 */
/* Runs before `exclude` and `only` dropped any. */
size_t coh_sweep_product(const coh_sweep *sweep);
/* The configuration of run 0, whether or not it is valid: what all runs share, the axes'
 * parameters at their first values. Owned by the sweep. */
const coh_config *coh_sweep_base(const coh_sweep *sweep);
/* Configuration of run i < R. COH_EUSAGE as from coh_config_load if it is not valid as a
 * whole, naming file, line and the values of the axes; *cfg is filled all the same. */
int coh_sweep_config(const coh_sweep *sweep, size_t i, coh_config *cfg, coh_error *err);
/* coh_config_id of that configuration, without making it: about a microsecond. */
int coh_sweep_id(const coh_sweep *sweep, size_t i, coh_hash *out, coh_error *err);
/* Hash over all run ids in their order: two files that give the same runs in the same
 * order have the same. Takes as long as R calls of coh_sweep_id. */
void coh_sweep_hash(const coh_sweep *sweep, coh_hash *out);

/* The axes, in the order of the file; `repeat` adds one of experiment.seed at the end. */
size_t coh_sweep_axes(const coh_sweep *sweep);
const coh_param *coh_sweep_param(const coh_sweep *sweep, size_t axis);
size_t coh_sweep_values(const coh_sweep *sweep, size_t axis); /* how many it was given */
/* Axes of one group advance together; groups count from 0. */
size_t coh_sweep_group(const coh_sweep *sweep, size_t axis);
/* Value of an axis in run i, as coh_param_value would write it. Owned by the sweep. */
const char *coh_sweep_value(const coh_sweep *sweep, size_t i, size_t axis);
/* The same by number: which of the axis' coh_sweep_values it is. */
size_t coh_sweep_index(const coh_sweep *sweep, size_t i, size_t axis);
/* Value number v of an axis. Owned by the sweep. */
const char *coh_sweep_text(const coh_sweep *sweep, size_t axis, size_t v);

/* The sweep as an INI text: all parameters at those of the base, then [sweep]. Paths stay
 * as they were written, since they are part of a run's identity; [sweep] folder tells
 * what they are relative to. Reading it, from any folder, gives the same runs. */
void coh_sweep_show(const coh_sweep *sweep, coh_text *out);

/* Runs [*first, *first + *count) of R are sub-batch k of n, 1 <= k <= n: sizes differ by
 * at most one, none is empty unless R < n. R * n must fit 64 bits. */
void coh_sub_batch(size_t R, size_t k, size_t n, size_t *first, size_t *count);

#endif
