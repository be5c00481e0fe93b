/* extract.c - job = extract: a teacher's parameters from its answers
 * (Expand-and-Cluster). Students are trained once for a run hash; each clustering of them
 * has a folder of its own, so that changing [extraction] alone trains no student again.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cohort/sweep.h"
#include "extraction.h"
#include "parts.h"
#include "run.h"
#include "stage.h"

/* Id of the first student: no student starts with the numbers of a teacher of the same
 * seed. */
enum { STUDENT_ID = 1 << 21 };

/* ---- what names a clustering
 * ------------------------------------------------------------- */

static bool mask_is_file(const coh_config *cfg) {
  return strcmp(cfg->extraction.mask, "none") != 0 &&
         strcmp(cfg->extraction.mask, "auto") != 0;
}

static int mask_path(const coh_config *cfg, char *out, coh_error *err) {
  if (mask_is_file(cfg))
    return coh_config_path(cfg, cfg->extraction.mask, out, COH_PATH, err);
  return coh_format(out, COH_PATH, err, "%s", cfg->extraction.mask);
}

/* Of the mask's bytes, and of the version of the robust rule. */
static int clustering_hash(const coh_config *cfg, coh_hash *out, coh_error *err) {
  int rc;
  char path[COH_PATH], inputs[64];
  coh_hash mask = {""};
  bool robust = cfg->extraction.method == COH_ROBUST;
  if (mask_is_file(cfg)) {
    COH_TRY(mask_path(cfg, path, err));
    COH_TRY(coh_hash_file(path, &mask, err));
  }
  COH_TRY(coh_format(inputs, sizeof inputs, err, "%s%s", mask.hex,
                     robust ? " robust 4" : ""));
  COH_TRY(coh_config_hash(cfg, COH_SCOPE_CLUSTERING, inputs, out, err));
cleanup:
  return rc;
}

/* ---- students
 * --------------------------------------------------------------------------------- */

/* The run of the students and what it is made of. */
typedef struct students {
  run run;
  coh_device *dev;
  teacher teacher;
  coh_dataset query;
  coh_plan plan;
  size_t N;
  coh_trainer *trainer;
} students;

static void students_free(students *s, int rc) {
  coh_trainer_destroy(s->trainer);
  run_close(&s->run, rc);
  coh_dataset_free(&s->query);
  teacher_free(&s->teacher);
  coh_device_close(s->dev);
}

static int students_plan(const job *j, students *s, coh_error *err) {
  const coh_config *cfg = &j->cfg;
  int rc = coh_plan_parse(cfg->model.name, (coh_act)cfg->model.activation, s->query.n_out,
                          &s->plan, &s->N, err);
  if (rc) return coh_explain(err, "%s", cfg->file);
  if (s->N == 0)
    return coh_fail(err, COH_EUSAGE,
                    "%s: model.name = %s names one network; an extraction needs several "
                    "students, as students_mnist_lenet(10)_16",
                    cfg->file, cfg->model.name);
  if (s->plan.d_in != s->query.d_in)
    return coh_fail(err, COH_EUSAGE,
                    "%s: model.name = %s takes %zu inputs, but the query set has %zu",
                    cfg->file, cfg->model.name, s->plan.d_in, s->query.d_in);
  if (s->plan.L < 2)
    return coh_fail(err, COH_EUSAGE, "%s: model.name = %s has no hidden layer", cfg->file,
                    cfg->model.name);
  return COH_OK;
}

static int check_teacher(const job *j, const students *s, coh_error *err) {
  const coh_plan *t = &s->teacher.plan;
  if (!s->teacher.known) return COH_OK;
  if (t->L != s->plan.L)
    return coh_fail(err, COH_EUSAGE,
                    "%s: model.name = %s has %zu hidden layers, but the teacher has %zu",
                    j->cfg.file, j->cfg.model.name, s->plan.L - 1, t->L - 1);
  if (t->L > 1 && t->layer[0].act != s->plan.layer[0].act)
    return coh_fail(err, COH_EUSAGE, "%s: model.activation = %s, but the teacher's is %s",
                    j->cfg.file, coh_act_name(s->plan.layer[0].act),
                    coh_act_name(t->layer[0].act));
  return COH_OK;
}

/* What is said of a part that cannot be one. */
static int check_part(const job *j, size_t N, coh_error *err) {
  const char *why = NULL;
  if (j->part_n == 0) return COH_OK;
  if (j->part_n > N) why = "there are fewer students than sub-batches";
  if (j->cfg.training.plateau == COH_PLATEAU_SHARED)
    why = "training.plateau = shared makes the rate of each student depend on all of "
          "them; say member or none";
  if (j->cfg.extraction.expand == COH_EXPAND_AUTO)
    why = "extraction.expand = auto settles their number of neurons as it goes";
  if (j->cfg.training.further_training[0])
    why = "training.further_training is of all of them together";
  if (!why) return COH_OK;
  return coh_fail(err, COH_EUSAGE,
                  "%s: the students cannot be divided into %zu "
                  "sub-batches: %s",
                  j->cfg.file, j->part_n, why);
}

static int students_prepare(job *j, students *s, coh_error *err) {
  int rc;
  COH_TRY(job_device(j, job_precision(&j->cfg), &s->dev, err));
  COH_TRY(teacher_get(j, &s->teacher, err));
  COH_TRY(teacher_query(j, &s->teacher, s->dev, &s->query, err));
  rc = students_plan(j, s, err);
  if (!rc) rc = check_teacher(j, s, err);
  if (!rc) rc = check_part(j, s->N, err);
  if (!rc) rc = extraction_check_gamma(&j->cfg, s->N, err);
  COH_TRY(coh_agree(j->grid.world, rc, err));
cleanup:
  return rc;
}

/* The run's hash, and the teacher's very parameters: further training of the teacher
 * changes them, but not its name. */
static int students_identity(const students *s, coh_text *out, coh_error *err) {
  coh_hash asked = {""};
  const teacher *t = &s->teacher;
  int rc = COH_OK;
  if (t->known)
    rc = coh_hash_bytes(t->params, t->plan.P * sizeof *t->params, &asked, err);
  coh_text_add(out, "%s teacher %s", s->run.hash.hex, asked.hex);
  return rc ? rc : coh_text_check(out, err);
}

/* A teacher that was drawn lies in no run of its own. */
static int save_drawn_teacher(const job *j, const students *s, coh_error *err) {
  char path[COH_PATH];
  if (!j->cfg.teacher.model[0]) return COH_OK;
  int rc = coh_format(path, sizeof path, err, "%s/teacher.h5", s->run.folder);
  return rc ? rc
            : coh_model_save(path, j->grid.world, &s->teacher.plan, COH_F64, 1, 0,
                             j->grid.rank == 0, s->teacher.params, err);
}

/* Members and start of the students that are trained here: all, or those of a part. */
static int students_run_of(const students *s, coh_train_run *out, coh_error *err) {
  const job *j = s->run.job;
  size_t first = 0, count = s->N;
  if (j->part_n) coh_sub_batch(s->N, j->part_k, j->part_n, &first, &count);
  *out = (coh_train_run){.members = count};
  coh_train_start_of(&j->cfg, STUDENT_ID + first, &out->start);
  out->start.total = s->N;
  return coh_train_spec_of(&j->cfg, &s->query, &out->spec, err);
}

/* Parts that sub-batches made, unless the training has begun here. */
static int look_for_parts(const students *s, const stage *st, parts *out,
                          coh_error *err) {
  int rc;
  bool begun;
  char path[COH_PATH];
  const job *j = s->run.job;
  *out = (parts){0};
  if (j->part_n || j->place) return COH_OK;
  COH_TRY(coh_format(path, sizeof path, err, "%s/%s", st->folder, st->checkpoint));
  COH_TRY(stage_file_is_there(j, path, &begun, err));
  if (!begun) COH_TRY(parts_find(&s->run, st->identity, out, err));
cleanup:
  return rc;
}

/* The text that the students' checkpoint carries. */
static int training_identity(const students *s, coh_text *out, coh_error *err) {
  const job *j = s->run.job;
  coh_text whole = {0};
  int rc = students_identity(s, &whole, err);
  if (!rc && j->part_n) rc = part_identity(whole.data, j->part_k, j->part_n, out, err);
  if (!rc && !j->part_n) coh_text_add(out, "%s", whole.data);
  coh_text_free(&whole);
  return rc ? rc : coh_text_check(out, err);
}

static int students_train(job *j, students *s, coh_error *err) {
  int rc = COH_OK;
  coh_hash clustering;
  coh_text inputs = {0}, identity = {0};
  coh_train_run all;
  parts joined = {0};
  if (j->grid.rank == 0) rc = teacher_identity(j, &inputs, err);
  if (!rc) rc = clustering_hash(&j->cfg, &clustering, err);
  COH_TRY(coh_agree(j->grid.world, rc, err));
  COH_TRY(run_open(j, inputs.data ? inputs.data : "", false, &s->run, err));
  if (!j->part_n) s->run.clustering = clustering;
  COH_TRY(save_drawn_teacher(j, s, err));
  COH_TRY(training_identity(s, &identity, err));
  COH_TRY(students_run_of(s, &all, err));
  stage st = {.title = "students",
              .folder = s->run.folder,
              .model = "students.h5",
              .checkpoint = "checkpoint.h5",
              .metrics = "metrics.csv",
              .identity = identity.data,
              .plan = s->plan,
              .N = all.members,
              .train = &s->query,
              .n_run = 1,
              .run = &all,
              .lr = "training.lr",
              .further = j->cfg.training.further_training[0] != '\0',
              .finish = job_finish(&j->cfg, j->cfg.training.finish),
              .finish_steps = (uint64_t)j->cfg.training.finish_steps};
  COH_TRY(look_for_parts(s, &st, &joined, err));
  if (joined.n) st.parts = &joined;
  COH_TRY(stage_train(j, s->dev, &st, &s->trainer, err));
cleanup:
  parts_free(&joined);
  coh_text_free(&inputs);
  coh_text_free(&identity);
  return rc;
}

/* ---- one clustering of them
 * ----------------------------------------------------------------------- */

/* Names the students as they are now (they may have been trained further) and how they
 * are clustered. The same on every rank. */
static int extraction_identity(const students *s, const extraction *x, coh_text *out,
                               coh_error *err) {
  int rc = COH_OK;
  coh_hash h = {""};
  if (x->params)
    rc = coh_hash_bytes(x->params, x->N * x->upper.P * sizeof *x->params, &h, err);
  COH_TRY(coh_agree(x->job->grid.world, rc, err));
  COH_TRY(coh_bcast(x->job->grid.world, &h, sizeof h, 0, err));
  coh_text_add(out, "%s %s students %s", s->run.hash.hex, s->run.clustering.hex, h.hex);
  COH_TRY(coh_text_check(out, err));
cleanup:
  return rc;
}

static int take_mask(const students *s, extraction *x, coh_error *err) {
  int rc;
  char path[COH_PATH];
  const coh_config *cfg = &x->job->cfg;
  if (strcmp(cfg->extraction.mask, "none") == 0) return COH_OK;
  COH_TRY(mask_path(cfg, path, err));
  COH_TRY(coh_alloc(&x->mask0, s->query.d_in + 1, 1, err));
  rc = coh_mask_load(path, &s->query, x->mask0, err);
  if (rc) coh_explain(err, "%s: extraction.mask = %s", cfg->file, cfg->extraction.mask);
  COH_TRY(rc);
  x->mask0[s->query.d_in] = 1;
cleanup:
  return rc;
}

/* Best, median and worst of the students' losses, for the table and runs.csv. */
static int student_measures(extraction *x, coh_measures *m, coh_error *err) {
  int rc;
  double *sorted = NULL;
  COH_TRY(coh_alloc(&sorted, x->N, sizeof *sorted, err));
  memcpy(sorted, x->loss, x->N * sizeof *sorted);
  coh_sort(sorted, x->N);
  x->student_best = sorted[0];
  x->student_median = coh_median_of_sorted(sorted, x->N);
  COH_TRY(coh_measures_add(m, "student_loss_best", x->student_best, err));
  COH_TRY(coh_measures_add(m, "student_loss_median", x->student_median, err));
  COH_TRY(coh_measures_add(m, "student_loss_worst", sorted[x->N - 1], err));
cleanup:
  free(sorted);
  return rc;
}

/* The clustering's own folder below the run's; *made on rank 0 if it was not there. */
static int open_clustering(const students *s, char *folder, bool *made, coh_error *err) {
  int rc;
  job *j = s->run.job;
  char path[COH_PATH];
  *made = false;
  COH_TRY(coh_format(folder, COH_PATH, err, "%s/extraction-%.*s", s->run.folder,
                     COH_HASH_SHOWN, s->run.clustering.hex));
  if (j->grid.rank != 0) return COH_OK;
  *made = !coh_file_exists(folder);
  COH_TRY(coh_mkdirs(folder, err));
  coh_text ini = {0};
  coh_config_show(&j->cfg, &ini);
  rc = coh_text_check(&ini, err);
  if (!rc) rc = coh_format(path, sizeof path, err, "%s/run.ini", folder);
  if (!rc) rc = coh_file_write(path, ini.data, ini.len, err);
  coh_text_free(&ini);
cleanup:
  return rc;
}

static int extract(students *s, coh_error *err) {
  int rc;
  job *j = s->run.job;
  char folder[COH_PATH];
  coh_text identity = {0};
  coh_measures measures = {0};
  extraction x = {.job = j,
                  .dev = s->dev,
                  .teacher = &s->teacher,
                  .query = &s->query,
                  .sym = coh_act_symmetry(s->plan.layer[0].act),
                  .N = s->N,
                  .upper = s->plan,
                  .features = s->query};
  rc = open_clustering(s, folder, &x.worked, err);
  COH_TRY(coh_agree(j->grid.world, rc, err));
  COH_TRY(run_stage(&s->run, "students", strrchr(folder, '/') + 1, err));
  COH_TRY(coh_alloc(&x.loss, x.N, sizeof *x.loss, err));
  COH_TRY(extraction_take(&x, s->trainer, &s->query, err));
  COH_TRY(student_measures(&x, &measures, err));
  COH_TRY(extraction_identity(s, &x, &identity, err));
  x.folder = folder;
  x.identity = identity.data;
  COH_TRY(coh_agree(j->grid.world, take_mask(s, &x, err), err));
  COH_TRY(extraction_run(&x, err));
  if (j->grid.rank == 0) rc = extraction_report(&x, &measures, err);
  COH_TRY(coh_agree(j->grid.world, rc, err));
  s->run.worked = x.worked;
  COH_TRY(run_put_row(&s->run, folder, &measures, x.seconds, err));
cleanup:
  coh_measures_free(&measures);
  coh_text_free(&identity);
  extraction_free(&x);
  return rc;
}

/* ---- expansion: students of growing width
 * ------------------------------------------------------------ */

static int students_make(job *j, students *s, coh_error *err) {
  int rc;
  COH_TRY(students_prepare(j, s, err));
  COH_TRY(students_train(j, s, err));
cleanup:
  return rc;
}

/* Mean over the outputs of the variance of the targets. */
static double target_variance(const coh_dataset *q) {
  double sum = 0;
  for (size_t o = 0; o < q->n_out; o++) {
    double mean = 0, square = 0;
    for (size_t i = 0; i < q->n; i++) mean += coh_get(q->dtype, q->y, i * q->n_out + o);
    mean /= (double)q->n;
    for (size_t i = 0; i < q->n; i++) {
      double d = coh_get(q->dtype, q->y, i * q->n_out + o) - mean;
      square += d * d;
    }
    sum += square / (double)q->n;
  }
  return sum / (double)q->n_out;
}

/* The row of a width that was tried: nothing is clustered there. */
static int put_width(students *s, const coh_expand_width *w, coh_error *err) {
  int rc;
  coh_measures m = {0};
  coh_train_status status;
  const coh_hash clustering = s->run.clustering;
  coh_trainer_status(s->trainer, &status);
  s->run.clustering = (coh_hash){""};
  s->run.worked = s->run.worked || status.steps > 0;
  COH_TRY(coh_measures_add(&m, "student_loss_best", w->best, err));
  COH_TRY(coh_measures_add(&m, "student_loss_median", w->median, err));
  COH_TRY(coh_measures_add(&m, "students_minimal", (double)w->minimal, err));
  COH_TRY(run_put_row(&s->run, s->run.folder, &m, status.total_seconds, err));
cleanup:
  s->run.clustering = clustering;
  coh_measures_free(&m);
  return rc;
}

/* What the expansion reads of the configuration. */
typedef struct expansion {
  char named[COH_CFG_TEXT]; /* model.name */
  double tolerance, most;
} expansion;

static int judge(const expansion *e, students *s, double factor,
                 const coh_expand_width *before, coh_expand_width *width,
                 coh_expand_verdict *verdict, coh_error *err) {
  int rc;
  const job *j = s->run.job;
  double *loss = NULL;
  double floor = e->tolerance * target_variance(&s->query);
  COH_TRY(coh_alloc(&loss, s->N, sizeof *loss, err));
  COH_TRY(coh_trainer_evaluate(s->trainer, &s->query, loss, NULL, err));
  COH_TRY(coh_expand_judge(before, s->N, loss, floor, width, verdict, err));
  COH_TRY(put_width(s, width, err));
  coh_say(&j->sink, COH_INFO,
          "expansion by %g, %s: loss %.1e best, %.1e median; %zu of %zu students at the "
          "minimum",
          factor, j->cfg.model.name, width->best, width->median, width->minimal, s->N);
cleanup:
  free(loss);
  return rc;
}

/* Students of e->named, widened. Their run.ini is that of this width alone. */
static int make_width(job *j, const expansion *e, double factor, students *s,
                      coh_error *err) {
  coh_config plain;
  int rc =
      coh_plan_widen(e->named, factor, j->cfg.model.name, sizeof j->cfg.model.name, err);
  if (rc) return coh_explain(err, "%s", j->cfg.file);
  coh_config_defaults(&plain, COH_JOB_EXTRACT);
  j->cfg.extraction.expand = plain.extraction.expand;
  j->cfg.extraction.expand_tolerance = plain.extraction.expand_tolerance;
  j->cfg.extraction.expand_max = plain.extraction.expand_max;
  return students_make(j, s, err);
}

static void drop_width(students *s, int rc) {
  students_free(s, rc);
  *s = (students){0};
}

/* Leaves the students that are wide enough in *s. */
static int expand(job *j, students *s, coh_error *err) {
  static const double factors[] = {1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64};
  int rc = COH_OK;
  const size_t n = sizeof factors / sizeof *factors;
  expansion e = {.tolerance = j->cfg.extraction.expand_tolerance,
                 .most = j->cfg.extraction.expand_max};
  coh_expand_width width = {0}, before;
  memcpy(e.named, j->cfg.model.name, sizeof e.named);
  for (size_t i = 0; i < n; i++) {
    coh_expand_verdict verdict;
    bool last = i + 1 == n || factors[i + 1] > e.most;
    before = width;
    COH_TRY(make_width(j, &e, factors[i], s, err));
    COH_TRY(judge(&e, s, factors[i], i ? &before : NULL, &width, &verdict, err));
    if (verdict == COH_EXPAND_BACK) {
      drop_width(s, COH_OK);
      COH_TRY(make_width(j, &e, factors[i - 1], s, err));
      coh_say(&j->sink, COH_INFO, "expansion: no lower loss by widening, %s it is",
              j->cfg.model.name);
    }
    if (verdict != COH_EXPAND_WIDEN) return COH_OK;
    if (last) break;
    drop_width(s, COH_OK);
  }
  coh_say(&j->sink, COH_WARN,
          "expansion: the students' losses are not consistently minimal at "
          "extraction.expand_max; going on with %s",
          j->cfg.model.name);
cleanup:
  return rc;
}

/* The row of a part of the students: nothing is clustered there. */
static int end_part(students *s, coh_error *err) {
  int rc;
  const job *j = s->run.job;
  size_t first, count;
  double *loss = NULL;
  coh_measures m = {0};
  coh_train_status status;
  coh_trainer_status(s->trainer, &status);
  coh_sub_batch(s->N, j->part_k, j->part_n, &first, &count);
  COH_TRY(coh_alloc(&loss, count, sizeof *loss, err));
  COH_TRY(coh_trainer_evaluate(s->trainer, &s->query, loss, NULL, err));
  coh_sort(loss, count);
  s->run.worked = status.steps > 0;
  COH_TRY(coh_measures_add(&m, "student_loss_best", loss[0], err));
  COH_TRY(coh_measures_add(&m, "student_loss_median", coh_median_of_sorted(loss, count),
                           err));
  COH_TRY(run_put_row(&s->run, s->run.folder, &m, status.total_seconds, err));
  coh_say(
      &j->sink, COH_INFO,
      "students %zu to %zu of %zu are trained; when those of all %zu sub-batches are, "
      "cohort run %s clusters them",
      first, first + count - 1, s->N, j->part_n, j->cfg.file);
cleanup:
  coh_measures_free(&m);
  free(loss);
  return rc;
}

int job_extract(job *j, coh_error *err) {
  int rc;
  students s = {0};
  bool expands = j->cfg.extraction.expand == COH_EXPAND_AUTO;
  COH_TRY(expands && !j->part_n ? expand(j, &s, err) : students_make(j, &s, err));
  COH_TRY(j->part_n ? end_part(&s, err) : extract(&s, err));
cleanup:
  students_free(&s, rc);
  return rc;
}

/* ---- cohort show
 * ----------------------------------------------------------------------------------------
 */

int job_describe(const job *j, coh_text *out, coh_error *err) {
  int rc;
  const coh_config *cfg = &j->cfg;
  coh_hash hash, clustering;
  char label[COH_LABEL];
  coh_text inputs = {0};
  bool extracts = cfg->experiment.job == COH_JOB_EXTRACT;
  if (extracts) COH_TRY(teacher_identity(j, &inputs, err));
  COH_TRY(
      coh_config_hash(cfg, COH_SCOPE_RUN, inputs.data ? inputs.data : "", &hash, err));
  COH_TRY(run_label(cfg, label, err));
  coh_text_add(out, "; run hash %s\n", hash.hex);
  coh_text_add(out, "; folder %s/%s/1-1/runs/%s-%.*s/seed_%lld\n",
               cfg->experiment.results, cfg->experiment.name, label, COH_HASH_SHOWN,
               hash.hex, (long long)cfg->experiment.seed);
  if (extracts) {
    COH_TRY(clustering_hash(cfg, &clustering, err));
    coh_text_add(out, "; clustering hash %s, folder extraction-%.*s in it\n",
                 clustering.hex, COH_HASH_SHOWN, clustering.hex);
  }
  if (extracts && cfg->extraction.expand == COH_EXPAND_AUTO)
    coh_text_add(out, "; of the first width that extraction.expand tries\n");
  coh_text_add(out, "\n");
  coh_config_show(cfg, out);
  COH_TRY(coh_text_check(out, err));
cleanup:
  coh_text_free(&inputs);
  return rc;
}
