/* device.c - opens a back end; what all back ends have in common: the pace of a step, and
 * the plain reference of the activations. The back ends themselves: cpu.c, cuda.c. */
#include "cohort/device.h"

#ifdef COH_CUDA
#include "device/cuda.h"
#endif

#include <math.h>
#include <stdlib.h>

#ifndef COH_CUDA
static int open_cuda(const coh_device_wish *wish, coh_dtype dtype, coh_device **out,
                     coh_error *err) {
  (void)wish, (void)dtype, (void)out;
  return coh_fail(err, COH_EUSAGE,
                  "device.kind = cuda: this cohort was built without "
                  "CUDA; auto or cpu use the processor");
}
#else
#define open_cuda coh_device_open_cuda
#endif

int coh_device_open_as(const coh_device_wish *wish, coh_dtype dtype, coh_device **out,
                       coh_error *err) {
  *out = NULL;
  if (wish->kind == COH_DEVICE_CUDA ||
      (wish->kind == COH_DEVICE_AUTO && coh_device_count() > wish->number))
    return open_cuda(wish, dtype, out, err);
  if (wish->math != COH_MATH_FP32)
    return coh_fail(err, COH_EUSAGE, "device.math: a CPU knows fp32 only");
  return coh_device_open_cpu(NULL, dtype, out, err);
}

int coh_device_open(coh_device_kind kind, coh_dtype dtype, coh_device **out,
                    coh_error *err) {
  const coh_device_wish wish = {.kind = kind};
  return coh_device_open_as(&wish, dtype, out, err);
}

void coh_device_close(coh_device *dev) {
  if (dev) dev->ops->close(dev);
}

const char *coh_device_text(const coh_device *dev) {
  return dev->text;
}

coh_pace coh_pace_of(coh_optimizer kind, double beta1, double beta2, uint64_t t) {
  coh_pace pace = {.correction = 1, .inv_root = 1, .first = t == 1};
  if (kind != COH_ADAM) return pace;
  pace.correction = 1 - pow(beta1, (double)t);
  pace.inv_root = 1 / sqrt(1 - pow(beta2, (double)t));
  return pace;
}

/* ---- activations in the plainest form -------------------------------------------- */

static double sigmoid(double x) {
  return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}
static double sigmoid_slope(double x) {
  double e = exp(-fabs(x));
  return e / ((1 + e) * (1 + e));
}
static double softplus(double x) {
  return (x > 0 ? x : 0) + log1p(exp(-fabs(x)));
}
static double normal_below(double x) {
  return 0.5 * erfc(-x * 0.70710678118654752440);
}
static double normal_density(double x) {
  return 0.39894228040143267794 * exp(-0.5 * x * x);
}
/* a * b where b = 0 means "vanished": infinity times it is 0 */
static double times(double a, double b) {
  return b == 0 ? 0 : a * b;
}

double coh_act_value(coh_act act, double x) {
  switch (act) {
  case COH_RELU:
    return x <= 0 ? 0 : x;
  case COH_LEAKY_RELU:
    return x > 0 ? x : 0.01 * x;
  case COH_SOFTPLUS:
    return isnan(x) ? x : softplus(x);
  case COH_GELU:
    return times(x, normal_below(x));
  case COH_SILU:
    return times(x, sigmoid(x));
  case COH_TANH:
    return tanh(x);
  case COH_IDENTITY:
    return x;
  case COH_SIGMOID:
    return sigmoid(x);
  case COH_G:
    return isnan(x) ? x : sigmoid(4 * x) + softplus(x);
  }
  return NAN;
}

double coh_act_slope(coh_act act, double x) {
  double c;
  switch (act) {
  case COH_RELU:
    return x > 0 ? 1 : 0;
  case COH_LEAKY_RELU:
    return x > 0 ? 1 : 0.01;
  case COH_SOFTPLUS:
    return sigmoid(x);
  case COH_GELU:
    return normal_below(x) + times(x, normal_density(x));
  case COH_SILU:
    return sigmoid(x) + times(x, sigmoid_slope(x));
  case COH_TANH:
    c = exp(-2 * fabs(x));
    return 4 * c / ((1 + c) * (1 + c));
  case COH_IDENTITY:
    return 1;
  case COH_SIGMOID:
    return sigmoid_slope(x);
  case COH_G:
    return 4 * sigmoid_slope(4 * x) + sigmoid(x);
  }
  return NAN;
}

const char *coh_act_name(coh_act act) {
  static const char *const names[] = {"relu", "leaky_relu", "softplus", "gelu", "silu",
                                      "tanh", "identity",   "sigmoid",  "g"};
  return (size_t)act < sizeof names / sizeof names[0] ? names[act] : "?";
}
