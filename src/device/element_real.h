/* element_real.h - the text of element.h for one type; included by it for float and
 * double with COH_REAL, COH_BITS and COH_INT (integers of the same width), COH_IS_DOUBLE
 * and COH_EL().
 *
 * Polynomials are Chebyshev interpolants (error below half an ulp of the result).
 * Exponentials follow the usual reduction x = n ln2 + r: Muller et al., "Handbook of
 * Floating-Point Arithmetic", 2nd ed. (2018), chapter 10.
 */

/* a * b + c, fused wherever the target can. */
COH_FN COH_REAL COH_EL(madd)(COH_REAL a, COH_REAL b, COH_REAL c) {
#if COH_HAS_FMA && COH_IS_DOUBLE
  return fma(a, b, c);
#elif COH_HAS_FMA
  return fmaf(a, b, c);
#else
  COH_REAL product = a * b; /* a statement of its own: never contracted */
  return product + c;
#endif
}

COH_FN COH_REAL COH_EL(abs)(COH_REAL x) {
#if COH_IS_DOUBLE
  return fabs(x);
#else
  return fabsf(x);
#endif
}

COH_FN COH_REAL COH_EL(sqrt)(COH_REAL x) {
#if COH_IS_DOUBLE
  return sqrt(x);
#else
  return sqrtf(x);
#endif
}

/* min(|x|, most), most for NaN; as integers, whose minimum is one instruction. */
COH_FN COH_REAL COH_EL(abs_up_to)(COH_REAL x, COH_REAL most) {
  COH_INT i, m;
  memcpy(&i, &x, sizeof i);
  memcpy(&m, &most, sizeof m);
  i &= (COH_INT)((COH_BITS)-1 >> 1);
  i = i < m ? i : m;
  memcpy(&x, &i, sizeof x);
  return x;
}

/* The rounding error of h = a * a: a^2 - h. */
COH_FN COH_REAL COH_EL(square_error)(COH_REAL a, COH_REAL h) {
#if COH_HAS_FMA
  return COH_EL(madd)(a, a, -h);
#else /* Dekker 1971; |a| is small here, so the split cannot overflow */
  const COH_REAL factor = (COH_REAL)(COH_IS_DOUBLE ? 134217729.0 : 4097.0);
  COH_REAL t = factor * a, high = t - (t - a), low = a - high;
  COH_REAL p = high * high - h, q = 2 * high * low;
  return (p + q) + low * low;
#endif
}

/* exp(-|x|) = s + s p, p = expm1(r), |r| <= ln2 / 2, s a power of two. Returns p. Below
 * the normal range, and for NaN, s is 0. */
COH_FN COH_REAL COH_EL(exp_parts)(COH_REAL x, COH_REAL *s) {
#if COH_IS_DOUBLE
  const double most = 709, log2e = 1.4426950408889634074;
  const double ln2_high = 0x1.62e42fee00000p-1, ln2_low = 1.90821492927058787700e-10;
  const double magic = 6755399441055744.0; /* 1.5 * 2^52 */
  const double c[] = {2.5100472505694996e-8,    2.762020159103154879e-7,
                      2.755726827690569619e-6,  0.0000248015210578682052,
                      0.0001984126986317155603, 0.001388888891736708056,
                      0.008333333333330038197,  0.04166666666662382053,
                      0.1666666666666666746,    0.5000000000000001031};
  const COH_BITS one = 0x3ff0000000000000;
  const int shift = 52;
#else
  const float most = 88, log2e = 1.442695041f;
  const float ln2_high = 0x1.62e3p-1f, ln2_low = 9.05800061445916e-6f;
  const float magic = 12582912; /* 1.5 * 2^23 */
  const float c[] = {0.001392618359f, 0.008363179053f, 0.04166655462f, 0.1666657699f,
                     0.5f};
  const COH_BITS one = 0x3f800000;
  const int shift = 23;
#endif
  COH_REAL a = COH_EL(abs_up_to)(x, most);
  COH_REAL t = COH_EL(madd)(a, -log2e, magic), n = t - magic;
  COH_REAL r = COH_EL(madd)(n, -ln2_high, -a); /* exact */
  r = COH_EL(madd)(n, -ln2_low, r);
  COH_REAL q;
  COH_POLY(q, r, c);
  COH_BITS bits; /* the low bits of t are n, those of magic are 0 */
  memcpy(&bits, &t, sizeof bits);
  bits = (bits << shift) + one;
  memcpy(s, &bits, sizeof bits);
  return COH_EL(madd)(r * r, q, r);
}

/* exp(-|x|), 0 for NaN. */
COH_FN COH_REAL COH_EL(decay)(COH_REAL x) {
  COH_REAL s, p = COH_EL(exp_parts)(x, &s);
  return COH_EL(madd)(s, p, s);
}

/* exp(x) for x <= 0 */
COH_FN COH_REAL COH_EL(exp)(COH_REAL x) {
  COH_REAL e = COH_EL(decay)(x);
  return x != x ? x : e;
}

/* y + log(1 + e) for 0 <= e <= 1; in double as 2 atanh(e / (2 + e)). */
COH_FN COH_REAL COH_EL(log1p_unit)(COH_REAL e, COH_REAL y) {
  COH_REAL q;
#if COH_IS_DOUBLE
  const double c[] = {0.0808202280597176611,  0.04400369243072336941,
                      0.06000536404795356268, 0.06657072104827468075,
                      0.07692785032479311552, 0.09090894718066429085,
                      0.1111111135871393149,  0.1428571428355437858,
                      0.2000000000000729134,  0.3333333333333332928};
  double s = e / (2 + e), w = s * s;
  COH_POLY(q, w, c);
  s = s + s;
  return y + COH_EL(madd)(s * w, q, s);
#else
  const float c[] = {0.005126102141f, -0.02907406468f, 0.07751608674f,
                     -0.1360224762f,  0.1907688074f,   -0.2483539899f,
                     0.3331812171f,   -0.4999944498f,  0.9999999659f};
  COH_POLY(q, e, c);
  return COH_EL(madd)(e, q, y);
#endif
}

/* The tail of the normal distribution: returns Phi(-a) and *density = exp(-a^2 / 2), for
 * 0 <= a <= 15 (float) or 40 (double). Phi(-a) exp(a^2 / 2) (1 + a / 2) is a polynomial
 * in (a - K) / (a + K), after Shepherd & Laframboise, Math. Comp. 36 (1981). */
COH_FN COH_REAL COH_EL(normal_tail)(COH_REAL a, COH_REAL *density) {
#if COH_IS_DOUBLE
  const double K = 6;
  const double c[] = {
      -5.263688451067596431e-9,  -7.606745822898681864e-9,  5.427918348627769115e-8,
      2.502779904402065756e-8,   -4.445707571055215248e-7,  5.376982126629281263e-7,
      2.446122407634387327e-6,   -0.0000104356633381971163, 8.642076347233472525e-6,
      0.00006593245763643908044, -0.0003443106861035431863, 0.0009611015779355331083,
      -0.001820945731249404131,  0.002200214124224796121,   -0.0003894001189066450213,
      -0.006231036382287287847,  0.02034081765120568787,    -0.04313971328936428292,
      0.07282145900645117935,    -0.1041110478813951674,    0.259117257297787397};
#else
  const float K = 4;
  const float c[] = {-3.338428027e-5f,  -6.087884137e-5f, 0.0002587907205f,
                     0.0001742302958f,  -0.002248933164f, 0.004722271783f,
                     -0.0006663496034f, -0.02155353597f,  0.0691894402f,
                     -0.1335505992f,    0.2832319239f};
#endif
  COH_REAL h = a * a, low = COH_EL(square_error)(a, h) * (COH_REAL)-0.5;
  COH_REAL e = COH_EL(decay)(h * (COH_REAL)0.5), m, q = (a - K) / (a + K);
  COH_POLY(m, q, c);
  *density = COH_EL(madd)(e, low, e);
  return *density * (m / COH_EL(madd)(a, (COH_REAL)0.5, 1));
}

/* ---- activations: the value is returned, *slope = the derivative ----------------- */

/* The comparison is written so that NaN goes through. */
COH_FN COH_REAL COH_EL(act_relu)(COH_REAL x, COH_REAL *slope) {
  *slope = x > 0 ? (COH_REAL)1 : (COH_REAL)0;
  return x <= 0 ? (COH_REAL)0 : x;
}

COH_FN COH_REAL COH_EL(act_leaky_relu)(COH_REAL x, COH_REAL *slope) {
  const COH_REAL leak = (COH_REAL)0.01;
  COH_REAL low = leak * x;
  *slope = x > 0 ? (COH_REAL)1 : leak;
  return x > 0 ? x : low;
}

/* sigmoid from e = exp(-|x|): no overflow, both tails accurate. */
COH_FN COH_REAL COH_EL(sigmoid_from)(COH_REAL x, COH_REAL e, COH_REAL *slope) {
  COH_REAL upper = 1 / (1 + e), lower = e * upper;
  *slope = lower * upper;
  return x < 0 ? lower : upper;
}

COH_FN COH_REAL COH_EL(act_sigmoid)(COH_REAL x, COH_REAL *slope) {
  COH_REAL s = COH_EL(sigmoid_from)(x, COH_EL(decay)(x), slope);
  return x != x ? x : s;
}

/* max(x, 0) + log(1 + e) from e = exp(-|x|). */
COH_FN COH_REAL COH_EL(softplus_from)(COH_REAL x, COH_REAL e) {
  return COH_EL(log1p_unit)(e, x < 0 ? (COH_REAL)0 : x);
}

/* Its slope is the sigmoid. */
COH_FN COH_REAL COH_EL(act_softplus)(COH_REAL x, COH_REAL *slope) {
  COH_REAL e = COH_EL(decay)(x), unused;
  *slope = COH_EL(sigmoid_from)(x, e, &unused);
  return COH_EL(softplus_from)(x, e);
}

/* Beyond +-limit the other factor is 0 or 1; the limit keeps inf * 0 away. */
COH_FN COH_REAL COH_EL(act_silu)(COH_REAL x, COH_REAL *slope) {
  const COH_REAL limit = COH_IS_DOUBLE ? 800 : 120;
  COH_REAL d, s = COH_EL(sigmoid_from)(x, COH_EL(decay)(x), &d);
  COH_REAL y = x < -limit ? -limit : x, z = y > limit ? limit : y;
  *slope = COH_EL(madd)(z, d, s);
  return y * s;
}

/* x Phi(x), exact (no tanh form); slope Phi(x) + x phi(x). */
COH_FN COH_REAL COH_EL(act_gelu)(COH_REAL x, COH_REAL *slope) {
  const COH_REAL limit = COH_IS_DOUBLE ? 40 : 15;
  const COH_REAL inv_sqrt_2pi = (COH_REAL)0.398942280401432677940;
  COH_REAL y = x < -limit ? -limit : x, z = y > limit ? limit : y;
  COH_REAL density, tail = COH_EL(normal_tail)(COH_EL(abs)(z), &density);
  COH_REAL upper = 1 - tail, phi = x < 0 ? tail : upper;
  *slope = COH_EL(madd)(z * inv_sqrt_2pi, density, phi);
  return y * phi;
}

/* -expm1(-2|x|) / (2 + expm1(-2|x|)); slope 4 e / (1 + e)^2 with e = exp(-2|x|). */
COH_FN COH_REAL COH_EL(act_tanh)(COH_REAL x, COH_REAL *slope) {
  COH_REAL s, p = COH_EL(exp_parts)(2 * x, &s);
  COH_REAL em1 = COH_EL(madd)(s, p, s - 1), e = COH_EL(madd)(s, p, s);
  COH_REAL inv = 1 / (2 + em1);
  COH_REAL y = -em1 * inv, negative = -y;
  *slope = 4 * e * inv * inv;
  y = x < 0 ? negative : y;
  return x != x ? x : y;
}

COH_FN COH_REAL COH_EL(act_identity)(COH_REAL x, COH_REAL *slope) {
  *slope = 1;
  return x;
}

/* g(x) = sigmoid(4 x) + softplus(x); exp(-4|x|) is the fourth power of exp(-|x|), and one
 * division serves both sigmoids. */
COH_FN COH_REAL COH_EL(act_g)(COH_REAL x, COH_REAL *slope) {
  COH_REAL e = COH_EL(decay)(x), e2 = e * e, e4 = e2 * e2;
  COH_REAL below = 1 + e, below4 = 1 + e4, inv = 1 / (below * below4);
  COH_REAL upper = inv * below4, upper4 = inv * below;
  COH_REAL lower = e * upper, lower4 = e4 * upper4;
  COH_REAL s = x < 0 ? lower : upper, s4 = x < 0 ? lower4 : upper4;
  *slope = COH_EL(madd)(4 * lower4, upper4, s);
  return s4 + COH_EL(softplus_from)(x, e);
}

/* By name; with a constant `kind` the switch disappears. */
COH_FN COH_REAL COH_EL(act)(coh_act kind, COH_REAL x, COH_REAL *slope) {
  switch (kind) {
  case COH_RELU:
    return COH_EL(act_relu)(x, slope);
  case COH_LEAKY_RELU:
    return COH_EL(act_leaky_relu)(x, slope);
  case COH_SOFTPLUS:
    return COH_EL(act_softplus)(x, slope);
  case COH_GELU:
    return COH_EL(act_gelu)(x, slope);
  case COH_SILU:
    return COH_EL(act_silu)(x, slope);
  case COH_TANH:
    return COH_EL(act_tanh)(x, slope);
  case COH_IDENTITY:
    return COH_EL(act_identity)(x, slope);
  case COH_SIGMOID:
    return COH_EL(act_sigmoid)(x, slope);
  case COH_G:
    return COH_EL(act_g)(x, slope);
  }
  *slope = 0;
  return 0;
}

/* ---- optimisers ------------------------------------------------------------------ */

/* What one step holds for all parameters of a member. */
typedef struct COH_EL(rule) {
  COH_REAL lr, wd, mu;                            /* lr: for Adam lr / (1 - b1^t) */
  COH_REAL b1, one_b1, b2, one_b2, inv_root, eps; /* Adam; 1 / sqrt(1 - b2^t) */
  bool first, nesterov;
} COH_EL(rule);

/* Reads lr and wd where they lie: on the device. */
COH_FN COH_EL(rule)
    COH_EL(rule_of)(const coh_step_args *a, const coh_pace *pace, size_t member) {
  COH_EL(rule) s;
  s.lr = (COH_REAL)(a->lr[member] / pace->correction);
  s.wd = (COH_REAL)a->wd[member];
  s.mu = (COH_REAL)a->mu;
  s.b1 = (COH_REAL)a->beta1;
  s.one_b1 = (COH_REAL)(1 - a->beta1);
  s.b2 = (COH_REAL)a->beta2;
  s.one_b2 = (COH_REAL)(1 - a->beta2);
  s.inv_root = (COH_REAL)pace->inv_root;
  s.eps = (COH_REAL)a->eps;
  s.first = pace->first != 0;
  s.nesterov = a->nesterov;
  return s;
}

/* Each returns the new w. */
COH_FN COH_REAL COH_EL(sgd_plain)(const COH_EL(rule) * s, COH_REAL w, COH_REAL g) {
  g = COH_EL(madd)(s->wd, w, g);
  return COH_EL(madd)(-s->lr, g, w);
}

COH_FN COH_REAL COH_EL(sgd_momentum)(const COH_EL(rule) * s, COH_REAL w, COH_REAL g,
                                     COH_REAL *buf) {
  g = COH_EL(madd)(s->wd, w, g);
  COH_REAL later = COH_EL(madd)(s->mu, *buf, g), m = s->first ? g : later;
  COH_REAL ahead = COH_EL(madd)(s->mu, m, g), d = s->nesterov ? ahead : m;
  *buf = m;
  return COH_EL(madd)(-s->lr, d, w);
}

COH_FN COH_REAL COH_EL(adam)(const COH_EL(rule) * s, COH_REAL w, COH_REAL g, COH_REAL *m,
                             COH_REAL *v) {
  g = COH_EL(madd)(s->wd, w, g);
  *m = COH_EL(madd)(s->b1, *m, s->one_b1 * g);
  *v = COH_EL(madd)(s->b2, *v, s->one_b2 * g * g);
  COH_REAL denominator = COH_EL(madd)(COH_EL(sqrt)(*v), s->inv_root, s->eps);
  return COH_EL(madd)(-s->lr, *m / denominator, w);
}

/* ---- penalised steps ------------------------------------------------------------- */

/* What one step holds for a range of parameters of one member. */
typedef struct COH_EL(penal) {
  COH_EL(rule) adam;
  COH_REAL scale, alpha, alpha_beta, beta, rho2, l1, mf, mf2, keep, add;
} COH_EL(penal);

static inline COH_EL(penal)
    COH_EL(penal_make)(const coh_sparse_member *s, double factor) {
  double t = (double)s->t, alpha = s->alpha * factor;
  COH_EL(penal) p;
  memset(&p, 0, sizeof p);
  p.adam.lr = (COH_REAL)(s->lr / (1 - pow(0.9, t)));
  p.adam.b1 = (COH_REAL)0.9;
  p.adam.one_b1 = (COH_REAL)(1 - 0.9);
  p.adam.b2 = (COH_REAL)0.999;
  p.adam.one_b2 = (COH_REAL)(1 - 0.999);
  p.adam.inv_root = (COH_REAL)(1 / sqrt(1 - pow(0.999, t)));
  p.adam.eps = (COH_REAL)1e-8;
  p.scale = (COH_REAL)s->scale;
  p.alpha = (COH_REAL)alpha;
  p.alpha_beta = (COH_REAL)(alpha * s->beta);
  p.beta = (COH_REAL)s->beta;
  p.rho2 = (COH_REAL)(2 * s->rho);
  p.l1 = (COH_REAL)s->l1;
  p.mf = (COH_REAL)s->mf;
  p.mf2 = (COH_REAL)(2 * s->mf);
  p.keep = (COH_REAL)s->keep;
  p.add = (COH_REAL)(1 - s->keep);
  return p;
}

COH_FN COH_REAL COH_EL(sign)(COH_REAL x) {
  COH_REAL up = x > 0 ? (COH_REAL)1 : (COH_REAL)0;
  COH_REAL down = x < 0 ? (COH_REAL)1 : (COH_REAL)0;
  return up - down;
}

/* Gradient of the loss and of the terms that all penalties share. */
COH_FN COH_REAL COH_EL(penal_base)(const COH_EL(penal) * s, COH_REAL w, COH_REAL g,
                                   COH_REAL mask) {
  g = COH_EL(madd)(s->rho2, w, mask * s->scale * g);
  return COH_EL(madd)(s->l1, COH_EL(sign)(w), g);
}

COH_FN COH_REAL COH_EL(penal_l1)(const COH_EL(penal) * s, COH_REAL w) {
  return s->alpha * COH_EL(sign)(w);
}

COH_FN COH_REAL COH_EL(penal_exp)(const COH_EL(penal) * s, COH_REAL w) {
  return s->alpha_beta * COH_EL(sign)(w) * COH_EL(decay)(s->beta * w);
}

/* Gradients of the coupling by w, v and q, at multiplier u. */
COH_FN COH_REAL COH_EL(penal_gates)(const COH_EL(penal) * s, COH_REAL w, COH_REAL v,
                                    COH_REAL q, COH_REAL u, COH_REAL *gv, COH_REAL *gq) {
  COH_REAL r = COH_EL(madd)(-v, q, w), mu = s->mf2 * u, open = 1 - q;
  *gv = COH_EL(madd)(mu * v * q, open, -(mu * r * q));
  *gq = COH_EL(madd)(s->mf * u * v * v, 1 - 2 * q, s->alpha) - mu * r * v;
  return mu * r;
}

/* That by u, turned, so that descent raises u. */
COH_FN COH_REAL COH_EL(penal_multiplier)(const COH_EL(penal) * s, COH_REAL w, COH_REAL v,
                                         COH_REAL q) {
  COH_REAL r = COH_EL(madd)(-v, q, w), open = 1 - q;
  return -(s->mf * r * r) - s->mf * v * v * q * open;
}

COH_FN COH_REAL COH_EL(clamp_unit)(COH_REAL q) {
  COH_REAL low = q < 0 ? (COH_REAL)0 : q;
  return low > 1 ? (COH_REAL)1 : low;
}

COH_FN COH_REAL COH_EL(running)(const COH_EL(penal) * s, COH_REAL mean, COH_REAL value) {
  return COH_EL(madd)(s->keep, mean, s->add * value);
}
