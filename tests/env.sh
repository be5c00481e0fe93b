# env.sh BUILD - environment of the tests: quiet, quick Open MPI on few cores, data folder.
# Sourced by tests/run.sh and by the shell tests.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader,tcp
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_rmaps_base_oversubscribe=1
export OPENBLAS_NUM_THREADS=1
export COHORT_DATA=${COHORT_DATA:-$PWD/build/data}
export COHORT_BUILD=$1
