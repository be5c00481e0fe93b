/* test_expand.c - when students are wide enough. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cohort/extract.h"

static coh_expand_verdict judge(const coh_expand_width *before, const double loss[4],
                                coh_expand_width *out) {
  coh_error err = {0};
  coh_expand_verdict verdict;
  int rc = coh_expand_judge(before, 4, loss, 1e-6, out, &verdict, &err);
  assert_int_equal(rc, COH_OK);
  return verdict;
}

static void three_of_four_within_the_floor_are_enough(void **state) {
  (void)state;
  coh_expand_width w;
  assert_int_equal(judge(NULL, (double[]){1e-3, 1e-7, 1e-30, 1e-6}, &w), COH_EXPAND_STOP);
  assert_int_equal(w.minimal, 3);
  assert_true(w.consistent && w.best == 1e-30);
  assert_int_equal(judge(NULL, (double[]){1e-3, 1e-7, 1e-30, 2e-6}, &w),
                   COH_EXPAND_WIDEN);
  assert_false(w.consistent);
}

static void no_lower_loss_goes_back(void **state) {
  (void)state;
  coh_expand_width first, second, third;
  /* noise: no width will come below about 0.1 */
  assert_int_equal(judge(NULL, (double[]){9, 0.5, 30, 2}, &first), COH_EXPAND_WIDEN);
  assert_false(first.consistent);
  assert_int_equal(judge(&first, (double[]){0.11, 0.12, 0.1, 4}, &second),
                   COH_EXPAND_WIDEN);
  assert_true(second.consistent);
  assert_int_equal(judge(&second, (double[]){0.1, 0.1, 0.1, 0.1}, &third),
                   COH_EXPAND_BACK);
  /* still falling */
  assert_int_equal(judge(&second, (double[]){0.02, 0.03, 0.02, 0.02}, &third),
                   COH_EXPAND_WIDEN);
}

static void students_that_diverged_are_not_minimal(void **state) {
  (void)state;
  coh_expand_width w;
  assert_int_equal(judge(NULL, (double[]){NAN, 0, INFINITY, 0}, &w), COH_EXPAND_WIDEN);
  assert_int_equal(w.minimal, 2);
  assert_int_equal(judge(NULL, (double[]){NAN, 0, 0, 0}, &w), COH_EXPAND_STOP);
  assert_int_equal(judge(NULL, (double[]){NAN, NAN, NAN, NAN}, &w), COH_EXPAND_WIDEN);
  assert_int_equal(w.minimal, 0);
  assert_true(isinf(w.best) && isinf(w.median));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(three_of_four_within_the_floor_are_enough),
      cmocka_unit_test(no_lower_loss_goes_back),
      cmocka_unit_test(students_that_diverged_are_not_minimal),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
