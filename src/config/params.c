/* params.c - the table of all parameters. A new parameter is a field of coh_config and
 * one entry here, with a default that means "as before". Everything else is derived. */
#include "table.h"

#include <math.h>
#include <string.h>

/* The type of a parameter follows from the type of its field. */
#define TYPE_OF(field)                                                                   \
  _Generic(((coh_config *)0)->field, int64_t                                             \
           : COH_TYPE_INT, double                                                        \
           : COH_TYPE_REAL, bool                                                         \
           : COH_TYPE_BOOL, int                                                          \
           : COH_TYPE_CHOICE, coh_steps                                                  \
           : COH_TYPE_STEPS, coh_milestones                                              \
           : COH_TYPE_MILESTONES, char *                                                 \
           : COH_TYPE_TEXT)

#define PARAM_AS(type_, s, k, scope_, jobs_, help_, ...)                                 \
  {                                                                                      \
    .section = #s, .key = #k, .type = type_, .offset = offsetof(coh_config, s.k),        \
    .scope = COH_SCOPE_##scope_, .jobs = jobs_, .help = help_, __VA_ARGS__               \
  }
#define PARAM(s, k, ...) PARAM_AS(TYPE_OF(s.k), s, k, __VA_ARGS__)
#define PATH(s, k, ...)  PARAM_AS(COH_TYPE_PATH, s, k, __VA_ARGS__)
#define LIST(s, k, ...)  PARAM_AS(COH_TYPE_LIST, s, k, __VA_ARGS__)

#define DEF(text)            .def = text
#define DEFS(train, extract) .def = train, .def_extract = extract
#define REQUIRED             .def = NULL
#define RANGE(lo, hi)        .min = lo, .max = hi
#define ABOVE(lo, hi)        RANGE(lo, hi), .open_min = true
#define BELOW(lo, hi)        RANGE(lo, hi), .open_max = true
#define BETWEEN(lo, hi)      RANGE(lo, hi), .open_min = true, .open_max = true
#define ONE_OF(...)                                                                      \
  .choices = (const char *const[]) {                                                     \
    __VA_ARGS__, NULL                                                                    \
  }

#define TRAIN   (1U << COH_JOB_TRAIN)
#define EXTRACT (1U << COH_JOB_EXTRACT)
#define BOTH    (TRAIN | EXTRACT)

#define FINISHES ONE_OF("none", "lbfgs", "lm", "auto")

#define SEED_MAX  0x1p53 /* whole numbers that a double holds exactly */
#define COUNT_MAX 1e9

const char *const coh_job_names[COH_JOBS + 1] = {"train", "extract", NULL};

static const coh_section sections[] = {
    {"experiment", "what is done, where the results go, and the seed"},
    {"dataset", "the data set that job = train learns from"},
    {"query", "the inputs that job = extract puts to the teacher"},
    {"model", "the network, or the students, and how they start"},
    {"training", "optimiser, schedule and length of training"},
    {"teacher", "the network whose parameters job = extract recovers"},
    {"extraction", "clustering of the students' neurons, and fine-tuning"},
    {"ranks", "how MPI ranks share the work"},
    {"device", "where the arithmetic is done"},
    {"slurm", "what `cohort submit` asks of SLURM; the template says the rest"},
    {"sweep", "many runs from one file: parameters with several values"},
};

/* clang-format off */
static const coh_param params[] = {
  /* ---- experiment ---- */
  PARAM(experiment, job, NONE, BOTH, "The workflow.",
        REQUIRED, .choices = coh_job_names),
  PARAM(experiment, name, NONE, BOTH, "Folder below `results` that the results go to.",
        DEF("experiment")),
  PARAM(experiment, results, NONE, BOTH,
        "Folder for the results of all experiments, relative to the current folder.",
        DEF("results")),
  PARAM(experiment, seed, SEED, BOTH,
        "Seed of the initial parameters, and of the data order unless that has its own.",
        DEF("0"), RANGE(0, SEED_MAX)),
  PARAM(experiment, members, RUN, TRAIN,
        "Number of networks that are trained side by side.",
        DEF("1"), RANGE(1, 1e6)),
  PARAM(experiment, quiet, NONE, BOTH, "Whether to leave out the progress line.",
        DEF("false")),
  PARAM(experiment, report, NONE, BOTH,
        "Whether to end with figures and a page of them, as `cohort report` makes; needs "
        "gnuplot. A divided sweep has its page from `cohort merge`.",
        DEF("false")),
  PARAM(experiment, on_failure, NONE, BOTH,
        "What a sweep does when one of its runs fails: record it and go on, or stop.",
        DEF("continue"), ONE_OF("continue", "stop")),
  PARAM(experiment, checkpoint_minutes, NONE, BOTH,
        "Minutes between two checkpoints; 0 for none by time.",
        DEF("5"), RANGE(0, INFINITY)),
  PARAM(experiment, checkpoint_steps, NONE, BOTH,
        "Steps between two checkpoints; 0ep for none by step.",
        DEF("0ep")),

  /* ---- dataset ---- */
  PARAM(dataset, name, RUN, TRAIN, "The data set.",
        REQUIRED, ONE_OF("mnist", "fashion_mnist", "cifar10", "file")),
  PATH(dataset, file, NONE, TRAIN,
       "File of name = file: .npz or .h5 with X and labels or Y, and X_test with "
       "labels_test or Y_test if there is a test set.",
       DEF("")),
  PATH(dataset, root, NONE, BOTH,
       "Folder that holds the data sets, the only one looked in; empty for the usual "
       "places: $COHORT_DATA, ~/.local/share/cohort, ./data, Debian's packages.",
       DEF("")),
  PARAM(dataset, transformation_seed, RUN, TRAIN,
        "Seed of the choice of the subsample and of the random labels.",
        DEF("0"), RANGE(0, SEED_MAX)),
  PARAM(dataset, subsample_fraction, RUN, TRAIN,
        "Fraction of the training set that is kept.",
        DEF("1"), ABOVE(0, 1)),
  PARAM(dataset, random_labels_fraction, RUN, TRAIN,
        "Fraction of the training labels that are replaced by random ones.",
        DEF("0"), RANGE(0, 1)),

  /* ---- query ---- */
  LIST(query, datagen, RUN, EXTRACT,
       "Where the inputs come from: images of a data set, random or grid points, a file.",
       REQUIRED, ONE_OF("mnist", "fashion_mnist", "cifar10", "random", "grid", "file")),
  PARAM(query, samples, RUN, EXTRACT, "Number of inputs of the policy `random`.",
        DEF("10000"), RANGE(1, COUNT_MAX)),
  PARAM(query, distribution, RUN, EXTRACT,
        "Distribution of the policy `random`: N(0, 1), or U(-range, range).",
        DEF("normal"), ONE_OF("normal", "uniform")),
  PARAM(query, range, RUN, EXTRACT,
        "Half the width of the uniform distribution and of the grid.",
        DEF("1"), ABOVE(0, INFINITY)),
  PARAM(query, grid_points, RUN, EXTRACT, "Points of the policy `grid` along each axis.",
        DEF("16"), RANGE(1, 1e6)),
  PATH(query, file, NONE, EXTRACT,
       "File of the policy `file`: .h5, .npy or .npz with the inputs X, and Y if no "
       "teacher is given.",
       DEF("")),
  PARAM(query, seed, RUN, EXTRACT, "Seed of the policy `random` and of the subsample.",
        DEF("0"), RANGE(0, SEED_MAX)),
  PARAM(query, subsample, RUN, EXTRACT, "Number of images that are used; 0 for all.",
        DEF("0"), RANGE(0, COUNT_MAX)),

  /* ---- model ---- */
  PARAM(model, name, RUN, BOTH,
        "The plan of the network, such as dense_784_4_10, mnist_lenet_300_100, or "
        "students_mnist_lenet(10)_16 for ten students.",
        REQUIRED),
  PARAM(model, activation, RUN, BOTH,
        "Activation of the hidden layers; for job = extract that of the students, which "
        "should be the teacher's.",
        DEF("relu"),
        ONE_OF("relu", "leaky_relu", "softplus", "gelu", "silu", "tanh", "identity",
               "sigmoid", "g")),
  PARAM(model, init, RUN, BOTH, "Distribution of the initial weights.",
        DEF("kaiming_normal"),
        ONE_OF("kaiming_normal", "kaiming_uniform", "xavier_normal", "orthogonal",
               "binary")),
  PARAM(model, init_bias, RUN, BOTH,
        "Initial biases: zero, or uniform within 1/sqrt(fan-in) of 0.",
        DEFS("uniform", "zero"), ONE_OF("zero", "uniform")),
  PARAM(model, init_fan, RUN, BOTH,
        "Fan-in that the initial weights are scaled by: that of one student, or that of "
        "a tensor which holds all students.",
        DEF("student"), ONE_OF("student", "tensor")),

  /* ---- training ---- */
  PARAM(training, optimizer, RUN, BOTH, "The optimiser.",
        DEFS("sgd", "adam"), ONE_OF("sgd", "adam")),
  PARAM(training, lr, RUN, BOTH, "Learning rate at the start.",
        DEFS("0.1", "0.001"), ABOVE(0, INFINITY)),
  PARAM(training, steps, RUN, BOTH, "Where training ends.",
        DEFS("40ep", "25000ep")),
  PARAM(training, batch_size, RUN, BOTH, "Samples in a batch.",
        DEFS("128", "512"), RANGE(1, COUNT_MAX)),
  PARAM(training, data_order_seed, RUN, BOTH,
        "Seed of the order of the samples; -1 for that of the experiment.",
        DEF("-1"), RANGE(-1, SEED_MAX)),
  PARAM(training, momentum, RUN, BOTH, "Momentum of sgd.",
        DEF("0"), BELOW(0, 1)),
  PARAM(training, nesterov_momentum, RUN, BOTH,
        "Above 0: Nesterov's form of sgd, with this momentum unless `momentum` is above "
        "0.",
        DEF("0"), BELOW(0, 1)),
  PARAM(training, weight_decay, RUN, BOTH,
        "Factor of the squared parameters' gradient, biases included.",
        DEF("0"), RANGE(0, INFINITY)),
  PARAM(training, milestone_steps, RUN, BOTH,
        "Steps at which the learning rate is multiplied by `factor`; for plateau = none.",
        DEF("")),
  PARAM(training, factor, RUN, BOTH,
        "What the learning rate is multiplied by at a milestone or on a plateau.",
        DEFS("0.1", "0.31622776601683794"), BETWEEN(0, 1)),
  PARAM(training, warmup_steps, RUN, BOTH,
        "Steps over which the learning rate rises from 0; for plateau = none.",
        DEF("0ep")),
  PARAM(training, plateau, RUN, BOTH,
        "Lower the learning rate when the loss stops falling: one rate shared by all "
        "networks, or one for each member.",
        DEFS("none", "shared"), ONE_OF("none", "shared", "member")),
  PARAM(training, patience, RUN, BOTH,
        "Epochs without a lower loss after which the learning rate falls.",
        DEF("100"), RANGE(0, COUNT_MAX)),
  PARAM(training, cooldown, RUN, BOTH,
        "Epochs after such a fall that do not count.",
        DEF("200"), RANGE(0, COUNT_MAX)),
  PARAM(training, threshold, RUN, BOTH,
        "Relative fall of the loss that counts as lower.",
        DEF("0"), BELOW(0, 1)),
  PARAM(training, min_lr, RUN, BOTH,
        "Lowest learning rate on plateaus; training ends there.",
        DEF("1e-7"), RANGE(0, INFINITY)),
  PARAM(training, further_training, NONE, BOTH,
        "A later end, such as 60ep, up to which a finished run goes on; it keeps its "
        "name. Empty for none.",
        DEF("")),
  PARAM(training, loss, RUN, BOTH,
        "Loss; auto is cross_entropy for labels and mse for all else.",
        DEF("auto"), ONE_OF("auto", "cross_entropy", "mse")),
  PARAM(training, precision, RUN, BOTH, "Width of the numbers.",
        DEF("float32"), ONE_OF("float32", "float64")),
  PARAM(training, evaluate_every, NONE, BOTH,
        "Steps between two evaluations on the whole set; 0ep for start and end only.",
        DEFS("1ep", "100ep")),
  PARAM(training, finish, RUN, BOTH,
        "Second-order descent in float64 on the whole set, behind the last step: "
        "L-BFGS, Levenberg-Marquardt (mse only), or auto for the latter where networks "
        "and data are small enough; auto with weight decay is none.",
        DEF("none"), FINISHES),
  PARAM(training, finish_steps, RUN, BOTH, "Iterations of the finish at most.",
        DEF("1000"), RANGE(1, COUNT_MAX)),
  PARAM(training, finish_tolerance, RUN, BOTH,
        "Norm of the gradient at which a finish ends.",
        DEF("1e-15"), RANGE(0, INFINITY)),

  /* ---- teacher ---- */
  PATH(teacher, config, NONE, EXTRACT,
       "Configuration of a job = train; trained first if it was not yet.",
       DEF("")),
  PATH(teacher, weights, NONE, EXTRACT,
       "In its place: a model.h5, or the folder of a run that holds one.",
       DEF("")),
  PARAM(teacher, model, RUN, EXTRACT,
        "In its place: a random network of this shape, as dense_10_4_1, with "
        "model.activation, drawn from teacher.seed.",
        DEF("")),
  PARAM(teacher, seed, RUN, EXTRACT, "Seed of teacher.model.", DEF("0"),
        RANGE(0, SEED_MAX)),
  PARAM(teacher, member, RUN, EXTRACT, "Which network of that file, counted from 0.",
        DEF("0"), RANGE(0, 1e6)),

  /* ---- extraction ---- */
  PARAM(extraction, method, CLUSTERING, EXTRACT,
        "How neurons of the students become clusters: robust, by what they do to the "
        "answers, or reference, as Martinelli et al. 2024.",
        DEF("robust"), ONE_OF("reference", "robust")),
  PARAM(extraction, stability, NONE, EXTRACT,
        "Also write stability.csv: the width found for a grid of gamma and beta; for "
        "method = robust.",
        DEF("false")),
  PARAM(extraction, gamma, CLUSTERING, EXTRACT,
        "Fraction of the students that must share a neuron for it to be kept; robust: of "
        "those whose loss is too low to have missed it.",
        DEF("0.5"), ABOVE(0, 1)),
  PARAM(extraction, beta, CLUSTERING, EXTRACT,
        "Widest angle inside a cluster, as the divisor of pi: 6 for 30 degrees.",
        DEF("6"), RANGE(1, INFINITY)),
  PARAM(extraction, linkage, CLUSTERING, EXTRACT,
        "Linkage of the hierarchical clustering.",
        DEF("average"), ONE_OF("average", "complete")),
  PARAM(extraction, metric, CLUSTERING, EXTRACT, "Distance between input weight vectors.",
        DEF("euclidean"), ONE_OF("euclidean", "cosine")),
  PARAM(extraction, canonical, CLUSTERING, EXTRACT,
        "What settles the sign of a vector: its first component, its largest one, or the "
        "smaller of the distances to a vector and to its opposite.",
        DEF("first"), ONE_OF("first", "largest", "distance")),
  PARAM(extraction, cut, CLUSTERING, EXTRACT,
        "Where the tree is cut: where most large clusters are, at a fixed number of "
        "clusters, on the first long plateau, or at the angle pi/beta.",
        DEF("max_clusters"), ONE_OF("max_clusters", "count", "plateau", "angle")),
  PARAM(extraction, clusters, CLUSTERING, EXTRACT, "Number of clusters for cut = count.",
        DEF("0"), RANGE(0, COUNT_MAX)),
  PATH(extraction, mask, CLUSTERING, EXTRACT,
       "Inputs that count in distances: all, those that vary over the query set, or "
       "those set in a .npy or .h5 file of booleans.",
       DEF("none"), ONE_OF("none", "auto")),
  PARAM(extraction, finetune_steps, CLUSTERING, EXTRACT,
        "Length of the training after each clustering; milestones of [training] fall at "
        "the same fractions of it.",
        DEF("5000ep")),
  PARAM(extraction, finetune_lr, CLUSTERING, EXTRACT, "Learning rate of that training.",
        DEF("1e-4"), ABOVE(0, INFINITY)),
  PARAM(extraction, finetune_finish, CLUSTERING, EXTRACT,
        "Second-order descent of the final network, as training.finish.",
        DEF("auto"), FINISHES),
  PARAM(extraction, finetune_finish_steps, CLUSTERING, EXTRACT,
        "Iterations of that descent at most.",
        DEF("1000"), RANGE(1, COUNT_MAX)),
  PARAM(extraction, expand, NONE, EXTRACT,
        "Whether to widen the students' hidden layers by 1, 1.5, 2, 3, 4, 6, 8 ... until "
        "the losses of three quarters of them are as low as they will be; each width is "
        "a run of its own, the last one is clustered.",
        DEF("none"), ONE_OF("none", "auto")),
  PARAM(extraction, expand_tolerance, NONE, EXTRACT,
        "Loss, as a fraction of the variance of the targets, that needs no wider "
        "students.",
        DEF("1e-5"), BETWEEN(0, 1)),
  PARAM(extraction, expand_max, NONE, EXTRACT,
        "Most that model.name's hidden layers are widened by.",
        DEF("8"), RANGE(1, 1000)),

  /* ---- ranks, device ---- */
  PARAM(ranks, replicas, NONE, BOTH, "MPI ranks that share the batch of each network.",
        DEF("1"), RANGE(1, 1e6)),
  PARAM(ranks, collectives, NONE, BOTH,
        "By what GPUs sum over replicas; auto: NCCL where each rank has a GPU of its own.",
        DEF("auto"), ONE_OF("auto", "nccl", "mpi")),
  PARAM(ranks, timeout, NONE, BOTH,
        "Seconds that ranks with GPUs wait for one that does not answer; then the job ends "
        "as if asked to stop, to be queued again.",
        DEF("60"), RANGE(1, 1e6)),
  PARAM(device, kind, NONE, BOTH, "Processor or GPU; auto takes a GPU if there is one.",
        DEF("auto"), ONE_OF("auto", "cpu", "cuda")),
  PARAM(device, math, RUN, BOTH,
        "Products of float32 numbers on a GPU: tf32 and bf16 round their factors to 11 and "
        "8 bits and are faster.",
        DEF("fp32"), ONE_OF("fp32", "tf32", "bf16")),

  /* ---- slurm ---- */
  PARAM(slurm, partition, NONE, BOTH, "Partition, or several: a,b.", DEF("")),
  PARAM(slurm, account, NONE, BOTH, "Account that pays.", DEF("")),
  PARAM(slurm, qos, NONE, BOTH, "Quality of service.", DEF("")),
  PARAM(slurm, time, NONE, BOTH,
        "Time limit of one start, as 24:00:00 or 2-00:00:00; a run that needs more goes "
        "on in the next start.",
        DEF("")),
  PARAM(slurm, nodes, NONE, BOTH, "Nodes of a job, or of a task of the array.",
        DEF("0"), RANGE(0, 1e6)),
  PARAM(slurm, ntasks_per_node, NONE, BOTH,
        "MPI ranks on each node; with gpus_per_node as many as GPUs.",
        DEF("0"), RANGE(0, 1e6)),
  PARAM(slurm, cpus_per_task, NONE, BOTH, "Cores of each rank; it uses one.",
        DEF("0"), RANGE(0, 1e6)),
  PARAM(slurm, gpus_per_node, NONE, BOTH, "GPUs on each node, as 4 or a100:4.", DEF("")),
  PARAM(slurm, constraint, NONE, BOTH, "Features that the nodes must have.", DEF("")),
  PARAM(slurm, mem, NONE, BOTH, "Memory on each node, as 16G.", DEF("")),
  PARAM(slurm, array_limit, NONE, BOTH,
        "Sub-batches that run at the same time; 0 for as many as there is room for.",
        DEF("0"), RANGE(0, 1e6)),
  PARAM(slurm, mail, NONE, BOTH, "Address that is told of the end of a job.", DEF("")),
  PARAM(slurm, modules, NONE, BOTH,
        "Modules to load before the run, blanks between them.", DEF("")),
  PARAM(slurm, extra, NONE, BOTH,
        "More options for sbatch, as in --exclusive --reservation=name.", DEF("")),
  PARAM(slurm, max_requeues, NONE, BOTH,
        "How often a job that was stopped early may queue itself again.",
        DEF("20"), RANGE(0, 1e6)),
};
/* clang-format on */

const coh_param *coh_params(size_t *count) {
  *count = sizeof params / sizeof *params;
  return params;
}

const coh_section *coh_sections(size_t *count) {
  *count = sizeof sections / sizeof *sections;
  return sections;
}

bool coh_section_exists(const char *name) {
  for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
    if (strcmp(sections[i].name, name) == 0) return true;
  return false;
}

const coh_param *coh_param_find(const char *section, const char *key) {
  for (size_t i = 0; i < sizeof params / sizeof *params; i++)
    if (params[i].key[0] == key[0] && strcmp(params[i].key, key) == 0 &&
        strcmp(params[i].section, section) == 0)
      return params + i;
  return NULL;
}
