/* test_comm.c - the room src/comm, at whatever rank count it is started with (1 to 8). */
#include "comm/comm_private.h"

#include "mpi_main.h"

#include <string.h>

static coh_error err;

#define OK(call)                                                                         \
  do {                                                                                   \
    if ((call) != COH_OK) fail_msg("%s: %s", #call, err.text);                           \
  } while (0)

/* ---- the grid -------------------------------------------------------------------- */

static void check_place(const coh_grid *grid, int replicas) {
  int groups = mpi_size / replicas, size = 0;
  assert_int_equal(grid->size, mpi_size);
  assert_int_equal(grid->rank, mpi_rank);
  assert_int_equal(grid->n_student, groups);
  assert_int_equal(grid->n_replica, replicas);
  MPI_Comm_size(grid->replica, &size);
  if (mpi_rank >= groups * replicas) {
    assert_int_equal(grid->student, -1);
    assert_int_equal(size, 1);
    return;
  }
  assert_int_equal(grid->student, mpi_rank / replicas);
  assert_int_equal(grid->replica_rank, mpi_rank % replicas);
  assert_int_equal(size, replicas);
}

static void test_grid_of_any_size(void) {
  for (int replicas = 1; replicas <= mpi_size; replicas++) {
    coh_grid grid;
    OK(coh_grid_create(MPI_COMM_WORLD, replicas, &grid, &err));
    check_place(&grid, replicas);
    coh_grid_destroy(&grid);
  }
}

static void test_grid_refuses_more_replicas_than_ranks(void) {
  int64_t wrong[] = {mpi_size + 1, 0, -1, INT64_MAX};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    coh_grid grid;
    assert_int_equal(coh_grid_create(MPI_COMM_WORLD, wrong[i], &grid, &err), COH_EUSAGE);
    assert_non_null(strstr(err.text, "replicas"));
    coh_grid_destroy(&grid);
  }
}

/* Blocks cover all members once, in order, sizes differ by at most one. */
static void check_blocks(const coh_grid *grid, size_t N) {
  size_t next = 0, least = N, most = 0;
  for (int s = 0; s < grid->n_student; s++) {
    size_t first, count;
    coh_grid_block(grid, N, s, &first, &count);
    assert_int_equal(first, next);
    next += count;
    if (count < least) least = count;
    if (count > most) most = count;
  }
  assert_int_equal(next, N);
  assert_true(most - least <= 1);
}

static void test_blocks_cover_all_members(void) {
  coh_grid grid;
  OK(coh_grid_create(MPI_COMM_WORLD, 1, &grid, &err));
  for (size_t N = 0; N < 30; N++) check_blocks(&grid, N);
  size_t first, count;
  coh_grid_block(&grid, 10, -1, &first, &count);
  assert_int_equal(count, 0);
  coh_grid_destroy(&grid);
}

static void test_rows_cover_the_batch(void) {
  for (int replicas = 1; replicas <= mpi_size; replicas++) {
    coh_grid grid;
    OK(coh_grid_create(MPI_COMM_WORLD, replicas, &grid, &err));
    for (uint64_t B = 0; B < 9; B++) {
      size_t first, count;
      coh_grid_rows(&grid, B, &first, &count);
      uint64_t sum = count;
      MPI_Allreduce(MPI_IN_PLACE, &sum, 1, MPI_UINT64_T, MPI_SUM, grid.replica);
      assert_int_equal(sum, grid.student < 0 ? 0 : B);
      assert_true(first + count <= B);
    }
    coh_grid_destroy(&grid);
  }
}

/* Ranks of one node: those that name the same bus have one GPU among them. */
static void test_sharers_of_a_gpu(void) {
  coh_grid grid;
  int sharers, even = (mpi_size + 1) / 2;
  OK(coh_grid_create(MPI_COMM_WORLD, 1, &grid, &err));
  OK(coh_grid_sharers(&grid, mpi_rank % 2 ? "0000:17:00.0" : "0000:65:00.0", &sharers,
                      &err));
  assert_int_equal(sharers, mpi_rank % 2 ? mpi_size - even : even);
  OK(coh_grid_sharers(&grid, "", &sharers, &err));
  assert_int_equal(sharers, 1);
  coh_grid_destroy(&grid);
}

/* ---- agreement ------------------------------------------------------------------- */

static void test_agree_when_all_is_well(void) {
  coh_error mine = {0};
  assert_int_equal(coh_agree(MPI_COMM_WORLD, COH_OK, &mine), COH_OK);
  assert_string_equal(mine.text, "");
}

static void test_agree_on_any_one_rank(void) {
  for (int bad = 0; bad < mpi_size; bad++) {
    coh_error mine = {0};
    int rc = COH_OK;
    if (mpi_rank == bad) rc = coh_fail(&mine, COH_EDATA, "rank %d is unhappy", bad);
    assert_int_equal(coh_agree(MPI_COMM_WORLD, rc, &mine), COH_EDATA);
    char text[64];
    snprintf(text, sizeof text, "rank %d is unhappy", bad);
    assert_string_equal(mine.text, text);
    assert_int_equal(mine.code, COH_EDATA);
  }
}

static void test_agree_takes_the_lowest_rank(void) {
  coh_error mine = {0};
  int code = mpi_rank == 0 ? COH_EIO : COH_EUSAGE;
  int rc = coh_fail(&mine, code, "rank %d", mpi_rank);
  assert_int_equal(coh_agree(MPI_COMM_WORLD, rc, &mine), COH_EIO);
  assert_string_equal(mine.text, "rank 0");
}

static void test_mpi_error_is_told(void) {
  assert_int_equal(coh_mpi_check(MPI_ERR_TRUNCATE, "MPI_Recv", &err), COH_ELIB);
  assert_non_null(strstr(err.text, "MPI_ERR_TRUNCATE"));
  assert_non_null(strstr(err.text, "MPI_Recv"));
}

/* ---- bytes ----------------------------------------------------------------------- */

/* Chunks to try: one byte crosses 8-byte chunks often; 0 is the default. */
static const size_t chunks[] = {0, 8, 16, 64};
enum { N_CHUNKS = sizeof chunks / sizeof *chunks };

static unsigned char pattern(int rank, size_t i) {
  return (unsigned char)(rank * 37 + (int)(i * 11 % 251));
}

static void test_bcast_crosses_chunk_borders(void) {
  static const size_t sizes[] = {0, 1, 7, 8, 9, 63, 64, 65, 200};
  for (size_t c = 0; c < N_CHUNKS; c++)
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
      for (int root = 0; root < mpi_size; root++) {
        unsigned char data[200] = {0};
        coh_comm_set_chunk(chunks[c]);
        if (mpi_rank == root)
          for (size_t i = 0; i < sizes[s]; i++) data[i] = pattern(root, i);
        OK(coh_bcast(MPI_COMM_WORLD, data, sizes[s], root, &err));
        for (size_t i = 0; i < sizes[s]; i++) assert_int_equal(data[i], pattern(root, i));
      }
  coh_comm_set_chunk(0);
}

/* Each rank brings (rank + shift) % 3 * 21 bytes, so some bring none. */
static size_t share(int rank, int shift) {
  return (size_t)((rank + shift) % 3) * 21;
}

static size_t share_total(int shift) {
  size_t total = 0;
  for (int r = 0; r < mpi_size; r++) total += share(r, shift);
  return total;
}

static void check_all(const unsigned char *all, int shift) {
  for (int r = 0; r < mpi_size; r++)
    for (size_t i = 0; i < share(r, shift); i++) assert_int_equal(*all++, pattern(r, i));
}

static void test_gather_of_uneven_and_empty_parts(void) {
  for (size_t c = 0; c < N_CHUNKS; c++)
    for (int shift = 0; shift < 3; shift++) {
      unsigned char mine[42], all[42 * 64];
      coh_comm_set_chunk(chunks[c]);
      size_t n = share(mpi_rank, shift);
      for (size_t i = 0; i < n; i++) mine[i] = pattern(mpi_rank, i);
      for (int root = 0; root < mpi_size; root++) {
        memset(all, 0, sizeof all);
        OK(coh_gather(MPI_COMM_WORLD, n ? mine : NULL, n, mpi_rank == root ? all : NULL,
                      root, &err));
        if (mpi_rank == root) check_all(all, shift);
      }
      memset(all, 0, sizeof all);
      OK(coh_allgather(MPI_COMM_WORLD, n ? mine : NULL, n, all, share_total(shift),
                       &err));
      check_all(all, shift);
    }
  coh_comm_set_chunk(0);
}

static void test_allgather_checks_the_total(void) {
  char all[64] = {0};
  size_t total = (size_t)mpi_size + (mpi_rank == mpi_size - 1); /* wrong on one rank */
  assert_int_equal(coh_allgather(MPI_COMM_WORLD, "x", 1, all, total, &err), COH_EBUG);
}

static void test_allmax(void) {
  int64_t v = mpi_rank == mpi_size - 1 ? INT64_C(1) << 40 : -5;
  OK(coh_allmax(MPI_COMM_WORLD, &v, &err));
  assert_int_equal(v, INT64_C(1) << 40);
}

/* ---- rows of members ------------------------------------------------------------- */

enum { ROW = 5 };

/* Gathers N rows [row, row, ...] of each group's block and checks them. */
static void check_rows(const coh_grid *grid, size_t N) {
  double local[32 * ROW], all[32 * ROW];
  size_t first, count;
  coh_grid_block(grid, N, grid->student, &first, &count);
  for (size_t i = 0; i < count * ROW; i++) local[i] = (double)(first * ROW + i);
  if (grid->replica_rank != 0) memset(local, 0xff, sizeof local); /* must be ignored */
  memset(all, 0xee, sizeof all);
  OK(coh_grid_allgather_rows(grid, N, ROW * sizeof *all, local, all, &err));
  for (size_t i = 0; i < N * ROW; i++) assert_true(all[i] == (double)i);
  memset(all, 0xee, sizeof all);
  OK(coh_grid_gather_rows(grid, N, ROW * sizeof *all, local, mpi_rank ? NULL : all,
                          &err));
  for (size_t i = 0; mpi_rank == 0 && i < N * ROW; i++) assert_true(all[i] == (double)i);
}

static void test_rows_of_all_members(void) {
  for (int replicas = 1; replicas <= mpi_size; replicas++) {
    coh_grid grid;
    OK(coh_grid_create(MPI_COMM_WORLD, replicas, &grid, &err));
    for (size_t N = 0; N < 8; N++) check_rows(&grid, N); /* also fewer than groups */
    check_rows(&grid, 32);
    coh_comm_set_chunk(16);
    check_rows(&grid, 32);
    coh_comm_set_chunk(0);
    coh_grid_destroy(&grid);
  }
}

/* ---- the reducer ----------------------------------------------------------------- */

static int fake_sync(coh_device *d, coh_error *e) {
  (void)d, (void)e;
  return COH_OK;
}

/* A "device" that keeps its bytes inverted, so that host code cannot read them by
 * mistake. */
static int fake_copy(coh_device *d, void *to, const void *from, size_t n, coh_error *e) {
  (void)e;
  int *left = d->impl;
  if (*left == 0) return coh_fail(e, COH_ELIB, "the fake device failed");
  if (*left > 0) --*left;
  for (size_t i = 0; i < n; i++)
    ((unsigned char *)to)[i] = (unsigned char)~((const unsigned char *)from)[i];
  return COH_OK;
}

static const coh_device_ops cpu_ops = {.name = "cpu", .sync = fake_sync};
static const coh_device_ops fake_ops = {
    .name = "fake", .sync = fake_sync, .upload = fake_copy, .download = fake_copy};

/* Values whose sum depends on the order. */
static double term(int rank, size_t i) {
  double u = coh_random_uniform(5, COH_RNG_TEST, (uint64_t)rank, i) - 0.5;
  return i % 3 ? u : u * 1e8;
}

static void fill(coh_dtype type, int rank, size_t n, void *data) {
  for (size_t i = 0; i < n; i++) coh_put(type, data, i, term(rank, i));
}

/* The serial sum over the replicas of this rank's group, in rank order. */
static void serial_sum(const coh_grid *grid, coh_dtype type, size_t n, void *sum) {
  int first = mpi_rank - grid->replica_rank;
  fill(type, first, n, sum);
  for (int r = 1; r < grid->n_replica && grid->student >= 0; r++)
    for (size_t i = 0; i < n; i++) {
      double a = coh_get(type, sum, i), b = term(first + r, i);
      if (type == COH_F64)
        coh_put(type, sum, i, a + b);
      else
        coh_put(type, sum, i, (float)a + (float)b);
    }
}

static void check_sum(const coh_grid *grid, coh_device *device, coh_dtype type,
                      size_t n) {
  coh_reducer *reducer;
  double data[300], want[300];
  size_t bytes = n * coh_dtype_size(type);
  OK(coh_reducer_create(grid, device, &reducer, &err));
  assert_int_equal(coh_reducer_records(reducer),
                   grid->n_replica == 1 || grid->student < 0);
  fill(type, mpi_rank, n, data);
  serial_sum(grid, type, n, want);
  bool fake = device->ops == &fake_ops;
  unsigned char *raw = (unsigned char *)data;
  for (size_t i = 0; fake && i < bytes; i++) raw[i] = (unsigned char)~raw[i];
  OK(coh_reducer_sum(reducer, type, n, data, &err));
  for (size_t i = 0; fake && i < bytes; i++) raw[i] = (unsigned char)~raw[i];
  assert_memory_equal(data, want, bytes);
  coh_reducer_destroy(reducer);
}

static void test_sum_is_the_serial_sum_bit_for_bit(void) {
  int left = -1;
  coh_device devices[2] = {{.ops = &cpu_ops}, {.ops = &fake_ops, .impl = &left}};
  static const size_t counts[] = {0, 1, 2, 3, 7, 8, 64, 300};
  for (int replicas = 1; replicas <= mpi_size; replicas++) {
    coh_grid grid;
    OK(coh_grid_create(MPI_COMM_WORLD, replicas, &grid, &err));
    for (size_t c = 0; c < N_CHUNKS; c++)
      for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        for (int k = 0; k < 4; k++) {
          coh_comm_set_chunk(chunks[c]);
          check_sum(&grid, &devices[k / 2], k % 2 ? COH_F64 : COH_F32, counts[i]);
        }
    coh_grid_destroy(&grid);
  }
  coh_comm_set_chunk(0);
}

/* A device that fails on one rank fails on all its replicas; nobody waits. */
static void test_sum_survives_a_failing_device(void) {
  coh_grid grid;
  coh_reducer *reducer;
  double data[4] = {0};
  int left = mpi_rank == mpi_size - 1 ? 0 : -1;
  coh_device device = {.ops = &fake_ops, .impl = &left};
  OK(coh_grid_create(MPI_COMM_WORLD, mpi_size, &grid, &err));
  OK(coh_reducer_create(&grid, &device, &reducer, &err));
  int want = mpi_size == 1 ? COH_OK : COH_ELIB;
  assert_int_equal(coh_reducer_sum(reducer, COH_F64, 4, data, &err), want);
  coh_reducer_destroy(reducer);
  coh_reducer_destroy(NULL);
  coh_grid_destroy(&grid);
}

static mpi_test tests[] = {
    MPI_TEST(test_grid_of_any_size),
    MPI_TEST(test_grid_refuses_more_replicas_than_ranks),
    MPI_TEST(test_blocks_cover_all_members),
    MPI_TEST(test_rows_cover_the_batch),
    MPI_TEST(test_sharers_of_a_gpu),
    MPI_TEST(test_agree_when_all_is_well),
    MPI_TEST(test_agree_on_any_one_rank),
    MPI_TEST(test_agree_takes_the_lowest_rank),
    MPI_TEST(test_mpi_error_is_told),
    MPI_TEST(test_bcast_crosses_chunk_borders),
    MPI_TEST(test_gather_of_uneven_and_empty_parts),
    MPI_TEST(test_allgather_checks_the_total),
    MPI_TEST(test_allmax),
    MPI_TEST(test_rows_of_all_members),
    MPI_TEST(test_sum_is_the_serial_sum_bit_for_bit),
    MPI_TEST(test_sum_survives_a_failing_device),
};

MPI_MAIN(tests)
