/* gpu.c - trainings of ensembles on a GPU, and what the GPU could do at best.
 *
 *   build/alone/bench/gpu [--toy] [--seconds S]     or --name: the GPU's name alone
 *
 * Rules:
 *  1. Trainings are run by coh_trainer, as a job runs them: the data set lies in the
 * GPU's memory, every epoch has an order of its own, steps are replays of recorded ones,
 * the loss of each epoch comes back to the host. x ~ U(-1, 1), float32, activation g,
 * Adam.
 *  2. train: 784-H-10, cross entropy, batches of 512. The host's clock is read at the
 * ends of epochs, when the GPU has done all work; the first epoch warms up, the median of
 *     the others is told. ms_step is an epoch's time by its steps.
 *  3. tiny: 2-25-25-1, mean square error, batches of all 300 samples: an epoch is a step.
 *  4. parts: the calls of a step, each kind alone (gpu_parts.h). `gemm` is all products,
 *     as the trainer asks for them. A step counts as 6 P B N operations, also where the
 *     rate of the products is told, so gemm.ms / ms_step is the share of that rate that
 *     the training reaches. true_gflops counts what the products do: the gradient of the
 *     first layer's input is not computed.
 *  5. Bytes are the least that a part must move, each array once: gather 2 B I; bias_act
 *     3 N B H + 2 N B O; act_grad 3 N B H; bias_grad N B (H + O); loss 2 N B O; step
 *     7 N P (w, m, v read and written, g read), of 4 bytes each. Shares are of a copy of
 *     1 GiB, read and written bytes counted; above 1 where the cache serves.
 *  6. peak_gflops: one product of 8192 x 8192 x 8192.
 * What no memory is left for is told as failed; after S seconds nothing new is begun and
 * what is left is told as skipped. Output: who,task,math,N,width,measure,value
 */
#include "cohort/train.h"
#include "gpu_parts.h"

#include <math.h>
#include <string.h>

enum { BATCH = 512, TINY_BATCH = 300, EPOCHS = 400, DRAWN = 8 };

typedef struct plan_of_run {
  bool toy;
  double seconds, started;
  double bandwidth; /* bytes a second */
} plan_of_run;

static plan_of_run run;

typedef struct place {
  const char *task, *math;
  size_t N, width;
} place;

static void tell(const place *p, const char *measure, double value) {
  printf("cohort,%s,%s,%zu,%zu,%s,%.6g\n", p->task, p->math, p->N, p->width, measure,
         value);
  fflush(stdout);
}

/* Commas and line ends would break the table. */
static void tell_why(const place *p, const char *measure, const char *text) {
  printf("cohort,%s,%s,%zu,%zu,%s,", p->task, p->math, p->N, p->width, measure);
  for (; *text; text++) putchar(*text == ',' || *text == '\n' ? ';' : *text);
  putchar('\n');
  fflush(stdout);
}

static bool time_is_up(const place *p) {
  if (coh_seconds() - run.started < run.seconds) return false;
  tell_why(p, "skipped", "out of time");
  return true;
}

/* ---- trainings ---- */

typedef struct clock_of_epochs {
  size_t count;
  double at[EPOCHS];
} clock_of_epochs;

static int epoch_over(void *ctx, const coh_train_status *status, coh_error *e) {
  clock_of_epochs *c = ctx;
  (void)status, (void)e;
  if (c->count < EPOCHS) c->at[c->count++] = coh_seconds();
  return COH_OK;
}

static int make_data(const task *k, const coh_plan *plan, coh_dataset *d) {
  int rc;
  *d = (coh_dataset){.dtype = COH_F32, .n = k->batch * k->steps};
  d->d_in = plan->d_in, d->n_out = plan->n_out;
  d->shape[0] = d->d_in, d->shape[1] = d->shape[2] = 1;
  COH_TRY(coh_alloc(&d->x, d->n * d->d_in, sizeof(float), &err));
  for (size_t i = 0; i < d->n * d->d_in; i++)
    ((float *)d->x)[i] = (float)(i * 2654435761u % 65536) / 32768 - 1;
  if (k->classes) COH_TRY(coh_alloc(&d->labels, d->n, sizeof *d->labels, &err));
  if (!k->classes) COH_TRY(coh_alloc(&d->y, d->n * d->n_out, sizeof(float), &err));
  for (size_t i = 0; i < d->n && k->classes; i++)
    d->labels[i] = (int32_t)(i * 31 % d->n_out);
  for (size_t i = 0; i < d->n * d->n_out && !k->classes; i++)
    ((float *)d->y)[i] = ((float *)d->x)[i % (d->n * d->d_in)];
cleanup:
  return rc;
}

static void free_data(coh_dataset *d) {
  free(d->x), free(d->y), free(d->labels);
}

/* Fresh parameters: those of DRAWN members again and again, since drawing a billion takes
 * longer than the training. */
static int start(coh_trainer *t, const task *k, const coh_plan *plan) {
  int rc;
  float *all = NULL;
  size_t drawn = k->N < DRAWN ? k->N : DRAWN;
  COH_TRY(coh_alloc(&all, k->N * plan->P, sizeof *all, &err));
  for (size_t l = 0; l < plan->L; l++) {
    const coh_layer *y = &plan->layer[l];
    float size = 1 / sqrtf((float)y->in);
    for (size_t n = 0; n < drawn; n++)
      for (size_t i = 0; i < y->in * y->out; i++)
        all[n * plan->P + y->w + i] =
            size * (float)(2 * coh_random_uniform(n, COH_RNG_TEST, l, i) - 1);
  }
  for (size_t n = drawn; n < k->N; n++)
    memcpy(all + n * plan->P, all + n % drawn * plan->P, plan->P * sizeof *all);
  COH_TRY(coh_trainer_set(t, all, &err));
cleanup:
  free(all);
  return rc;
}

/* Seconds of an epoch. */
static int time_training(coh_device *dev, const task *k, const coh_plan *plan,
                         size_t epochs, double *seconds) {
  int rc;
  static clock_of_epochs times;
  coh_dataset data = {0};
  coh_grid grid = {0};
  coh_trainer *t = NULL;
  coh_train_hooks hooks = {.ctx = &times, .progress = epoch_over};
  coh_train_spec spec = {.optimizer = COH_ADAM, .lr = 1e-4, .batch = k->batch};
  spec.loss = k->classes ? COH_CROSS_ENTROPY : COH_MSE;
  spec.end = (epochs + 1) * k->steps;
  spec.factor = 0.5;
  times.count = 0;
  COH_TRY(make_data(k, plan, &data));
  COH_TRY(coh_grid_create(MPI_COMM_WORLD, 1, &grid, &err));
  COH_TRY(
      coh_trainer_create(&grid, dev, plan, k->N, &data, NULL, &spec, &hooks, &t, &err));
  COH_TRY(start(t, k, plan));
  COH_TRY(coh_trainer_run(t, &err));
  for (size_t i = 0; i < epochs; i++) times.at[i] = times.at[i + 1] - times.at[i];
  *seconds = median(times.at, (int)epochs);
cleanup:
  coh_trainer_destroy(t);
  coh_grid_destroy(&grid);
  free_data(&data);
  return rc;
}

/* ---- parts ---- */

/* Least numbers that a part moves, see rule 5. */
typedef struct part {
  const char *name;
  part_fn *call;
  size_t moved;
} part;

static void tell_part(const place *p, stage *s, const part *y, double *sum) {
  char name[64];
  double seconds = time_part(s, y->call), bytes = 4.0 * (double)y->moved;
  snprintf(name, sizeof name, "%s.ms", y->name);
  tell(p, name, seconds * 1e3);
  *sum += seconds;
  if (bytes == 0) return;
  snprintf(name, sizeof name, "%s.bytes", y->name);
  tell(p, name, bytes);
  snprintf(name, sizeof name, "%s.share_of_bandwidth", y->name);
  tell(p, name, bytes / seconds / run.bandwidth);
}

/* Rates of single products, in operations that they make. */
static void tell_products(const place *p, stage *s) {
  static const struct {
    const char *name;
    part_fn *call;
    bool last;
  } product[] = {{"gemm.first_forward", gemm_first_forward, false},
                 {"gemm.first_weights", gemm_first_weights, false},
                 {"gemm.last_forward", gemm_last_forward, true},
                 {"gemm.last_inputs", gemm_last_inputs, true},
                 {"gemm.last_weights", gemm_last_weights, true}};
  for (size_t i = 0; i < sizeof product / sizeof *product; i++) {
    char name[64];
    const coh_layer *y = &s->plan.layer[product[i].last ? s->plan.L - 1 : 0];
    double work = 2.0 * (double)(s->k->N * s->k->batch) * (double)(y->in * y->out);
    snprintf(name, sizeof name, "%s.gflops", product[i].name);
    tell(p, name, work / time_part(s, product[i].call) * 1e-9);
  }
}

static double operations(const task *k, const coh_plan *plan) {
  return 6.0 * (double)(k->N * plan->P) * (double)k->batch;
}

static void tell_wide_parts(const place *p, stage *s, double step) {
  const size_t NB = s->k->N * s->k->batch, O = s->plan.n_out, H = p->width;
  const part gemm = {"gemm", part_gemm, 0};
  const part parts[] = {
      {"gather", part_gather, 2 * s->k->batch * s->plan.d_in},
      {"bias_act", part_bias_act, NB * (3 * H + 2 * O)},
      {"act_grad", part_act_grad, 3 * NB * H},
      {"bias_grad", part_bias_grad, NB * (H + O)},
      {"loss", part_loss, 2 * NB * O},
      {"step", part_step, 7 * s->k->N * s->plan.P},
  };
  double products = 0;
  tell_part(p, s, &gemm, &products);
  double all = products, made = (double)NB * (double)(4 * s->plan.d_in * H + 6 * H * O);
  tell(p, "gemm.gflops", operations(s->k, &s->plan) / products * 1e-9);
  tell(p, "gemm.true_gflops", made / products * 1e-9);
  tell(p, "share_of_gemm_rate", products / step);
  tell_products(p, s);
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    tell_part(p, s, &parts[i], &all);
  tell(p, "parts_sum.ms", all * 1e3);
}

static void tell_tiny_parts(const place *p, stage *s) {
  const part parts[] = {{"gather", part_gather, 0},
                        {"small", part_small, 0},
                        {"step", part_step, 7 * s->k->N * s->plan.P}};
  double all = 0;
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    tell_part(p, s, &parts[i], &all);
  tell(p, "parts_sum.ms", all * 1e3);
}

/* ---- one case ---- */

static void tell_training(const place *p, const task *k, const coh_plan *plan,
                          double epoch) {
  double step = epoch / (double)k->steps, rows = (double)(k->N * k->batch);
  tell(p, "ms_step", step * 1e3);
  tell(p, "students_x_samples_s", rows / step);
  tell(p, "gflops", operations(k, plan) / step * 1e-9);
  if (!k->classes) tell(p, "us_epoch_member", epoch * 1e6 / (double)k->N);
}

/* Memory that does not suffice is told, all else ends the program. */
static void fits(int rc, const place *p) {
  if (rc == COH_ENOMEM) tell_why(p, "failed", err.text);
  if (rc != COH_ENOMEM) check(rc);
  err = (coh_error){0};
}

static void measure(coh_device *dev, const place *p, const task *k, size_t epochs) {
  coh_plan plan;
  double epoch = 0;
  stage s;
  if (time_is_up(p)) return;
  check(coh_plan_dense(k->L, k->sizes, COH_G, NULL, &plan, &err));
  int rc = time_training(dev, k, &plan, epochs, &epoch);
  if (rc) {
    fits(rc, p);
    return;
  }
  tell_training(p, k, &plan, epoch);
  rc = stage_make(dev, k, &plan, &s);
  if (rc) {
    fits(rc, p);
    return;
  }
  if (coh_plan_is_small(&plan, dev))
    tell_tiny_parts(p, &s);
  else
    tell_wide_parts(p, &s, epoch / (double)k->steps);
  stage_free(&s);
}

/* 61,440 samples, as many as MNIST's; fewer where an epoch would take seconds. */
static void measure_wide(coh_device *dev, const char *math, size_t N, size_t width) {
  place p = {.task = "train", .math = math, .N = N, .width = width};
  task k = {.N = N, .L = 2, .sizes = {784, width, 10}, .batch = BATCH, .classes = true};
  k.steps = run.toy ? 3 : N * width <= 10000 ? 120 : 20;
  if (run.toy) k.sizes[0] = 70, k.batch = 16;
  measure(dev, &p, &k, run.toy ? 2 : 5);
}

static void measure_tiny(coh_device *dev, const char *math, size_t N) {
  place p = {.task = "tiny", .math = math, .N = N, .width = 25};
  task k = {.N = N, .L = 3, .sizes = {2, 25, 25, 1}, .batch = TINY_BATCH, .steps = 1};
  if (run.toy) k.batch = 40;
  measure(dev, &p, &k, run.toy ? 4 : EPOCHS - 1);
}

/* ---- limits ---- */

/* A row is moved to the place before it: a copy inside the GPU. */
static void measure_bandwidth(coh_device *dev) {
  enum { TRIALS = 7 };
  const place p = {.task = "limit", .math = "-"};
  const uint32_t keep[] = {1};
  const size_t bytes = run.toy ? (size_t)48 << 20 : (size_t)1 << 30;
  double seconds[TRIALS];
  void *rows;
  check(dev->ops->alloc(dev, 2 * bytes, &rows, &err));
  for (int i = -1; i < TRIALS; i++) {
    check(dev->ops->sync(dev, &err));
    double begin = coh_seconds();
    for (int j = 0; j < 4; j++) check(dev->ops->compact(dev, 1, keep, bytes, rows, &err));
    check(dev->ops->sync(dev, &err));
    if (i >= 0) seconds[i] = (coh_seconds() - begin) / 4;
  }
  dev->ops->free(dev, rows);
  run.bandwidth = 2 * (double)bytes / median(seconds, TRIALS);
  tell(&p, "copy_gb_s", run.bandwidth * 1e-9);
}

static int part_square(stage *s, coh_error *e) {
  const size_t n = run.toy ? 64 : 8192;
  coh_gemm g = {.N = 1, .M = n, .Q = n, .K = n, .a = s->params, .lda = n, .ldb = n};
  g.b = s->grads, g.c = s->m, g.ldc = n;
  return s->dev->ops->gemm(s->dev, &g, e);
}

static void measure_peak(coh_device *dev, const char *math) {
  const place p = {.task = "limit", .math = math};
  const size_t n = run.toy ? 64 : 8192;
  stage s = {.dev = dev};
  check(make_pool(&s));
  check(take_random(&s, n * n, false, &s.params));
  check(take_random(&s, n * n, false, &s.grads));
  check(take_random(&s, n * n, false, &s.m));
  tell(&p, "peak_gflops",
       2e-9 * (double)n * (double)n * (double)n / time_part(&s, part_square));
  stage_free(&s);
}

/* ---- all ---- */

static const struct {
  const char *name;
  coh_math math;
} maths[] = {{"fp32", COH_MATH_FP32}, {"tf32", COH_MATH_TF32}, {"bf16", COH_MATH_BF16}};
enum { MATHS = sizeof maths / sizeof *maths };

static void measure_all(coh_device *const *dev) {
  /* what the goals are of first */
  static const size_t cases[][2] = {{10, 32},   {100, 256},  {10, 256},   {100, 32},
                                    {1000, 32}, {1000, 256}, {1, 32},     {1, 256},
                                    {1, 1024},  {10, 1024},  {100, 1024}, {1000, 1024}};
  static const size_t toy[][2] = {{2, 32}, {3, 20}};
  size_t count = run.toy ? 2 : sizeof cases / sizeof *cases;
  measure_bandwidth(dev[0]);
  for (int i = 0; i < MATHS; i++) measure_peak(dev[i], maths[i].name);
  measure_tiny(dev[0], maths[0].name, run.toy ? 3 : 1000);
  measure_tiny(dev[0], maths[0].name, run.toy ? 5 : 10000);
  for (size_t c = 0; c < count; c++)
    for (int i = 0; i < MATHS; i++) {
      const size_t *at = run.toy ? toy[c] : cases[c];
      measure_wide(dev[i], maths[i].name, at[0], at[1]);
    }
}

/* "cuda:0 (NVIDIA H100)" without what stands around the name. */
static void print_name(const coh_device *dev) {
  const char *text = strchr(coh_device_text(dev), '(');
  if (text) printf("%.*s\n", (int)strcspn(text + 1, ",)"), text + 1);
}

int main(int argc, char **argv) {
  coh_device *dev[MATHS];
  bool name = false;
  run = (plan_of_run){.seconds = 120, .started = coh_seconds()};
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--toy") == 0) run.toy = true;
    if (strcmp(argv[i], "--name") == 0) name = true;
    if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) run.seconds = atof(argv[++i]);
  }
  if (run.toy) trial_seconds = 1e-3;
  for (int i = 0; i < MATHS; i++) {
    coh_device_wish wish = {.kind = COH_DEVICE_CUDA, .math = maths[i].math};
    check(coh_device_open_as(&wish, COH_F32, &dev[i], &err));
  }
  if (name)
    print_name(dev[0]);
  else
    measure_all(dev);
  for (int i = 0; i < MATHS; i++) coh_device_close(dev[i]);
  return 0;
}
