/* config.h - INI file to typed parameters. Uses base.
 *
 *   coh_config cfg;
 *   rc = coh_config_load(&cfg, "configs/quickstart.ini", n_overrides, overrides, &err);
 *   cfg.training.lr ...
 *
 * One table (src/config/params.c) lists every parameter once: section, key, type,
 * default, range or choices, what it affects, help. The reader, `cohort help`, `cohort
 * show`, the hashes, run.ini and the columns of runs.csv all come from it. A parameter at
 * its default stays out of the hash, so adding one (whose default means "as before")
 * renames no result.
 */
#ifndef COHORT_CONFIG_H
#define COHORT_CONFIG_H

#include "cohort/base.h"

enum { COH_CFG_TEXT = 1024, COH_MILESTONES = 16 };

/* "<n>ep", "<n>it" or "<n>ep<m>it": value = ep * L + it for an epoch of L iterations. */
typedef struct coh_steps {
  uint64_t ep, it;
} coh_steps;
static inline uint64_t coh_steps_value(coh_steps s, uint64_t epoch_length) {
  return s.ep * epoch_length + s.it;
}
int coh_steps_parse(const char *text, coh_steps *out, coh_error *err);
/* "<n>ep<m>it" without zero parts ("0ep" for zero); out holds 48 bytes; returns out. */
char *coh_steps_text(coh_steps s, char *out);

typedef struct coh_milestones {
  size_t n;
  coh_steps at[COH_MILESTONES];
} coh_milestones;

/* Enumerations are stored as int, in the order of the choices in the table. */
typedef enum coh_job { COH_JOB_TRAIN, COH_JOB_EXTRACT, COH_JOB_COMPRESS } coh_job;
typedef enum coh_on_failure {
  COH_ON_FAILURE_CONTINUE,
  COH_ON_FAILURE_STOP
} coh_on_failure;
typedef enum coh_optimizer { COH_SGD, COH_ADAM } coh_optimizer;
typedef enum coh_loss { COH_LOSS_AUTO, COH_CROSS_ENTROPY, COH_MSE } coh_loss;
typedef enum coh_plateau {
  COH_PLATEAU_NONE,
  COH_PLATEAU_SHARED,
  COH_PLATEAU_MEMBER
} coh_plateau;
typedef enum coh_expand { COH_EXPAND_NONE, COH_EXPAND_AUTO } coh_expand;
typedef enum coh_finish_method {
  COH_FINISH_NONE,
  COH_FINISH_LBFGS,
  COH_FINISH_LM,
  COH_FINISH_AUTO
} coh_finish_method;
typedef enum coh_act {
  COH_RELU,
  COH_LEAKY_RELU,
  COH_SOFTPLUS,
  COH_GELU,
  COH_SILU,
  COH_TANH,
  COH_IDENTITY,
  COH_SIGMOID,
  COH_G
} coh_act;
typedef enum coh_init {
  COH_KAIMING_NORMAL,
  COH_KAIMING_UNIFORM,
  COH_XAVIER_NORMAL,
  COH_ORTHOGONAL,
  COH_BINARY,
  COH_GAIN_UNIFORM
} coh_init;
typedef enum coh_init_bias { COH_BIAS_ZERO, COH_BIAS_UNIFORM } coh_init_bias;
typedef enum coh_init_fan { COH_FAN_STUDENT, COH_FAN_TENSOR } coh_init_fan;
typedef enum coh_method { COH_REFERENCE, COH_ROBUST } coh_method;
typedef enum coh_linkage { COH_AVERAGE, COH_COMPLETE } coh_linkage;
typedef enum coh_metric {
  COH_EUCLIDEAN,
  COH_COSINE,
  COH_RELATIVE /* no choice of the user's: what method = robust takes */
} coh_metric;
typedef enum coh_canonical {
  COH_CANON_FIRST,
  COH_CANON_LARGEST,
  COH_CANON_DISTANCE
} coh_canonical;
typedef enum coh_cut {
  COH_CUT_MAX_CLUSTERS, /* most clusters of at least floor(gamma*N) members */
  COH_CUT_COUNT,        /* a fixed number of clusters: [extraction] clusters */
  COH_CUT_PLATEAU,      /* first gap in height longer than 0.1, 95 % along it */
  COH_CUT_ANGLE         /* cosine metric: height 1 - cos(pi/beta) */
} coh_cut;
typedef enum coh_procedure {
  COH_PMMP,
  COH_RL1,
  COH_DRR,
  COH_LAYERWISE,
  COH_FPP,
  COH_NO_PROCEDURE
} coh_procedure;
typedef enum coh_gauss { COH_GAUSS_AUTO, COH_GAUSS_TRUE, COH_GAUSS_FALSE } coh_gauss;
typedef enum coh_tamade_data { COH_TAMADE_TRAIN, COH_TAMADE_VAL } coh_tamade_data;
typedef enum coh_device_kind {
  COH_DEVICE_AUTO,
  COH_DEVICE_CPU,
  COH_DEVICE_CUDA
} coh_device_kind;
typedef enum coh_math { COH_MATH_FP32, COH_MATH_TF32, COH_MATH_BF16 } coh_math;
typedef enum coh_collectives {
  COH_COLLECTIVES_AUTO,
  COH_COLLECTIVES_NCCL,
  COH_COLLECTIVES_MPI
} coh_collectives;

typedef struct coh_config {
  char file[COH_CFG_TEXT]; /* where it was read from; relative paths inside are relative
                              to the folder of this file */
  struct {
    int job;                    /* coh_job */
    char name[COH_CFG_TEXT];    /* folder below `results` */
    char results[COH_CFG_TEXT]; /* relative to the current directory */
    int64_t seed;               /* initialisation; data order unless that has one */
    int64_t members;            /* networks trained side by side by job = train */
    bool quiet;
    bool report;                /* figures and a page at the end */
    int on_failure;             /* coh_on_failure: of a sweep's run */
    double checkpoint_minutes;  /* 0 = never by time */
    coh_steps checkpoint_steps; /* 0ep = never by step */
  } experiment;
  struct {
    char name[COH_CFG_TEXT]; /* mnist, fashion_mnist, cifar10, file, teacher_student */
    char root[COH_CFG_TEXT]; /* "" = look in the usual places */
    char file[COH_CFG_TEXT]; /* of name = file */
    int64_t transformation_seed;
    double subsample_fraction;     /* (0, 1] */
    double random_labels_fraction; /* [0, 1] */
  } dataset;                       /* what job = train learns from */
  struct {
    char datagen[COH_CFG_TEXT];      /* policies joined by '+': mnist, fashion_mnist,
                                        cifar10, random, grid, file */
    int64_t samples;                 /* per `random` policy */
    char distribution[COH_CFG_TEXT]; /* normal | uniform (choice) */
    double range;                    /* a of U(-a, a) and of the grid [-a, a]^d */
    int64_t grid_points;             /* per axis */
    char file[COH_CFG_TEXT];         /* .h5/.npy/.npz with X (and Y) */
    int64_t seed;
    int64_t subsample; /* use only so many image samples; 0 = all */
  } query;             /* what job = extract asks the teacher */
  struct {
    char name[COH_CFG_TEXT]; /* dense_784_4_10, mnist_lenet_300_100,
                                students_mnist_lenet(10)_16 */
    int activation;          /* coh_act */
    int init;                /* coh_init */
    int init_bias;           /* coh_init_bias */
    int init_fan;            /* coh_init_fan */
  } model;
  struct {
    int optimizer; /* coh_optimizer */
    double lr;
    coh_steps steps; /* end of training */
    int64_t batch_size;
    int64_t data_order_seed; /* -1 = experiment.seed */
    double momentum, nesterov_momentum;
    double weight_decay;
    coh_milestones milestone_steps;
    double factor; /* lr factor at a milestone or plateau */
    coh_steps warmup_steps;
    int plateau;                /* coh_plateau */
    int64_t patience, cooldown; /* epochs */
    double threshold, min_lr;
    char further_training[COH_CFG_TEXT]; /* "" or steps: go on to there; not hashed */
    int loss;                 /* coh_loss; auto: cross_entropy for labels, or mse */
    int precision;            /* coh_dtype; choices float32, float64 */
    coh_steps evaluate_every; /* loss and accuracy over the whole set; 0ep = start
                                 and end only */
    int finish;               /* coh_finish_method, behind the last step */
    int64_t finish_steps;     /* iterations at most */
    double finish_tolerance;  /* it ends at this norm of the gradient */
  } training;
  struct {
    char config[COH_CFG_TEXT];  /* INI of a train job: trained first if not yet done */
    char weights[COH_CFG_TEXT]; /* or: a model.h5, or a run folder holding one */
    int64_t member;             /* which network of that file */
    char model[COH_CFG_TEXT];   /* or: a random network of this shape ... */
    int64_t seed;               /* ... drawn from this seed */
  } teacher;
  struct {
    int method; /* coh_method */
    double gamma, beta;
    bool stability; /* also write stability.csv */
    int linkage, metric, canonical, cut;
    int64_t clusters;         /* for cut = count */
    char mask[COH_CFG_TEXT];  /* none | auto | a .npy/.h5 file of d_in booleans */
    coh_steps finetune_steps; /* students' upper layers, and the final network */
    double finetune_lr;
    int finetune_finish;           /* coh_finish_method of the final network */
    int64_t finetune_finish_steps; /* iterations at most */
    int expand;                    /* coh_expand */
    double expand_tolerance;       /* loss of a student that fits, by the variance of Y */
    double expand_max;             /* widest students, by those of model.name */
  } extraction;
  struct {         /* fields of the original's TrainArgs, in their order, then ours */
    int procedure; /* coh_procedure */
    char architecture_teacher[COH_CFG_TEXT]; /* of dataset.name = teacher_student */
    int64_t min_epochs, max_epochs;
    double alpha, beta, rho, l1_alpha;
    double tolerated_relative_loss_increase;
    bool norm, layer_norm;
    int64_t train_set_size, val_set_size, val_batch_size; /* 0: as the data set has it */
    int64_t test_set_size, test_batch_size;
    double noise;
    int gauss_loss; /* coh_gauss */
    bool random_gradient_pruning, shrinking, delete_neurons;
    double binary_search_resolution;
    int64_t prune_window;
    double shrinking_from_deviation_of;
    int64_t smoothing_window;
    bool finetuning_shrinking;
    int64_t finetuning_min_epochs, finetuning_max_epochs;
    bool finetuning_layerwise_pruning, layerwise_pruning;
    double layerwise_pruning_alpha, layerwise_pruning_lr;
    double layerwise_pruning_mask_start_value;
    bool log_val_loss, converge_val_loss, finetuning_converge_val_loss;
    bool multiply_mask_after_each_batch;
    double initial_p_value, initial_u_value, u_value_multiply_factor;
    bool scale_alpha;  /* alpha, l1_alpha and rho by the samples of the training set */
    int tamade_data;   /* coh_tamade_data */
    int64_t test_seed; /* of teacher_student: the test set's seed, from that of the run */
    double value_bits; /* of a nonzero parameter, in the description length */
  } compress;
  struct {
    int64_t replicas; /* ranks that share each student's batch */
    int collectives;  /* coh_collectives: by what GPUs sum over replicas */
    double timeout;   /* seconds that a rank waits for one that does not answer */
  } ranks;
  struct {
    int kind; /* coh_device_kind */
    int math; /* coh_math: of a GPU's float32 products */
  } device;
  struct { /* for `cohort submit`; "" and 0 leave what the template says */
    char partition[COH_CFG_TEXT], account[COH_CFG_TEXT], qos[COH_CFG_TEXT];
    char time[COH_CFG_TEXT]; /* as sbatch has it: 24:00:00 */
    int64_t nodes, ntasks_per_node, cpus_per_task;
    char gpus_per_node[COH_CFG_TEXT]; /* "4" or "a100:4" */
    char constraint[COH_CFG_TEXT], mem[COH_CFG_TEXT];
    int64_t array_limit;        /* tasks that run at the same time; 0 = all */
    char mail[COH_CFG_TEXT];    /* address */
    char modules[COH_CFG_TEXT]; /* names, between blanks */
    char extra[COH_CFG_TEXT];   /* options of sbatch, as a shell would split them */
    int64_t max_requeues;
  } slurm;
} coh_config;

/* Which hash a parameter enters. */
typedef enum coh_scope {
  COH_SCOPE_NONE,       /* affects no number: results folder, quiet, ranks, device */
  COH_SCOPE_RUN,        /* affects training: the run hash */
  COH_SCOPE_CLUSTERING, /* affects only extraction: the clustering hash */
  COH_SCOPE_SEED        /* the seed: names the folder seed_<s>, enters no hash */
} coh_scope;

typedef struct coh_param {
  const char *section, *key;
  int type;                 /* private to src/config */
  size_t offset;            /* into coh_config */
  const char *def;          /* default as text; NULL: none, the job needs it given */
  const char *def_extract;  /* default for job = extract where it differs, else NULL */
  const char *def_compress; /* the same for job = compress */
  double min, max;          /* numbers; inclusive unless open_min, open_max */
  bool open_min, open_max;
  const char *const *choices; /* NULL-terminated; NULL: any value of the type */
  coh_scope scope;
  unsigned jobs;    /* bit (1 << coh_job) set: the job reads it */
  const char *help; /* one sentence, with the unit */
} coh_param;
const coh_param *coh_params(size_t *count); /* the whole table, in the order of show */

/* Every default, for the given job; what has none is zero or empty. */
void coh_config_defaults(coh_config *cfg, coh_job job);
/* Reads `path`, then applies overrides "section.key=value" in order. Errors (COH_EUSAGE)
 * name file, line, section, key, value, what would be valid, and the nearest valid name.
 * Unknown sections and keys, wrong types, out of range, a key given twice (in one section
 * or in two sections of one name), a key that the job does not read: errors, the first
 * one told. Sections and keys may be written in any case; values end before a ';' or '#'
 * unless quoted. Of a file with a [sweep] section (sweep.h) it gives run 0. Sets
 * iniparser's error callback, which is global: one thread at a time. */
int coh_config_load(coh_config *cfg, const char *path, size_t n_set,
                    const char *const *set, coh_error *err);
/* One "section.key=value" assignment, checked by itself; coh_config_check checks the
 * whole. The job cannot be changed, since the defaults depend on it. */
int coh_config_set(coh_config *cfg, const char *assignment, coh_error *err);
/* What no value alone can tell: parameters that are missing or exclude each other. Part
 * of coh_config_load. */
int coh_config_check(const coh_config *cfg, coh_error *err);
/* Value of one parameter as text that the reader would accept. */
void coh_param_value(const coh_config *cfg, const coh_param *p, coh_text *out);
bool coh_param_is_default(const coh_config *cfg, const coh_param *p);

/* All parameters that the job reads, as an INI text (that of run.ini). Paths inside are
 * made absolute, so that the text means the same in any folder. */
void coh_config_show(const coh_config *cfg, coh_text *out);
/* `cohort help [SECTION]`: NULL lists sections; COH_EUSAGE with the nearest name if
 * unknown. */
int coh_config_help(const char *section, coh_text *out, coh_error *err);

/* Hash of job and of the parameters in `scope` that differ from their defaults, in table
 * order, as "section.key=value\n", followed by `inputs`: a text that identifies what the
 * parameters only name (teacher run hash, hash of a query file), may be "". Of
 * COH_SCOPE_CLUSTERING there is no job part. Of a path ([extraction] mask) only "file"
 * enters: what stands in the file is for `inputs`. */
int coh_config_hash(const coh_config *cfg, coh_scope scope, const char *inputs,
                    coh_hash *out, coh_error *err);
/* Identity of a run, on any machine: hash of "job=<job>\n" and of all parameters in
 * COH_SCOPE_RUN, COH_SCOPE_CLUSTERING and COH_SCOPE_SEED, teacher.config,
 * teacher.weights, query.file and dataset.file that differ from their defaults, in table
 * order, as "section.key=value\n", paths as they were written. */
int coh_config_id(const coh_config *cfg, coh_hash *out, coh_error *err);
/* Whether the parameter is one of those; they are the columns of a sweep's tables. */
bool coh_param_is_identity(const coh_param *p, coh_job job);
/* A path given in the file: below the file's folder unless absolute. "" stays "". */
int coh_config_path(const coh_config *cfg, const char *value, char *out, size_t size,
                    coh_error *err);

#endif
