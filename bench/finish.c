/* finish.c - seconds until the median loss of ten students is down to 1e-8 and to 1e-20,
 * by Adam alone and by Adam with each finish behind it. One thread, one rank, float64.
 *
 *   build/bench/finish [ACTIVATION [SECONDS [FOLDER]]]
 *
 * Rules: teacher dense_10_4_1 drawn from seed 1, asked at 8192 inputs N(0, 1); students
 * of 8 hidden neurons; Adam at 1e-2 with batches of 512, its rate lowered on the
 * students' shared plateau (patience 50 epochs). Alone it runs until SECONDS (default 10)
 * are over; before a finish it makes 60 epochs. Losses are those of the whole set, looked
 * at every 10 epochs and, in the finish, as often as it tells; the clock runs on
 * meanwhile. It counts the process's own seconds on its one thread, so that a busy
 * machine does little harm. A row of CSV for each way and target; "-": not reached. x, y
 * and the students' first parameters are left in FOLDER if one is given, so that
 * bench/finish.py can give a peer the same.
 */
#include "cohort/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N = 10, SAMPLES = 8192, D = 10, TEACHER = 4, H = 8, BATCH = 512, TARGETS = 2 };
static const double targets[TARGETS] = {1e-8, 1e-20};

#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) {                                                              \
      fprintf(stderr, "%s\n", err.text);                                                 \
      exit(1);                                                                           \
    }                                                                                    \
  } while (0)

static coh_error err;

/* When which loss was seen. */
typedef struct watch {
  double started, most_seconds;
  double reached[TARGETS]; /* seconds; infinity: not */
  double median;           /* the last one */
} watch;

static double seconds_used(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void look(watch *w, size_t n, const double *loss) {
  double sorted[N];
  memcpy(sorted, loss, n * sizeof *sorted);
  coh_sort(sorted, n);
  w->median = coh_median_of_sorted(sorted, n);
  for (int i = 0; i < TARGETS; i++)
    if (w->median <= targets[i] && isinf(w->reached[i]))
      w->reached[i] = seconds_used() - w->started;
}

static int on_metric(void *ctx, uint64_t step, const char *name, size_t n,
                     const double *values, coh_error *e) {
  (void)step, (void)e;
  if (strcmp(name, "train_loss") == 0) look(ctx, n, values);
  return COH_OK;
}

static int on_progress(void *ctx, const coh_finish_status *s, coh_error *e) {
  (void)e;
  double loss[N];
  for (size_t n = 0; n < s->N; n++) loss[n] = s->member[n].loss;
  look(ctx, s->N, loss);
  return COH_OK;
}

static bool on_stop(void *ctx) {
  const watch *w = ctx;
  return seconds_used() - w->started >= w->most_seconds ||
         !isinf(w->reached[TARGETS - 1]);
}

/* ---- the task -------------------------------------------------------------------- */

typedef struct task {
  coh_grid grid;
  coh_device *dev;
  coh_dataset data;
  coh_plan plan;
  double *start; /* [N, P] */
} task;

static void keep(const char *folder, const char *name, const double *v, size_t n) {
  char path[COH_PATH];
  if (!folder) return;
  OK(coh_format(path, sizeof path, &err, "%s/%s", folder, name));
  OK(coh_file_write(path, v, n * sizeof *v, &err));
}

static void make_task(task *t, coh_act act, const char *folder) {
  coh_plan teacher;
  const size_t small[] = {D, TEACHER, 1}, wide[] = {D, H, 1};
  double *w;
  OK(coh_grid_create(MPI_COMM_WORLD, 1, &t->grid, &err));
  OK(coh_device_open(COH_DEVICE_CPU, COH_F64, &t->dev, &err));
  OK(coh_plan_dense(2, small, act, NULL, &teacher, &err));
  OK(coh_plan_dense(2, wide, act, NULL, &t->plan, &err));
  t->data = (coh_dataset){
      .dtype = COH_F64, .n = SAMPLES, .d_in = D, .shape = {D, 1, 1}, .n_out = 1};
  OK(coh_alloc(&t->data.x, SAMPLES * D, sizeof(double), &err));
  OK(coh_alloc(&t->data.y, SAMPLES, sizeof(double), &err));
  OK(coh_alloc(&t->start, N * t->plan.P, sizeof(double), &err));
  OK(coh_alloc(&w, teacher.P, sizeof *w, &err));
  for (size_t i = 0; i < SAMPLES * D; i++)
    ((double *)t->data.x)[i] = coh_random_normal(0, COH_RNG_QUERY, 0, i);
  OK(coh_plan_init(&teacher, 1, 1 << 20, COH_KAIMING_NORMAL, COH_BIAS_UNIFORM,
                   COH_FAN_STUDENT, 1, COH_F64, w, &err));
  OK(coh_network_apply(&teacher, t->dev, w, 1, SAMPLES, t->data.x, t->data.y, &err));
  for (size_t n = 0; n < N; n++)
    OK(coh_plan_init(&t->plan, 0, n, COH_KAIMING_NORMAL, COH_BIAS_ZERO, COH_FAN_STUDENT,
                     N, COH_F64, t->start + n * t->plan.P, &err));
  free(w);
  keep(folder, "x", t->data.x, SAMPLES * D);
  keep(folder, "y", t->data.y, SAMPLES);
  keep(folder, "start", t->start, N * t->plan.P);
}

static void print_rows(const char *act, const char *way, const watch *w) {
  for (int i = 0; i < TARGETS; i++) {
    printf("%s,%s,%g,", act, way, targets[i]);
    if (isinf(w->reached[i]))
      printf("-,%.1e\n", w->median);
    else
      printf("%.3f,%.1e\n", w->reached[i], w->median);
  }
  fflush(stdout);
}

static void run(task *t, const char *act, coh_finish_method finish, double seconds) {
  const uint64_t epoch = SAMPLES / BATCH;
  bool alone = finish == COH_FINISH_NONE;
  watch w = {.started = seconds_used(),
             .most_seconds = alone ? seconds : INFINITY,
             .reached = {INFINITY, INFINITY}};
  coh_train_hooks hooks = {.ctx = &w, .metric = on_metric, .stop = on_stop};
  coh_train_spec spec = {.optimizer = COH_ADAM,
                         .lr = 1e-2,
                         .end = alone ? UINT64_MAX / 2 : 60 * epoch,
                         .batch = BATCH,
                         .loss = COH_MSE,
                         .plateau = COH_PLATEAU_SHARED,
                         .patience = 50,
                         .factor = 0.31622776601683794,
                         .evaluate_every = 10 * epoch};
  coh_trainer *trainer;
  OK(coh_trainer_create(&t->grid, t->dev, &t->plan, N, &t->data, NULL, &spec, &hooks,
                        &trainer, &err));
  OK(coh_trainer_set(trainer, t->start, &err));
  int rc = coh_trainer_run(trainer, &err);
  if (rc != COH_ESTOP) OK(rc);
  if (!alone) {
    coh_finisher *f;
    coh_finish_hooks more = {
        .ctx = &w, .metric = on_metric, .progress = on_progress, .stop = on_stop};
    coh_finish_spec how = {finish, 20000, 1e-15};
    w.most_seconds = seconds;
    OK(coh_finisher_create(trainer, &how, &more, &f, &err));
    rc = coh_finisher_run(f, &err);
    if (rc != COH_ESTOP) OK(rc);
    coh_finisher_destroy(f);
  }
  coh_trainer_destroy(trainer);
  char way[32];
  snprintf(way, sizeof way, "adam%s%s", alone ? "" : "+",
           alone ? "" : coh_finish_name(finish));
  print_rows(act, way, &w);
}

int main(int argc, char **argv) {
  const char *name = argc > 1 ? argv[1] : "gelu";
  double seconds = argc > 2 ? atof(argv[2]) : 10;
  int act = COH_RELU;
  task t = {0};
  while (act <= COH_G && strcmp(coh_act_name((coh_act)act), name) != 0) act++;
  if (act > COH_G) {
    fprintf(stderr, "usage: %s [ACTIVATION [SECONDS [FOLDER]]]\n", argv[0]);
    return 2;
  }
  MPI_Init(&argc, &argv);
  make_task(&t, (coh_act)act, argc > 3 ? argv[3] : NULL);
  for (int m = COH_FINISH_NONE; m <= COH_FINISH_LM; m++)
    run(&t, name, (coh_finish_method)m, seconds);
  free(t.start);
  coh_dataset_free(&t.data);
  coh_device_close(t.dev);
  coh_grid_destroy(&t.grid);
  MPI_Finalize();
  return 0;
}
