# cohort: `make help` lists the targets. Debian packages: scripts/install-deps.sh.
PREFIX  ?= /usr/local
DESTDIR ?=
BUILD   ?= build
CC      := mpicc
# ALONE=1: only what trains, for machines without MPI, HDF5 and all else; see test-gpu
ALONE   ?= 0
ifeq ($(ALONE),1)
CC      := gcc
endif
OPT     ?= -O2
SAN     ?=
# make V=1 shows whole commands
ifneq ($(V),1)
SAY = @echo "  $(1)  $(2)";
endif
CUDA_HOME ?= /usr/local/cuda
# CUDA=0 leaves the CUDA runtime out, CUDA=1 wants it; by itself: whether nvcc is there
CUDA ?= $(if $(wildcard $(CUDA_HOME)/bin/nvcc),1,0)
# FAKE_CUDA=1 runs the CUDA back end on the CPU (tests/fake_cuda); give it a BUILD of its own, and
# PLAIN=another build, from which it takes the objects that know nothing of CUDA
FAKE_CUDA ?= 0
PLAIN ?= $(BUILD)
ifeq ($(FAKE_CUDA),1)
override CUDA := 0
endif
NVCC       ?= $(CUDA_HOME)/bin/nvcc
# those of these that nvcc knows: 100 from CUDA 12.8 on
NVCC_ARCHS ?= $(filter $(patsubst compute_%,%,$(shell $(NVCC) --list-gpu-arch)),80 90 100)

WARN   := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wvla -Wstrict-prototypes \
          -Wmissing-prototypes -Wpointer-arith -Wwrite-strings
PKGS   := hdf5-openmpi scalapack-openmpi libb2 jansson zlib
# pkg-config runs only when something is compiled, so that `make deps` works on a bare machine
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS))
PKG_LIBS   = $(shell pkg-config --libs $(PKGS))
CPPFLAGS = -Iinclude -Isrc -D_GNU_SOURCE $(addprefix -isystem ,$(patsubst -I%,%,$(PKG_CFLAGS)))
# headers of Random123 where no package brings them
RANDOM123 ?=
ifneq ($(RANDOM123),)
CPPFLAGS += -isystem $(RANDOM123)
NVCCFLAGS += -I$(RANDOM123)
endif
CFLAGS   = -std=c17 -g $(OPT) $(WARN) $(SAN) -fno-math-errno -ffp-contract=on -fopenmp-simd
LDLIBS   = -liniparser $(PKG_LIBS) -lm
ifeq ($(ALONE),1)
CPPFLAGS := -Itests/gpu/alone $(filter-out -isystem $(PKG_CFLAGS),-Iinclude -Isrc -D_GNU_SOURCE) $(if $(RANDOM123),-isystem $(RANDOM123))
LDLIBS   := -lm
endif
ifeq ($(CUDA),1)
CPPFLAGS += -DCOH_CUDA -DCOH_CUDA_HOME='"$(CUDA_HOME)"' -isystem $(CUDA_HOME)/include
LDLIBS += -L$(CUDA_HOME)/lib64 -lcudart_static -lstdc++ -ldl -lrt -lpthread
endif
# kernels for each architecture, and as PTX of the last one for those to come; multiply-adds
# are fused where the text says so, so that an element's bits do not depend on its neighbours
NVCCFLAGS += -O3 -std=c++17 -fmad=false -DCOH_CUDA -Iinclude -Isrc -Xcompiler -Wall,-Wextra \
  -Werror all-warnings \
  $(foreach a,$(NVCC_ARCHS),--generate-code arch=compute_$(a),code=sm_$(a)) \
  --generate-code arch=compute_$(lastword $(NVCC_ARCHS)),code=compute_$(lastword $(NVCC_ARCHS))
CXX := g++
CXXFLAGS = -std=c++17 -g $(OPT) -Wall -Wextra $(SAN) -Iinclude -Isrc
GIT     := $(shell git describe --always --dirty 2>/dev/null || echo unknown)

SRC  := $(sort $(wildcard src/*/*.c))
ifeq ($(ALONE),1)
SRC  := $(sort $(filter-out src/base/hash.c,$(wildcard src/base/*.c)) src/data/order.c \
  $(foreach r,device comm net train,$(wildcard src/$(r)/*.c)) tests/gpu/alone/archive.c)
endif
JOBS := $(sort $(wildcard jobs/*.c))
TESTS := $(sort $(wildcard tests/test_*.c))
MPITESTS := $(sort $(wildcard tests/mpi/test_*.c))

# src/device/kernels.c is compiled once for each instruction set and chosen at run time;
# selections become vector code only where comparisons need not trap
ISAS := generic
ifeq ($(shell uname -m),x86_64)
ISAS += avx2 avx512
endif
ISA_generic :=
ISA_avx2    := -mavx2 -mfma
ISA_avx512  := -mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma -mprefer-vector-width=512

OBJ := $(patsubst %.c,$(BUILD)/%.o,$(filter-out src/device/kernels.c,$(SRC))) \
       $(foreach i,$(ISAS),$(BUILD)/src/device/kernels.$(i).o)
ifneq ($(filter 1,$(CUDA) $(FAKE_CUDA)),)
OBJ += $(patsubst %.cu,$(BUILD)/%.cu.o,$(wildcard src/device/*.cu))
endif
# the fake's objects are linked one by one: some are reached only through dlsym()
ifeq ($(FAKE_CUDA),1)
FAKEOBJ := $(patsubst %.cpp,$(BUILD)/%.o,$(wildcard tests/fake_cuda/*.cpp))
FAKEFLAGS := -DCOH_CUDA -DCOH_FAKE_CUDA -Itests/fake_cuda/include
CPPFLAGS += $(FAKEFLAGS)
LDLIBS := $(FAKEOBJ) $(LDLIBS) -rdynamic -lstdc++ -ldl -lrt -lpthread
FAKETEST := $(BUILD)/tests/fake_cuda/test_fake
COHORT := $(BUILD)/bin/cohort
else
COHORT := bin/cohort
endif
JOBOBJ := $(patsubst %.c,$(PLAIN)/%.o,$(JOBS))
ifneq ($(PLAIN),$(BUILD))
CUDAOBJ := $(patsubst %.c,$(BUILD)/%.o,$(shell grep -l COH_CUDA $(SRC))) $(filter %.cu.o,$(OBJ))
OBJ := $(CUDAOBJ) $(patsubst $(BUILD)/%,$(PLAIN)/%,$(filter-out $(CUDAOBJ),$(OBJ)))
endif
TESTBIN := $(patsubst tests/%.c,$(BUILD)/tests/%,$(TESTS) $(MPITESTS))

.PHONY: test-gpu gpu-tests all help deps quickstart tests-build test check-long recovery bench bench-build bench-gpu install \
  uninstall clean format asan asan-run
.SUFFIXES:
.SECONDARY:

all: $(COHORT) ## build bin/cohort

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

$(BUILD)/libcohort.a: $(OBJ) | $(FAKEOBJ)
	@rm -f $@
	$(call SAY,ar,$@)ar rcs $@ $(OBJ)

$(COHORT): $(JOBOBJ) $(BUILD)/libcohort.a $(FAKEOBJ)
	@mkdir -p $(@D)
	$(call SAY,ld,$@)$(CC) $(CFLAGS) -o $@ $(JOBOBJ) $(BUILD)/libcohort.a $(LDLIBS)

# the two files that name the revision are compiled again when it changes
$(BUILD)/git.stamp: .FORCE
	@mkdir -p $(BUILD); echo '$(GIT)' | cmp -s - $@ || echo '$(GIT)' >$@
.FORCE:
$(BUILD)/src/store/manifest.o $(BUILD)/jobs/cohort.o: $(BUILD)/git.stamp
$(BUILD)/src/store/manifest.o $(BUILD)/jobs/cohort.o: CPPFLAGS += -DCOH_GIT='"$(GIT)"'

# the page's style and script as strings of C
$(BUILD)/src/plot/%.inc: src/plot/%
	@mkdir -p $(@D)
	$(call SAY,sed,$<)sed 's/[\\"]/\\&/g; s/.*/"&\\n"/' $< >$@
$(BUILD)/src/plot/page.o: $(BUILD)/src/plot/page.css.inc $(BUILD)/src/plot/page.js.inc
$(BUILD)/src/plot/page.o: CPPFLAGS += -I$(BUILD)/src/plot

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call SAY,cc,$<)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(ISAS:%=$(BUILD)/src/device/kernels.%.o): $(BUILD)/src/device/kernels.%.o: src/device/kernels.c
	@mkdir -p $(@D)
	$(call SAY,cc,$< for $*)$(CC) $(CPPFLAGS) $(CFLAGS) -O3 -fno-trapping-math $(ISA_$*) -DCOH_ISA=$* -MMD -MP -c -o $@ $<

ifeq ($(FAKE_CUDA),1)
$(BUILD)/%.cu.o: %.cu
	@mkdir -p $(@D)
	$(call SAY,cc,$< for the fake)$(CXX) -x c++ $(CXXFLAGS) $(FAKEFLAGS) -D__CUDACC__ -include cuda_runtime.h \
	  -MMD -MP -c -o $@ $<
else
$(BUILD)/%.cu.o: %.cu
	@mkdir -p $(@D)
	$(call SAY,nvcc,$<)$(NVCC) $(NVCCFLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<
endif

$(BUILD)/tests/fake_cuda/%.o: tests/fake_cuda/%.cpp
	@mkdir -p $(@D)
	$(call SAY,c++,$<)$(CXX) $(CXXFLAGS) $(FAKEFLAGS) -MMD -MP -c -o $@ $<

# the fake alone, without the library
$(BUILD)/tests/fake_cuda/test_fake: tests/fake_cuda/test_fake.c $(BUILD)/tests/fake_cuda/selftest.cu.o $(FAKEOBJ)
	$(call SAY,cc,$<)gcc $(CPPFLAGS) $(CFLAGS) -MMD -MP -o $@ $(filter %.c %.o,$^) \
	  -rdynamic -lstdc++ -ldl -lrt -lpthread -lcmocka -lm

$(BUILD)/tests/%: tests/%.c $(BUILD)/libcohort.a $(FAKEOBJ)
	@mkdir -p $(@D)
	$(call SAY,cc,$<)$(CC) $(CPPFLAGS) -Itests $(CFLAGS) -MMD -MP -o $@ $< $(BUILD)/libcohort.a $(LDLIBS) -lcmocka

GPUTESTS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/gpu/test_*.c))
$(BUILD)/tests/gpu/%: tests/gpu/%.c $(BUILD)/libcohort.a $(FAKEOBJ)
	@mkdir -p $(@D)
	$(call SAY,cc,$<)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -o $@ $< $(BUILD)/libcohort.a $(LDLIBS)

test-gpu: ## test the GPU here; needs gcc and CUDA only (RANDOM123=headers, NVCC_ARCHS=90)
	$(MAKE) ALONE=1 BUILD=$(BUILD)/alone gpu-tests
	tests/gpu/run.sh $(BUILD)/alone

gpu-tests: $(GPUTESTS)

tests-build: $(TESTBIN) $(FAKETEST) $(COHORT)

$(BUILD)/bench/%: bench/%.c $(BUILD)/libcohort.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -o $@ $< $(BUILD)/libcohort.a $(LDLIBS)

bench: ## ours and the peers (PyTorch, SciPy, fastcluster) side by side; C=cores
	scripts/install-deps.sh bench
	$(MAKE) bench-build
	bench/run.sh $(BUILD) $(or $(C),$(shell nproc))

# bench/gpu.c is built by bench-gpu alone
bench-build: $(patsubst %.c,$(BUILD)/%,$(filter-out bench/gpu.c,$(wildcard bench/*.c)))

OUT ?= bench/results
bench-gpu: ## ours and PyTorch on the GPU here, in minutes; needs what test-gpu needs (OUT=folder)
	$(MAKE) ALONE=1 BUILD=$(BUILD)/alone $(BUILD)/alone/bench/gpu
	bench/gpu.sh $(if $(TOY),--toy) $(BUILD)/alone $(OUT)

deps: ## install missing Debian packages (run)
	scripts/install-deps.sh run

# root in a container may start mpirun; ranks that wait must not starve the others
export OMPI_MCA_mpi_yield_when_idle ?= 1
ifeq ($(shell id -u),0)
export OMPI_ALLOW_RUN_AS_ROOT = 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM = 1
endif
RANKS ?= 2
CORES := $(shell nproc)

quickstart: ## install, build, recover a teacher from Fashion-MNIST
	scripts/install-deps.sh run
	$(MAKE) -j$(CORES) all
	mpirun --oversubscribe -n $(RANKS) bin/cohort run configs/quickstart.ini

test: ## install, build and run every test (T="name ..." for some)
	scripts/install-deps.sh test
	$(MAKE) -j$(CORES) tests-build
	COHORT_DATA=$(CURDIR)/$(BUILD)/data scripts/fetch.sh mnist
	COHORT_DATA=$(CURDIR)/$(BUILD)/data tests/run.sh $(BUILD) $(T)

SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all
asan: ## unit tests under the address, leak and undefined-behaviour sanitizers
	scripts/install-deps.sh test
	$(MAKE) BUILD=build/asan SAN='$(SANITIZERS)' asan-run
	$(MAKE) ALONE=1 FAKE_CUDA=1 BUILD=build/asan/gpu SAN='$(SANITIZERS)' gpu-tests
	SANITIZE=0 tests/gpu/run.sh build/asan/gpu

asan-run: $(TESTBIN)
	COHORT_DATA=$(CURDIR)/build/data scripts/fetch.sh mnist
	COHORT_DATA=$(CURDIR)/build/data ASAN_OPTIONS=fast_unwind_on_malloc=0 \
	  LSAN_OPTIONS=suppressions=$(CURDIR)/tests/lsan.supp:print_suppressions=0 \
	  tests/run.sh $(BUILD) $(patsubst test_%,%,$(notdir $(basename $(TESTS) $(MPITESTS))))

check-long: ## the slow checks: 250 kills, sanitizers, limits of SLURM, table of recoveries
	$(MAKE) test asan
	bash tests/test_kills.sh $(BUILD) 50
	bash tests/test_sweep_kills.sh $(BUILD) 200
	bash tests/lost_ranks.sh $(BUILD)
	bash tests/test_array.sh $(BUILD) long
	$(MAKE) recovery

recovery: all ## recover some 160 teachers by both methods (an hour); table in bench/results
	COHORT_DATA=$(CURDIR)/$(BUILD)/data scripts/fetch.sh mnist
	COHORT_DATA=$(CURDIR)/$(BUILD)/data python3 bench/recovery.py --minutes 75 \
	  --out $(BUILD)/recovery --results bench/results

install: all ## into $(DESTDIR)$(PREFIX)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib \
	  $(DESTDIR)$(PREFIX)/include/cohort $(DESTDIR)$(PREFIX)/share/cohort/configs \
	  $(DESTDIR)$(PREFIX)/share/cohort/scripts $(DESTDIR)$(PREFIX)/share/cohort/slurm
	install -m 755 bin/cohort $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(BUILD)/libcohort.a $(DESTDIR)$(PREFIX)/lib
	install -m 644 include/cohort/*.h $(DESTDIR)$(PREFIX)/include/cohort
	install -m 644 configs/*.ini $(DESTDIR)$(PREFIX)/share/cohort/configs
	install -m 755 scripts/fetch.sh $(DESTDIR)$(PREFIX)/share/cohort/scripts
	install -m 644 slurm/*.sbatch $(DESTDIR)$(PREFIX)/share/cohort/slurm
	install -m 755 slurm/job.sh $(DESTDIR)$(PREFIX)/share/cohort/slurm

uninstall: ## remove what install put there
	rm -rf $(DESTDIR)$(PREFIX)/bin/cohort $(DESTDIR)$(PREFIX)/lib/libcohort.a \
	  $(DESTDIR)$(PREFIX)/include/cohort $(DESTDIR)$(PREFIX)/share/cohort

format: ## clang-format all C files
	clang-format -i include/cohort/*.h src/*/*.[ch] jobs/*.[ch] tests/*.[ch] tests/mpi/*.c \
	  src/device/*.cu* tests/gpu/*.[ch] tests/gpu/alone/*.[ch] \
	  $(wildcard tests/fake_cuda/*.[ch]* tests/fake_cuda/*.cu tests/fake_cuda/include/*.h)

clean: ## remove what was built
	rm -rf build bin

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
