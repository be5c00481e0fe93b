/* graph.cpp - capture of streams into graphs, and their launches. A graph keeps its work
 * with what each piece follows, so that a launch may take any order that the capture
 * allows (FAKE_CUDA_ORDER): a missing join of streams shows.
 */
#include "fake.hpp"

#include <algorithm>

struct Node {
  fake::Work work;
  std::vector<int> follows;
};
using Nodes = std::vector<Node>;

struct fake::Capture {
  enum cudaStreamCaptureMode mode;
  Queue *origin;
  std::vector<Queue *> members;
  Nodes nodes;
  bool invalid, ended;
};

struct CUgraph_st {
  std::shared_ptr<Nodes> nodes;
};
struct CUgraphExec_st {
  std::shared_ptr<Nodes> nodes;
};

namespace {

std::vector<std::shared_ptr<fake::Capture>> active;
std::set<cudaGraph_t> graphs;
std::set<cudaGraphExec_t> execs;

/* All members leave the capture. */
void end(const std::shared_ptr<fake::Capture> &capture) {
  std::vector<fake::Queue *> members = capture->members;
  capture->ended = true;
  active.erase(std::find(active.begin(), active.end(), capture));
  for (fake::Queue *q : members) {
    q->frontier.clear();
    q->capture = nullptr;
  }
}

/* Does the origin follow all that the other streams were given? */
bool joined(const fake::Capture &c) {
  std::vector<char> reached(c.nodes.size(), 0);
  std::vector<int> open = c.origin->frontier;
  while (!open.empty()) {
    int node = open.back();
    open.pop_back();
    if (reached[(size_t)node]) continue;
    reached[(size_t)node] = 1;
    const std::vector<int> &f = c.nodes[(size_t)node].follows;
    open.insert(open.end(), f.begin(), f.end());
  }
  for (const fake::Queue *q : c.members)
    for (int node : q->frontier)
      if (!reached[(size_t)node]) return false;
  return true;
}

/* One launch on its way. */
struct Pass {
  std::shared_ptr<Nodes> nodes;
  std::vector<char> started, done;
  size_t left;

  bool is_ready(const Node &n) const {
    for (int f : n.follows)
      if (!done[(size_t)f]) return false;
    return true;
  }

  bool run_node(size_t i) {
    fake::Work &w = (*nodes)[i].work;
    if (!started[i] && w.start) w.start();
    started[i] = 1;
    if (!w.run()) return false;
    done[i] = 1;
    left--;
    return true;
  }

  bool run_one() {
    std::vector<unsigned> ready;
    for (size_t i = 0; i < nodes->size(); i++)
      if (!done[i] && is_ready((*nodes)[i])) ready.push_back((unsigned)i);
    fake::order(&ready);
    for (unsigned i : ready)
      if (run_node(i)) return true;
    return false;
  }
};

fake::Work launch_work(const std::shared_ptr<Nodes> &nodes) {
  auto pass = std::make_shared<Pass>();
  pass->nodes = nodes;
  auto start = [pass] {
    pass->started.assign(pass->nodes->size(), 0);
    pass->done = pass->started;
    pass->left = pass->nodes->size();
  };
  auto run = [pass] {
    while (pass->left > 0)
      if (!pass->run_one()) return false;
    return true;
  };
  return fake::Work{start, run};
}

} // namespace

cudaError_t fake::capture_state(const Queue *q) {
  return q->capture && q->capture->invalid ? cudaErrorStreamCaptureInvalidated
                                           : cudaSuccess;
}

void fake::invalidate(Queue *q) {
  if (q->capture) q->capture->invalid = true;
}

cudaError_t fake::capture_push(Queue *q, Work work) {
  cudaError_t error = capture_state(q);
  if (error != cudaSuccess) return error;
  Nodes &nodes = q->capture->nodes;
  nodes.push_back(Node{std::move(work), q->frontier});
  q->frontier.assign(1, (int)nodes.size() - 1);
  return cudaSuccess;
}

cudaError_t fake::forbidden(cudaError_t error) {
  bool any = false;
  for (const auto &c : active) {
    if (c->mode == cudaStreamCaptureModeRelaxed &&
        error == cudaErrorStreamCaptureUnsupported)
      continue;
    c->invalid = any = true;
  }
  return any ? error : cudaSuccess;
}

cudaError_t fake::capture_join(Queue *q, const std::shared_ptr<Capture> &capture,
                               const std::vector<int> &frontier) {
  if (capture->ended) return cudaErrorCapturedEvent;
  if (capture->invalid) return cudaErrorStreamCaptureInvalidated;
  if (q->legacy) {
    capture->invalid = true;
    return cudaErrorStreamCaptureImplicit;
  }
  if (q->capture && q->capture != capture) {
    capture->invalid = q->capture->invalid = true;
    return cudaErrorStreamCaptureMerge;
  }
  if (!q->capture) {
    q->capture = capture;
    capture->members.push_back(q);
  }
  for (int node : frontier)
    if (std::find(q->frontier.begin(), q->frontier.end(), node) == q->frontier.end())
      q->frontier.push_back(node);
  return cudaSuccess;
}

size_t fake::live_graphs() {
  return graphs.size() + execs.size();
}

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
  FAKE_CALL;
  fake::QueueRef q = fake::find(stream);
  if (q == nullptr) return fake::out(cudaErrorInvalidResourceHandle);
  if (q->legacy) return fake::out(cudaErrorStreamCaptureUnsupported);
  if (q->capture) return fake::out(cudaErrorIllegalState);
  q->capture = std::make_shared<fake::Capture>();
  q->capture->mode = mode;
  q->capture->origin = q.get();
  q->capture->members.push_back(q.get());
  active.push_back(q->capture);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  fake::Call call;
  fake::QueueRef q = fake::find(stream);
  if (q == nullptr) return fake::out(cudaErrorInvalidResourceHandle);
  if (graph == nullptr) return fake::out(cudaErrorInvalidValue);
  *graph = nullptr;
  if (!q->capture) return fake::out(cudaErrorIllegalState);
  std::shared_ptr<fake::Capture> capture = q->capture;
  if (capture->origin != q.get()) {
    capture->invalid = true;
    return fake::out(cudaErrorStreamCaptureUnmatched);
  }
  const bool whole = joined(*capture);
  end(capture);
  if (call.fails) return fake::out(cudaErrorUnknown);
  if (capture->invalid) return fake::out(cudaErrorStreamCaptureInvalidated);
  if (!whole) return fake::out(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{std::make_shared<Nodes>(std::move(capture->nodes))};
  graphs.insert(*graph);
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream,
                                  enum cudaStreamCaptureStatus *status) {
  FAKE_CALL;
  fake::QueueRef q = fake::find(stream);
  if (q == nullptr) return fake::out(cudaErrorInvalidResourceHandle);
  *status = !q->capture           ? cudaStreamCaptureStatusNone
            : q->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                  : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                 unsigned long long flags) {
  FAKE_CALL;
  (void)flags;
  if (exec == nullptr || graphs.count(graph) == 0)
    return fake::out(cudaErrorInvalidValue);
  *exec = new CUgraphExec_st{graph->nodes};
  execs.insert(*exec);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  FAKE_CALL;
  if (execs.count(exec) == 0) return fake::out(cudaErrorInvalidValue);
  return fake::out(fake::push(fake::find(stream), launch_work(exec->nodes)));
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  fake::Call call;
  if (execs.erase(exec) == 0) return fake::out(cudaErrorInvalidValue);
  delete exec;
  return fake::out(call.fails ? cudaErrorUnknown : cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  fake::Call call;
  if (graphs.erase(graph) == 0) return fake::out(cudaErrorInvalidValue);
  delete graph;
  return fake::out(call.fails ? cudaErrorUnknown : cudaSuccess);
}
}
