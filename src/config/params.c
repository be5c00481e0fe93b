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
#define COMPRESS_DEF(text)   .def_compress = text
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
#define SQUEEZE (1U << COH_JOB_COMPRESS)
#define BOTH    (TRAIN | EXTRACT)
#define ALL     (TRAIN | EXTRACT | SQUEEZE)

#define FINISHES ONE_OF("none", "lbfgs", "lm", "auto")

#define SEED_MAX  0x1p53 /* whole numbers that a double holds exactly */
#define COUNT_MAX 1e9

const char *const coh_job_names[COH_JOBS + 1] = {"train", "extract", "compress", NULL};

static const coh_section sections[] = {
    {"experiment", "what is done, where the results go, and the seed"},
    {"dataset", "the data set that job = train and job = compress learn from"},
    {"query", "the inputs that job = extract puts to the teacher"},
    {"model", "the network, or the students, and how they start"},
    {"training", "optimiser, schedule and length of training"},
    {"teacher", "the network whose parameters job = extract recovers"},
    {"extraction", "clustering of the students' neurons, and fine-tuning"},
    {"compress", "what job = compress does to leave few parameters"},
    {"ranks", "how MPI ranks share the work"},
    {"device", "where the arithmetic is done"},
    {"slurm", "what `cohort submit` asks of SLURM; the template says the rest"},
    {"sweep", "many runs from one file: parameters with several values"},
};

/* clang-format off */
static const coh_param params[] = {
  /* ---- experiment ---- */
  PARAM(experiment, job, NONE, ALL, "The workflow.",
        REQUIRED, .choices = coh_job_names),
  PARAM(experiment, name, NONE, ALL, "Folder below `results` that the results go to.",
        DEF("experiment")),
  PARAM(experiment, results, NONE, ALL,
        "Folder for the results of all experiments, relative to the current folder.",
        DEF("results")),
  PARAM(experiment, seed, SEED, ALL,
        "Seed of the initial parameters, and of the data order unless that has its own.",
        DEF("0"), RANGE(0, SEED_MAX)),
  PARAM(experiment, members, RUN, TRAIN,
        "Number of networks that are trained side by side.",
        DEF("1"), RANGE(1, 1e6)),
  PARAM(experiment, quiet, NONE, ALL, "Whether to leave out the progress line.",
        DEF("false")),
  PARAM(experiment, report, NONE, ALL,
        "Whether to end with figures and a page of them, as `cohort report` makes; needs "
        "gnuplot. A divided sweep has its page from `cohort merge`.",
        DEF("false")),
  PARAM(experiment, on_failure, NONE, ALL,
        "What a sweep does when one of its runs fails: record it and go on, or stop.",
        DEF("continue"), ONE_OF("continue", "stop")),
  PARAM(experiment, checkpoint_minutes, NONE, ALL,
        "Minutes between two checkpoints; 0 for none by time.",
        DEF("5"), RANGE(0, INFINITY)),
  PARAM(experiment, checkpoint_steps, NONE, ALL,
        "Steps between two checkpoints; 0ep for none by step.",
        DEF("0ep")),

  /* ---- dataset ---- */
  PARAM(dataset, name, RUN, TRAIN | SQUEEZE, "The data set; job = compress also draws teacher_student from a random network.",
        REQUIRED, ONE_OF("mnist", "fashion_mnist", "cifar10", "file", "teacher_student")),
  PATH(dataset, file, NONE, TRAIN | SQUEEZE,
       "File of name = file: .npz or .h5 with X and labels or Y, and X_test with "
       "labels_test or Y_test if there is a test set.",
       DEF("")),
  PATH(dataset, root, NONE, ALL,
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
  PARAM(model, name, RUN, ALL,
        "The plan of the network, such as dense_784_4_10, mnist_lenet_300_100, or "
        "students_mnist_lenet(10)_16 for ten students.",
        REQUIRED),
  PARAM(model, activation, RUN, ALL,
        "Activation of the hidden layers; for job = extract that of the students, which "
        "should be the teacher's.",
        DEF("relu"),
        ONE_OF("relu", "leaky_relu", "softplus", "gelu", "silu", "tanh", "identity",
               "sigmoid", "g")),
  PARAM(model, init, RUN, ALL, "Distribution of the initial weights.",
        DEF("kaiming_normal"), COMPRESS_DEF("gain_uniform"),
        ONE_OF("kaiming_normal", "kaiming_uniform", "xavier_normal", "orthogonal",
               "binary", "gain_uniform")),
  PARAM(model, init_bias, RUN, ALL,
        "Initial biases: zero, or uniform within 1/sqrt(fan-in) of 0.",
        DEFS("uniform", "zero"), ONE_OF("zero", "uniform")),
  PARAM(model, init_fan, RUN, BOTH,
        "Fan-in that the initial weights are scaled by: that of one student, or that of "
        "a tensor which holds all students.",
        DEF("student"), ONE_OF("student", "tensor")),

  /* ---- training ---- */
  PARAM(training, optimizer, RUN, BOTH, "The optimiser.",
        DEFS("sgd", "adam"), ONE_OF("sgd", "adam")),
  PARAM(training, lr, RUN, ALL, "Learning rate at the start.",
        DEFS("0.1", "0.001"), COMPRESS_DEF("0.001"), ABOVE(0, INFINITY)),
  PARAM(training, steps, RUN, BOTH, "Where training ends.",
        DEFS("40ep", "25000ep")),
  PARAM(training, batch_size, RUN, ALL, "Samples in a batch.",
        DEFS("128", "512"), COMPRESS_DEF("300"), RANGE(1, COUNT_MAX)),
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
  PARAM(training, precision, RUN, ALL, "Width of the numbers.",
        DEF("float32"), ONE_OF("float32", "float64")),
  PARAM(training, evaluate_every, NONE, ALL,
        "Steps between two evaluations on the whole set; 0ep for start and end only. For "
        "job = compress whole epochs between two points of the curves.",
        DEFS("1ep", "100ep"), COMPRESS_DEF("10ep")),
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

  /* ---- compress ---- */
  PARAM(compress, procedure, RUN, SQUEEZE,
        "What drives parameters to zero: pmmp (probabilistic minimax pruning), rl1 (L1 "
        "norm), drr (1 - exp(-beta |w|)), layerwise (regression of each layer), fpp "
        "(pmmp against running means), or none: no penalty, and nothing is pruned.",
        DEF("pmmp"), ONE_OF("pmmp", "rl1", "drr", "layerwise", "fpp", "none")),
  PARAM(compress, architecture_teacher, RUN, SQUEEZE,
        "Network that the data of teacher_student are drawn from; tanh.",
        DEF("dense_2_5_8_1")),
  PARAM(compress, min_epochs, RUN, SQUEEZE,
        "Epochs of the regularised phase before it may end.",
        DEF("10"), RANGE(1, COUNT_MAX)),
  PARAM(compress, max_epochs, RUN, SQUEEZE,
        "Most epochs of the regularised phase, and of the regression of a layer.",
        DEF("20000"), RANGE(1, COUNT_MAX)),
  PARAM(compress, alpha, RUN, SQUEEZE,
        "Strength of the sparsity term, on the scale of the mean loss of a sample.",
        DEF("10"), RANGE(0, INFINITY)),
  PARAM(compress, beta, RUN, SQUEEZE, "Sharpness of the penalty of drr.",
        DEF("5"), RANGE(0, INFINITY)),
  PARAM(compress, rho, RUN, SQUEEZE, "Factor of the squared parameters.",
        DEF("0"), RANGE(0, INFINITY)),
  PARAM(compress, l1_alpha, RUN, SQUEEZE,
        "Factor of a further L1 norm of pmmp and fpp.",
        DEF("0"), RANGE(0, INFINITY)),
  PARAM(compress, tolerated_relative_loss_increase, RUN, SQUEEZE,
        "By how much pruning by magnitude may raise the loss.",
        DEF("0.01"), RANGE(0, INFINITY)),
  PARAM(compress, norm, RUN, SQUEEZE,
        "drr: give every layer the same sum of alpha, whatever its size.",
        DEF("false")),
  PARAM(compress, layer_norm, RUN, SQUEEZE,
        "norm: of a layer, weights and biases together; else of each block.",
        DEF("true")),
  PARAM(compress, train_set_size, RUN, SQUEEZE,
        "Samples to learn from; 0: 300 of teacher_student, 45000 of images.",
        DEF("0"), RANGE(0, COUNT_MAX)),
  PARAM(compress, val_set_size, RUN, SQUEEZE,
        "Samples to validate with; 0: 1000 of teacher_student, else 5000, at most a "
        "tenth of all.",
        DEF("0"), RANGE(0, COUNT_MAX)),
  PARAM(compress, val_batch_size, RUN, SQUEEZE,
        "Samples whose mean loss counts once in validation; 0 for all.",
        DEF("0"), RANGE(0, COUNT_MAX)),
  PARAM(compress, test_set_size, RUN, SQUEEZE,
        "Samples of the test set of teacher_student; 0: 5000.",
        DEF("0"), RANGE(0, COUNT_MAX)),
  PARAM(compress, test_batch_size, RUN, SQUEEZE,
        "Samples whose mean loss counts once in the test; 0 for all.",
        DEF("0"), RANGE(0, COUNT_MAX)),
  PARAM(compress, noise, RUN, SQUEEZE,
        "Standard deviation of the noise on targets of teacher_student.",
        DEF("0.08"), RANGE(0, INFINITY)),
  PARAM(compress, gauss_loss, RUN, SQUEEZE,
        "Code length under a Gaussian of learnt width in place of the mean square error; "
        "auto: for teacher_student.",
        DEF("auto"), ONE_OF("auto", "true", "false")),
  PARAM(compress, random_gradient_pruning, RUN, SQUEEZE,
        "Also remove parameters without a gradient on random data.",
        DEF("true")),
  PARAM(compress, shrinking, RUN, SQUEEZE,
        "Prune during the regularised phase too, when the loss has settled.",
        DEF("false")),
  PARAM(compress, delete_neurons, RUN, SQUEEZE,
        "Take out neurons that are constant, and save the narrower network too.",
        DEF("false")),
  PARAM(compress, binary_search_resolution, RUN, SQUEEZE,
        "Width at which the search for the threshold of magnitudes ends.",
        DEF("1e-7"), ABOVE(0, INFINITY)),
  PARAM(compress, prune_window, RUN, SQUEEZE,
        "Epochs between two looks at convergence and best state.",
        DEF("10"), RANGE(1, COUNT_MAX)),
  PARAM(compress, shrinking_from_deviation_of, RUN, SQUEEZE,
        "How far the loss may still fall for it to have settled, for shrinking.",
        DEF("1e-2"), RANGE(0, INFINITY)),
  PARAM(compress, smoothing_window, RUN, SQUEEZE,
        "Epochs of the loss that convergence is told from.",
        DEF("30"), RANGE(6, 1e6)),
  PARAM(compress, finetuning_shrinking, RUN, SQUEEZE,
        "As shrinking, in the phase after pruning.",
        DEF("false")),
  PARAM(compress, finetuning_min_epochs, RUN, SQUEEZE,
        "As min_epochs, in the phase after pruning.",
        DEF("33"), RANGE(1, COUNT_MAX)),
  PARAM(compress, finetuning_max_epochs, RUN, SQUEEZE,
        "As max_epochs, in the phase after pruning.",
        DEF("10000"), RANGE(1, COUNT_MAX)),
  PARAM(compress, finetuning_layerwise_pruning, RUN, SQUEEZE,
        "As layerwise_pruning, when shrinking in the phase after pruning.",
        DEF("false")),
  PARAM(compress, layerwise_pruning, RUN, SQUEEZE,
        "Prune each layer by a regression of its outputs before anything else is pruned.",
        DEF("false")),
  PARAM(compress, layerwise_pruning_alpha, RUN, SQUEEZE,
        "What a parameter costs in these regressions.",
        DEF("0.1"), RANGE(0, INFINITY)),
  PARAM(compress, layerwise_pruning_lr, RUN, SQUEEZE,
        "Learning rate of these regressions.",
        DEF("1e-3"), ABOVE(0, INFINITY)),
  PARAM(compress, layerwise_pruning_mask_start_value, RUN, SQUEEZE,
        "Probability of every parameter at the start of these regressions.",
        DEF("0.3"), RANGE(0, 1)),
  PARAM(compress, log_val_loss, RUN, SQUEEZE,
        "Validate after every epoch.",
        DEF("true")),
  PARAM(compress, converge_val_loss, RUN, SQUEEZE,
        "Tell convergence from the validation loss, and return the best state by it; "
        "else from the training loss, and return the last state.",
        DEF("true")),
  PARAM(compress, finetuning_converge_val_loss, RUN, SQUEEZE,
        "As converge_val_loss, in the phase after pruning.",
        DEF("true")),
  PARAM(compress, multiply_mask_after_each_batch, RUN, SQUEEZE,
        "Hold pruned parameters at zero after every step; only true is implemented.",
        DEF("true")),
  PARAM(compress, initial_p_value, RUN, SQUEEZE, "pmmp, fpp: gates at the start.",
        DEF("1"), RANGE(0, 1)),
  PARAM(compress, initial_u_value, RUN, SQUEEZE, "pmmp, fpp: multipliers at the start.",
        DEF("0"), RANGE(0, INFINITY)),
  PARAM(compress, u_value_multiply_factor, RUN, SQUEEZE,
        "pmmp, fpp: factor of every coupling term.",
        DEF("1"), RANGE(0, INFINITY)),
  PARAM(compress, scale_alpha, RUN, SQUEEZE,
        "Divide alpha, l1_alpha and rho by the number of training samples, so that alpha "
        "is in bits for a parameter.",
        DEF("false")),
  PARAM(compress, tamade_data, RUN, SQUEEZE,
        "Set whose loss pruning by magnitude holds down.",
        DEF("train"), ONE_OF("train", "val")),
  PARAM(compress, test_seed, RUN, SQUEEZE,
        "Seed of the test set of teacher_student, counted from the run's; 2 is that of "
        "the validation set, as in the original.",
        DEF("3"), RANGE(0, SEED_MAX)),
  PARAM(compress, value_bits, RUN, SQUEEZE,
        "Bits of a parameter that is not zero, in the description length.",
        DEF("32"), RANGE(0, 64)),

  /* ---- ranks, device ---- */
  PARAM(ranks, replicas, NONE, ALL, "MPI ranks that share the batch of each network.",
        DEF("1"), RANGE(1, 1e6)),
  PARAM(ranks, collectives, NONE, ALL,
        "By what GPUs sum over replicas; auto: NCCL where each rank has a GPU of its own.",
        DEF("auto"), ONE_OF("auto", "nccl", "mpi")),
  PARAM(ranks, timeout, NONE, ALL,
        "Seconds that ranks with GPUs wait for one that does not answer; then the job ends "
        "as if asked to stop, to be queued again.",
        DEF("60"), RANGE(1, 1e6)),
  PARAM(device, kind, NONE, ALL, "Processor or GPU; auto takes a GPU if there is one.",
        DEF("auto"), ONE_OF("auto", "cpu", "cuda")),
  PARAM(device, math, RUN, ALL,
        "Products of float32 numbers on a GPU: tf32 and bf16 round their factors to 11 and "
        "8 bits and are faster.",
        DEF("fp32"), ONE_OF("fp32", "tf32", "bf16")),

  /* ---- slurm ---- */
  PARAM(slurm, partition, NONE, ALL, "Partition, or several: a,b.", DEF("")),
  PARAM(slurm, account, NONE, ALL, "Account that pays.", DEF("")),
  PARAM(slurm, qos, NONE, ALL, "Quality of service.", DEF("")),
  PARAM(slurm, time, NONE, ALL,
        "Time limit of one start, as 24:00:00 or 2-00:00:00; a run that needs more goes "
        "on in the next start.",
        DEF("")),
  PARAM(slurm, nodes, NONE, ALL, "Nodes of a job, or of a task of the array.",
        DEF("0"), RANGE(0, 1e6)),
  PARAM(slurm, ntasks_per_node, NONE, ALL,
        "MPI ranks on each node; with gpus_per_node as many as GPUs.",
        DEF("0"), RANGE(0, 1e6)),
  PARAM(slurm, cpus_per_task, NONE, ALL, "Cores of each rank; it uses one.",
        DEF("0"), RANGE(0, 1e6)),
  PARAM(slurm, gpus_per_node, NONE, ALL, "GPUs on each node, as 4 or a100:4.", DEF("")),
  PARAM(slurm, constraint, NONE, ALL, "Features that the nodes must have.", DEF("")),
  PARAM(slurm, mem, NONE, ALL, "Memory on each node, as 16G.", DEF("")),
  PARAM(slurm, array_limit, NONE, ALL,
        "Sub-batches that run at the same time; 0 for as many as there is room for.",
        DEF("0"), RANGE(0, 1e6)),
  PARAM(slurm, mail, NONE, ALL, "Address that is told of the end of a job.", DEF("")),
  PARAM(slurm, modules, NONE, ALL,
        "Modules to load before the run, blanks between them.", DEF("")),
  PARAM(slurm, extra, NONE, ALL,
        "More options for sbatch, as in --exclusive --reservation=name.", DEF("")),
  PARAM(slurm, max_requeues, NONE, ALL,
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
