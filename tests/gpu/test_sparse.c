/* test_sparse.c - the penalised step of the CUDA device table against the CPU's in
 * float64: all penalties, odd sizes, members in places of their own, several ranges. */
#include "twin.h"

enum { ROWS = 4, PLACES = 5, ARRAYS = 18 };

static void one_case(const pair *p, size_t P, size_t parts, int penalty) {
  twin array[ARRAYS];
  const coh_sparse_part part[] = {{0, P / 3, 1.5}, {P / 3, P - P / 3, 0.5}};
  const coh_sparse_part whole = {0, P, 1};
  coh_sparse_member member[3];
  for (size_t i = 0; i < ARRAYS; i++)
    array[i] = twin_make(p, (i < 4 ? ROWS : PLACES) * P, i % 3 ? 0.3 : 1, i);
  double *values = malloc(PLACES * P * sizeof *values);
  for (size_t k = 0; k < PLACES * P; k++) values[k] = 0.02 + 0.01 * random_value(1, k);
  const size_t squares[] = {3, 11, 12, 13}; /* second moments */
  for (size_t i = 0; i < 4; i++)
    twin_put(&array[squares[i]], values, array[squares[i]].n);
  for (size_t k = 0; k < PLACES * P; k++) values[k] = k % 5 != 0;
  twin_put(&array[4], values, PLACES * P); /* the mask */
  free(values);
  for (size_t n = 0; n < 3; n++)
    member[n] = (coh_sparse_member){.row = n + 1,
                                    .place = 2 * n,
                                    .penalty = (coh_penalty)((size_t)penalty + n) % 4,
                                    .t = n + 1,
                                    .lr = 1e-3 * (double)(n + 1),
                                    .scale = 1.5,
                                    .alpha = 1e-2,
                                    .beta = 5,
                                    .rho = 1e-3,
                                    .l1 = n ? 1e-3 : 0,
                                    .mf = 1,
                                    .keep = 0.75};
  BOTH(p, dev, gpu, {
    coh_sparse_args a = {.N = 3, .P = P, .parts = parts, .member = member};
    a.part = parts > 1 ? part : &whole;
    a.w = AT(array[0], gpu), a.g = AT(array[1], gpu);
    a.m = AT(array[2], gpu), a.v = AT(array[3], gpu), a.mask = AT(array[4], gpu);
    for (int i = 0; i < COH_SPARSE_COMPANIONS; i++) {
      a.c[i] = AT(array[5 + i], gpu);
      a.cm[i] = AT(array[8 + i], gpu);
      a.cv[i] = AT(array[11 + i], gpu);
    }
    for (int i = 0; i < COH_SPARSE_MEANS; i++) a.mean[i] = AT(array[14 + i], gpu);
    OK(dev->ops->sparse(dev, &a, &err));
  });
  for (size_t i = 0; i < ARRAYS; i++) {
    SAME(&array[i], 32, 0.1);
    twin_free(&array[i]);
  }
}

static void penalised_steps(void) {
  for (int type = COH_F32; type <= COH_F64; type++) {
    pair p = pair_open((coh_dtype)type);
    for (size_t P = 1; P <= 67; P += 3)
      one_case(&p, P, P % 2 && P > 3 ? 2 : 1, (int)P % 4);
    for (int penalty = 0; penalty < 4; penalty++) one_case(&p, 5000, 2, penalty);
    pair_close(&p);
  }
}

static void members_beyond_the_scratch_memory(void) {
  enum { N = 300000, P = 3 };
  pair p = pair_open(COH_F32);
  twin w = twin_make(&p, N * P, 1, 1), g = twin_make(&p, N * P, 1, 2);
  twin m = twin_make(&p, N * P, 0, 3), v = twin_make(&p, N * P, 0, 4);
  twin mask = twin_make(&p, N * P, 1, 5);
  coh_sparse_member *member = calloc(N, sizeof *member);
  const coh_sparse_part whole = {0, P, 1};
  for (size_t n = 0; n < N; n++)
    member[n] = (coh_sparse_member){.row = n, .place = n, .t = 1, .lr = 1e-3, .scale = 1};
  BOTH(&p, dev, gpu, {
    const coh_sparse_args a = {.N = N,
                               .P = P,
                               .parts = 1,
                               .member = member,
                               .part = &whole,
                               .w = AT(w, gpu),
                               .g = AT(g, gpu),
                               .m = AT(m, gpu),
                               .v = AT(v, gpu),
                               .mask = AT(mask, gpu)};
    OK(dev->ops->sparse(dev, &a, &err));
  });
  SAME(&w, 32, 0.1);
  free(member);
  twin *all[] = {&w, &g, &m, &v, &mask};
  for (size_t i = 0; i < 5; i++) twin_free(all[i]);
  pair_close(&p);
}

int main(void) {
  RUN(penalised_steps);
  RUN(members_beyond_the_scratch_memory);
  return now.failed != 0;
}
