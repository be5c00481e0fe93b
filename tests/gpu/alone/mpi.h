/* mpi.h - MPI of one rank, for programs that test and time the GPU on machines without
 * MPI. Only what src/comm, src/net and src/train call. Collectives over one rank copy or
 * do nothing; a message to another rank is an error.
 */
#ifndef COHORT_TESTS_GPU_MPI_H
#define COHORT_TESTS_GPU_MPI_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef int MPI_Comm, MPI_Request, MPI_Datatype, MPI_Op, MPI_Info, MPI_Status,
    MPI_Errhandler;

enum { MPI_SUCCESS = 0, MPI_ERR_RANK = 6 };
enum { MPI_COMM_NULL = 0, MPI_COMM_WORLD = 1, MPI_COMM_SELF = 2 };
enum { MPI_ERRORS_RETURN = 1, MPI_INFO_NULL = 0, MPI_COMM_TYPE_SHARED = 0 };
enum { MPI_DATATYPE_NULL = 0, MPI_BYTE = 1, MPI_INT = 4, MPI_FLOAT = 4, MPI_DOUBLE = 8 };
enum { MPI_INT64_T = 8, MPI_UINT64_T = 8 }; /* a type is its size */
enum { MPI_MAX, MPI_MIN };
enum { MPI_MAX_ERROR_STRING = 64, MPI_MAX_PROCESSOR_NAME = 64 };
#define MPI_IN_PLACE      ((void *)-1)
#define MPI_STATUS_IGNORE ((MPI_Status *)0)

static inline int alone_copy_(const void *from, void *to, size_t bytes) {
  if (from != MPI_IN_PLACE && from != to && bytes > 0) memmove(to, from, bytes);
  return MPI_SUCCESS;
}

static inline int MPI_Bcast(void *data, int n, MPI_Datatype t, int root, MPI_Comm comm) {
  (void)data, (void)n, (void)t, (void)comm;
  return root == 0 ? MPI_SUCCESS : MPI_ERR_RANK;
}
static inline int MPI_Send(const void *data, int n, MPI_Datatype t, int to, int tag,
                           MPI_Comm comm) {
  (void)data, (void)n, (void)t, (void)to, (void)tag, (void)comm;
  return MPI_ERR_RANK;
}
static inline int MPI_Recv(void *data, int n, MPI_Datatype t, int from, int tag,
                           MPI_Comm comm, MPI_Status *status) {
  (void)data, (void)n, (void)t, (void)from, (void)tag, (void)comm, (void)status;
  return MPI_ERR_RANK;
}

#define MPI_Init(argc, argv)      ((void)(argc), (void)(argv), MPI_SUCCESS)
#define MPI_Finalize()            ((void)0)
#define MPI_Comm_rank(comm, rank) ((void)(comm), *(rank) = 0, MPI_SUCCESS)
#define MPI_Comm_size(comm, size) ((void)(comm), *(size) = 1, MPI_SUCCESS)
#define MPI_Comm_dup(comm, out)   (*(out) = (comm), MPI_SUCCESS)
#define MPI_Comm_split(comm, c, k, out)                                                  \
  ((void)(c), (void)(k), *(out) = (comm), MPI_SUCCESS)
#define MPI_Comm_split_type(comm, type, key, info, out)                                  \
  ((void)(key), *(out) = (comm), MPI_SUCCESS)
#define MPI_Comm_free(comm)              (*(comm) = MPI_COMM_NULL, MPI_SUCCESS)
#define MPI_Comm_set_errhandler(comm, h) ((void)(comm), MPI_SUCCESS)
#define MPI_Error_string(code, text, length)                                             \
  (*(length) = snprintf((text), MPI_MAX_ERROR_STRING, "error %d", (code)), MPI_SUCCESS)
#define MPI_Get_processor_name(text, length)                                             \
  (*(length) = snprintf((text), MPI_MAX_PROCESSOR_NAME, "alone"), MPI_SUCCESS)
#define MPI_Allreduce(from, to, n, type, op, comm)                                       \
  ((void)(comm), alone_copy_((from), (to), (size_t)(n) * (size_t)(type)))
#define MPI_Allgather(from, n, type, to, m, type2, comm)                                 \
  ((void)(comm), alone_copy_((from), (to), (size_t)(n) * (size_t)(type)))
#define MPI_Allgatherv(from, n, type, to, m, at, type2, comm)                            \
  ((void)(comm), (void)(m), (void)(at),                                                  \
   alone_copy_((from), (to), (size_t)(n) * (size_t)(type)))
#define MPI_Alltoallv(from, m, at, type, to, m2, at2, type2, comm)                       \
  ((void)(comm), (void)(at), (void)(m2), (void)(at2),                                    \
   alone_copy_((from), (to), (size_t)(m)[0] * (size_t)(type)))
#define MPI_Ibarrier(comm, request)     ((void)(comm), *(request) = 1, MPI_SUCCESS)
#define MPI_Test(request, flag, status) (*(flag) = 1, *(request) = 0, MPI_SUCCESS)

#endif
