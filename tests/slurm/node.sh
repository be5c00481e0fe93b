#!/bin/bash
# node.sh up|kill|cut|heal|freeze|thaw NAME - inside vcluster.sh: starts a node, ends all its
# processes as a loss of power does, takes it off the network with its processes going on,
# connects it again, stops the ranks on it for a while.
set -eu
top=/run/vcluster node=$2

# Open MPI names its shared memory by host name, so nodes must not have that in common.
up() {
  rm -rf "${top:?}/$node" # srun stumbles over what a step of the same number left there
  mkdir -p "$top/$node"/{spool,tmp}
  nsenter --net="/run/netns/$node" unshare --uts --mount --propagation private -- \
    sh -c "hostname $node && mount -t tmpfs tmpfs /dev/shm && exec slurmd"
}

ranks() {
  local pid
  for pid in $(ip netns pids "$node"); do
    [ "$(cat "/proc/$pid/comm")" != cohort ] || echo "$pid"
  done
}

case $1 in
up) up ;;
kill) ip netns pids "$node" | xargs -r kill -KILL ;;
cut) ip link set "$node" down ;;
heal) ip link set "$node" up ;;
freeze) ranks | xargs -r kill -STOP ;;
thaw) ranks | xargs -r kill -CONT ;;
esac
