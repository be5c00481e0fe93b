/* symmetry.c - which transformations of a neuron leave its network's function unchanged.
 * Uses config. Section 3 of Martinelli et al., ICML 2024. */
#include "cohort/extract.h"

coh_symmetry coh_act_symmetry(coh_act act) {
  switch (act) {
  case COH_RELU:
  case COH_LEAKY_RELU:
    return COH_SYM_EVEN_LINEAR_POSITIVE_SCALING;
  case COH_SOFTPLUS:
  case COH_GELU:
  case COH_SILU:
    return COH_SYM_EVEN_LINEAR;
  case COH_TANH:
  case COH_IDENTITY:
    return COH_SYM_ODD;
  case COH_SIGMOID:
    return COH_SYM_ODD_CONSTANT;
  case COH_G:
    return COH_SYM_NONE;
  }
  return COH_SYM_NONE;
}

/* leaky_relu with slope s: f(z) - f(-z) = z - (-s z) = (1 + s) z for z > 0, and the same
 * for z < 0 as both sides are odd. */
double coh_act_linear_part(coh_act act) {
  if (!coh_symmetry_is_even_linear(coh_act_symmetry(act))) return 0;
  return act == COH_LEAKY_RELU ? 1.01 : 1;
}

const char *coh_symmetry_name(coh_symmetry s) {
  static const char *const names[] = {"none", "odd", "odd_constant", "even_linear",
                                      "even_linear_positive_scaling"};
  return (size_t)s < sizeof names / sizeof names[0] ? names[s] : "unknown";
}
